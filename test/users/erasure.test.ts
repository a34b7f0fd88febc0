/**
 * Erasing a user: nothing of theirs is left, in no file, whatever happens meanwhile, and everybody else goes on.
 *
 * The write-ahead log can't be emptied while somebody reads from the database, so a transaction that this process
 * holds open there keeps an erasure from its end for as long as a test wants.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import type { ChatResponse, Message, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import type { Erased } from "../../src/storage/memory-store.ts";
import type { ExportedUser, Memory } from "../../src/users/schema.ts";
import { endlessDocument } from "../support/documents.ts";
import { addDocument, upload } from "../support/library.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Answer, type Service, startService, testModel, testMsMax, until } from "../support/service.ts";
import { readTranscript, sseEvents } from "../support/sse.ts";
import { tracesIn } from "../support/traces.ts";
import { holdTurn, resume, seededRandom, untilEnded, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

/** How often a process is killed while it erases. */
const kills = Number(process.env.PARLEY_TEST_ERASURES ?? 3);

interface DeletedUser {
  erased: Erased;
}

let model: ModelServer;
let service: Service;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const nothing: Erased = {
  conversations: 0,
  messages: 0,
  turns: 0,
  memories: 0,
  documents: 0,
  idempotency_keys: 0,
};

const pathOf = (user_id: string): string => `/v1/users/${encodeURIComponent(user_id)}`;

const erase = (user_id: string, of = service): Promise<Answer<DeletedUser>> =>
  of.send<DeletedUser>("DELETE", pathOf(user_id));

async function erased(user_id: string, of = service): Promise<Erased> {
  const { status, body } = await erase(user_id, of);
  expect(status).toBe(200);
  return body.erased;
}

const conversationsOf = async (user_id: string, of = service): Promise<Conversation[]> => {
  const query = new URLSearchParams({ user_id, limit: "100" });
  const { body } = await of.get<{ conversations: Conversation[] }>(`/v1/conversations?${query}`);
  return body.conversations;
};

const exportOf = async (user_id: string, of = service): Promise<ExportedUser> =>
  (await of.get<ExportedUser>(`${pathOf(user_id)}/export`)).body;

/** Keeps erasures from their end until the returned function is called. */
function holdErasures({ dataDir }: Service): () => void {
  const db = new Database(join(dataDir, "parley.db"), { readonly: true });
  db.run("begin");
  db.query("select count(*) from conversations").get();
  return () => db.close();
}

/** Starts an erasure that can't end, and waits until all rows of the user are gone. */
async function eraseHeld(user_id: string, of = service) {
  const release = holdErasures(of);
  let answered = false;
  const answer = erase(user_id, of).finally(() => {
    answered = true;
  });
  await until("the user's rows are gone", async () => {
    return (await conversationsOf(user_id, of)).length === 0;
  });
  return { answer, release, isAnswered: () => answered };
}

/** Somebody with text of theirs wherever a client can put it; gives the markers that are in it. */
async function livedIn(name: string, of = service) {
  const marker = (place: string): string => `zq${name}${place}`;
  const user_id = marker("user");
  const path = pathOf(user_id);
  await of.send("PATCH", `${path}/profile`, {
    display_name: marker("name"),
    instructions: `Be ${marker("instructions")}`,
    metadata: { [marker("profilekey")]: marker("profilevalue") },
  });
  await of.post(
    "/v1/conversations",
    { user_id, title: `On ${marker("title")}`, metadata: { [marker("key")]: marker("value") } },
    { "idempotency-key": marker("conversationkey") },
  );
  const ask = async (message: string, reply: string, body: Record<string, unknown> = {}) => {
    model.reply([reply]);
    const headers = { "idempotency-key": `${marker("turnkey")}-${crypto.randomUUID()}` };
    const answer = await of.post<ChatResponse>("/v1/chat", { user_id, message, ...body }, headers);
    expect(answer.status).toBe(200);
    return answer.body;
  };
  const { conversation_id, turn_id } = await ask(
    `I live in Z${marker("home").slice(1)}. Tell me of ${marker("message")} and Zürcher${marker("message")}`,
    `It is ${marker("reply")}, 東京${marker("reply")}`,
    { metadata: { [marker("chatkey")]: marker("chatvalue") } },
  );
  await ask(`More ${marker("second")}`.repeat(400), `${marker("long")} `.repeat(3_000), { conversation_id });
  await ask("Go on", "That was all.", { conversation_id });
  await until("a memory is drawn and the beginning is summarised", async () => {
    const { memories, conversations } = await exportOf(user_id, of);
    const summary = conversations.find(({ id }) => id === conversation_id)?.summary.text ?? "";
    return memories.length === 1 && summary.includes(marker("message"));
  });
  const { conversation_id: deleted } = await ask(`A ${marker("deleted")}`, `The ${marker("deletedreply")}`);
  await of.send("DELETE", `/v1/conversations/${deleted}`);
  await of.send("PATCH", `/v1/conversations/${conversation_id}`, { title: `First ${marker("oldtitle")}` });
  await of.send("PATCH", `/v1/conversations/${conversation_id}`, { title: marker("newtitle") });
  for (const text of [marker("superseded"), marker("memory")]) {
    await of.post(`${path}/memories`, { text, slot: marker("slot") });
  }
  const patched = await of.post<Memory>(`${path}/memories`, { text: marker("oldmemory") });
  await of.send("PATCH", `${path}/memories/${patched.body.id}`, { text: marker("newmemory") });
  const document = async (name: string, word: string) => {
    const text = `# On ${marker("heading")}\n\n${`A ${marker(word)} is here. `.repeat(50)}`;
    const about = { collection: marker("collection"), metadata: { [marker("dockey")]: marker("docvalue") } };
    return await addDocument(of, { name: `${marker(name)}.md`, text, user_id, ...about });
  };
  await document("docname", "olddoctext");
  await document("docname", "doctext");
  const { id } = await document("deletedname", "deletedtext");
  await of.send("DELETE", `/v1/documents/${id}`);
  const places =
    "user name instructions profilekey profilevalue title key value conversationkey turnkey message reply chatkey chatvalue home second long newtitle superseded memory slot newmemory heading collection dockey docvalue docname doctext";
  const replaced = "deleted deletedreply oldtitle oldmemory olddoctext deletedname deletedtext";
  return {
    user_id,
    /** Of what is there. */
    present: places.split(" ").map(marker),
    /** Of what was deleted or replaced too. */
    markers: `${places} ${replaced}`.split(" ").map(marker),
    conversation_id,
    turn_id,
  };
}

describe("after it no file holds any text of the user", () => {
  test("wherever it was, and everybody else's is as it was", async () => {
    await using own = await startService({ model });
    const gone = await livedIn("gone", own);
    const stays = await livedIn("stays", own);
    const before = await exportOf(stays.user_id, own);
    // Each marker of somebody who wasn't erased is there to be found.
    const found = new Set(tracesIn(own.dataDir, gone.present).map((trace) => trace.split(": ")[1]!));
    expect(gone.present.filter((marker) => !found.has(marker))).toEqual([]);

    expect(await erased(gone.user_id, own)).toEqual({
      conversations: 2,
      messages: 6,
      turns: 3,
      memories: 4,
      documents: 1,
      idempotency_keys: 5,
    });
    expect(tracesIn(own.dataDir, gone.markers)).toEqual([]);
    // The log tells of users by their ids, and of nothing else of theirs.
    const logs = own.logs.join("\n");
    expect(gone.markers.filter((marker) => marker !== gone.user_id && logs.includes(marker))).toEqual([]);
    const { conversations, memories, documents, profile } = await exportOf(gone.user_id, own);
    expect([conversations, memories, documents, profile.created_at]).toEqual([[], [], [], null]);
    for (const path of [
      `/v1/conversations/${gone.conversation_id}`,
      `/v1/turns/${gone.turn_id}`,
      `/v1/turns/${gone.turn_id}/receipt`,
    ]) {
      expect([path, (await own.get(path)).status]).toEqual([path, 404]);
    }

    expect({ ...(await exportOf(stays.user_id, own)), exported_at: 0 }).toEqual({
      ...before,
      exported_at: 0,
    });
    const { body } = await own.get<{ conversations: Conversation[] }>("/v1/conversations?q=zqstaysmessage");
    expect(body.conversations.map(({ id }) => id)).toEqual([stays.conversation_id]);
    // Others go on, and nothing of it comes back, also where the files are closed in order.
    for (let round = 0; round < 5; round++) await livedIn(`later${round}`, own);
    expect(tracesIn(own.dataDir, gone.markers)).toEqual([]);
    await own.stop();
    expect(tracesIn(own.dataDir, gone.markers)).toEqual([]);
  });

  test("a document that is still being read included, and its upload", async () => {
    await using own = await startService({ env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
    const { name, bytes } = endlessDocument();
    const fields = { name: `zqendless ${name}`, user_id: "zqwaiting" };
    const text = `<p>zqunread</p>${Buffer.from(bytes).toString()}`;
    const added = await upload(own, name, text, fields);
    expect([added.status, added.body.status]).toEqual([202, "processing"]);
    const markers = ["zqendless", "zqwaiting", "zqunread"];
    expect(tracesIn(own.dataDir, ["zqunread"])).toEqual([expect.stringMatching(/^uploads\//)]);
    expect((await erased("zqwaiting", own)).documents).toBe(1);
    expect(tracesIn(own.dataDir, markers)).toEqual([]);
    expect((await own.get(`/v1/documents/${added.body.id}`)).status).toBe(404);
  });

  test("a snapshot of an earlier version included, which is removed", async () => {
    await using own = await startService();
    await own.stop();
    const fixture = new URL("../fixtures/databases/v1.db", import.meta.url).pathname;
    copyFileSync(fixture, join(own.dataDir, "parley.db"));
    await own.restart();
    const snapshot = join(own.dataDir, "parley-v1.snapshot.db");
    const markers = ["Hello, Bob.", "What will happen?", "Bob's own title"];
    expect(tracesIn(own.dataDir, markers).filter((trace) => trace.includes("snapshot")).length).toBe(3);
    expect((await erased("bob", own)).conversations).toBe(2);
    expect(existsSync(snapshot)).toBe(false);
    expect(tracesIn(own.dataDir, markers)).toEqual([]);
    expect((await conversationsOf("ada", own)).length).toBe(1);
  });
});

describe("the answer", () => {
  test("counts, and comes again with zeros; a user nobody has heard of is as good as erased", async () => {
    const { body } = await service.post<ChatResponse>("/chat", { user_id: "a/b ü", message: "Hello" });
    expect(body).toBeDefined();
    const first = await service.send(`DELETE`, `/users/${encodeURIComponent("a/b ü")}`);
    const told = { status: "deleted", user_id: "a/b ü", object: "user.deleted", deleted: true };
    expect([first.status, first.body]).toEqual([
      200,
      { ...told, erased: { ...nothing, conversations: 1, messages: 2, turns: 1 } },
    ]);
    expect((await erase("a/b ü")).body).toEqual({ ...told, erased: nothing } as DeletedUser);
    expect(await erased("nobody")).toEqual(nothing);
    const profile = await service.get<ExportedUser["profile"]>(`${pathOf("nobody")}/profile`);
    expect(profile.body.created_at).toBeNull();
  });

  test("of several requests at once counts everything once", async () => {
    const { user_id } = await livedIn("atonce");
    const counts = await Promise.all(Array.from({ length: 4 }, () => erased(user_id)));
    const sum = (what: keyof Erased): number => counts.reduce((total, count) => total + count[what], 0);
    expect([sum("conversations"), sum("messages"), sum("turns"), sum("memories")]).toEqual([2, 6, 3, 4]);
    expect(tracesIn(service.dataDir, ["zqatonce"])).toEqual([]);
  });

  test("waits for whoever reads from the files, and serves others meanwhile", async () => {
    const { user_id, markers } = await livedIn("held");
    const streaming = await holdTurn(service, model, "one ", { user_id: "streamer" });
    const stream = sseEvents(await resume(service, streaming.turn.id, 0));
    await stream.next();
    const { answer, release, isAnswered } = await eraseHeld(user_id);
    // Others chat, and what streamed before streams on.
    for (let round = 0; round < 3; round++) {
      await wholeTurn(service, model, ["fine"], { user_id: "chatter", message: `Round ${round}` });
    }
    const texts: string[] = [];
    for (const text of ["two ", "three"]) {
      streaming.held.send(text);
      while (!texts.join("").endsWith(text)) texts.push(JSON.parse((await stream.next()).value!.data).token);
    }
    expect(texts.join("")).toBe("one two three");
    streaming.held.finish();
    await untilEnded(service, streaming.turn.id);
    expect(isAnswered()).toBe(false);
    release();
    expect((await answer).status).toBe(200);
    expect(tracesIn(service.dataDir, markers)).toEqual([]);
  });
});

describe("turns", () => {
  test("that run are stopped, and told so; their model is let go", async () => {
    const user_id = "runner";
    const { turn, held } = await holdTurn(service, model, "until here", { user_id });
    const request = await held.request;
    const watcher = readTranscript(await resume(service, turn.id, 0));
    const waiting = service.post<Problem>(`/v1/chat`, {
      user_id,
      message: "Me too",
      conversation_id: turn.conversation_id,
    });
    expect((await waiting).status).toBe(409);
    expect(await erased(user_id)).toMatchObject({ conversations: 1, messages: 2, turns: 1 });
    expect(await watcher).toMatchObject({ text: "until here", done: { status: "stopped" } });
    await request.closed;
    expect((await service.get(`/v1/turns/${turn.id}`)).status).toBe(404);
    expect(tracesIn(service.dataDir, ["until here"])).toEqual([]);
  });

  test("that start while a user is erased are a new user's, and draw on nothing of before", async () => {
    const { user_id, conversation_id, markers } = await livedIn("meanwhile");
    const { answer, release } = await eraseHeld(user_id);
    const old = await service.post<Problem>("/v1/chat", { user_id, message: "Hello", conversation_id });
    expect([old.status, old.body.code]).toEqual([404, "not_found"]);
    const message = "What is zqmeanwhilememory?";
    const fresh = await wholeTurn(service, model, ["No idea."], { user_id, message });
    const { messages } = model.requests.at(-1)!.body;
    expect(messages).toEqual([
      { role: "system", content: "You are a helpful assistant." },
      { role: "user", content: message },
    ]);
    release();
    expect((await answer).status).toBe(200);
    const said = await service.get<{ messages: Message[] }>(
      `/v1/conversations/${fresh.conversation_id}/messages`,
    );
    expect(said.body.messages.map(({ content }) => content)).toEqual([message, "No idea."]);
    const left = tracesIn(service.dataDir, markers).map((trace) => trace.split(": ")[1]!);
    // What the new user is called, and what they said.
    expect(new Set(left)).toEqual(new Set(["zqmeanwhileuser", "zqmeanwhilememory"]));
    await erase(user_id);
    expect(tracesIn(service.dataDir, markers)).toEqual([]);
  });

  test("whose memories are still being drawn give none, and the model isn't asked about them again", async () => {
    await using own = await startService({ model, env: { PARLEY_MEMORY_MODEL: testModel } });
    const drawing = model.memory.hold();
    await wholeTurn(own, model, ["Noted."], { user_id: "drawn", message: "My name is Zqdrawn." });
    await drawing.request;
    const asked = model.memory.requests.length;
    expect((await erased("drawn", own)).turns).toBe(1);
    drawing.send("This is no JSON.");
    drawing.finish();
    await until("the drawing has failed", () => own.logs.some((line) => line.includes("no memories drawn")));
    // It would be tried again after a second.
    await Bun.sleep(1_500);
    expect(model.memory.requests.length).toBe(asked);
    expect((await exportOf("drawn", own)).memories).toEqual([]);
    expect(tracesIn(own.dataDir, ["zqdrawn"])).toEqual([]);
  });

  test("that race with it are wholly there afterwards, or wholly gone", async () => {
    const random = seededRandom();
    await using offline = await startService();
    const user_id = "racer";
    const first = await offline.post<ChatResponse>("/v1/chat", { user_id, message: "The first" });
    const { conversation_id } = first.body;
    let there = 0;
    for (let round = 0; round < 4; round++) {
      const started = Array.from({ length: 10 }, async (_, index) => {
        await Bun.sleep(random() * 60);
        const body = {
          user_id,
          message: `Racer ${round} ${index}`,
          ...(index % 3 === 0 && { conversation_id }),
        };
        return await offline.post<Turn>("/v1/turns", body);
      });
      await Bun.sleep(random() * 30);
      await erased(user_id, offline);
      for (const { status, body } of await Promise.all(started)) {
        if (status !== 202) {
          expect([404, 409]).toContain(status);
          continue;
        }
        await until("the turn has ended", async () => {
          const { body: turn } = await offline.get<Turn>(`/v1/turns/${body.id}`);
          return turn.status !== "running";
        });
        const turn = await offline.get<Turn>(`/v1/turns/${body.id}`);
        const path = `/v1/conversations/${body.conversation_id}`;
        const conversation = await offline.get<Conversation & { messages: Message[] }>(path);
        expect(turn.status).toBe(conversation.status);
        if (turn.status === 404) continue;
        there++;
        expect(turn.body.status).toBe("completed");
        expect(conversation.body.messages.map(({ status }) => status)).toEqual(["completed", "completed"]);
      }
      const known = await exportOf(user_id, offline);
      const listed = await conversationsOf(user_id, offline);
      expect(known.conversations.length).toBe(listed.length);
    }
    console.log(`${there} turns of 40 were a new user's`);
    await erase(user_id, offline);
    expect(tracesIn(offline.dataDir, ["racer"])).toEqual([]);
  });
});

describe("kill -9", () => {
  test("before its end is made up for by asking again", async () => {
    await using own = await startService({ model });
    const { user_id, markers } = await livedIn("killed", own);
    const { answer, release } = await eraseHeld(user_id, own);
    const unanswered = answer.then(
      () => false,
      () => true,
    );
    await own.kill();
    expect(await unanswered).toBe(true);
    release();
    expect(tracesIn(own.dataDir, markers).length).toBeGreaterThan(0);
    await own.restart();
    expect((await erase(user_id, own)).status).toBe(200);
    expect(tracesIn(own.dataDir, markers)).toEqual([]);
  });

  test("before its end is made up for at the next start, without anybody's asking", async () => {
    await using own = await startService({ model });
    const { user_id, markers } = await livedIn("resumed", own);
    const { answer, release } = await eraseHeld(user_id, own);
    const unanswered = answer.then(
      () => false,
      () => true,
    );
    await own.kill();
    expect(await unanswered).toBe(true);
    release();
    await own.restart();
    await until("all is erased", () => tracesIn(own.dataDir, markers).length === 0);
  });

  test(`at any moment leaves what can be erased to the end, ${kills} times`, async () => {
    const random = seededRandom();
    await using own = await startService();
    let inTheMiddle = 0;
    for (let kill = 0; kill < kills; kill++) {
      const user_id = `zqvictim${kill}`;
      const bodies = Array.from({ length: 16 }, (_, index) => ({
        user_id,
        message: `zqword${kill} ${index} `.repeat(60),
        use_memory: false,
      }));
      await Promise.all(bodies.map((body) => own.post("/v1/chat", body)));
      const answer = erase(user_id, own).then(
        () => true,
        () => false,
      );
      await Bun.sleep(random() * 400);
      await own.kill();
      if (!(await answer)) inTheMiddle++;
      await own.restart();
      if (random() < 0.5) expect((await conversationsOf(user_id, own)).length).toBeWithin(0, 17);
      expect((await erase(user_id, own)).status).toBe(200);
      expect(tracesIn(own.dataDir, [user_id, `zqword${kill}`])).toEqual([]);
      expect((await exportOf(user_id, own)).conversations).toEqual([]);
    }
    console.log(`${inTheMiddle} of ${kills} kills came before the answer`);
  });
});
