/** A turn that runs on one instance is watched from a second one and stopped from a third: they all show the same. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import type { ChatResponse, Message, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import { anyClients, anyReply, kept } from "../support/any-reply.ts";
import { type Instances, startInstances } from "../support/instances.ts";
import { addDocument } from "../support/library.ts";
import { follow, followUntil } from "../support/live-views.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { propertyOptions } from "../support/properties.ts";
import { neverCut, ResumingClient } from "../support/resuming-client.ts";
import { type Service, testMsMax, until } from "../support/service.ts";
import { readSse, readTranscript, sseEvents, toTranscript } from "../support/sse.ts";
import { holdTurn, resume, startTurn, turnOf, untilEnded, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();
let model: ModelServer;
let instances: Instances;
let database: Bun.SQL;
let one: Service;
let two: Service;
let three: Service;
/** The channel of the second instance, and what is sent there. */
let channel: string;
const sent: { kind: string; turn_id: string; at: number; text: string }[] = [];

beforeAll(async () => {
  model = startModelServer();
  const url = await newDatabase();
  database = new Bun.SQL(url, { max: 2 });
  instances = await startInstances(3, url, { model });
  [one, two, three] = instances.all as [Service, Service, Service];
  const { turn_id } = await wholeTurn(two, model, ["Hi"]);
  const [{ instance_id }] = await database`select instance_id from turns where id = ${turn_id}`;
  channel = `parley_${instance_id}`;
  await database.listen(channel, (payload) => {
    if (payload.startsWith('{"')) sent.push(JSON.parse(payload));
  });
});
afterAll(async () => {
  await instances[Symbol.asyncDispose]();
  await database.close();
  await model.close();
});

/** All that the second instance was sent of a turn, which has ended. */
async function sentOf(turnId: string) {
  const ofTurn = () => sent.filter(({ turn_id }) => turn_id === turnId);
  await until("its end is heard", () => ofTurn().at(-1)?.kind === "ended");
  return ofTurn();
}

/** Cuts the connections by which instances hear of each other. */
const cutListeners = (): Promise<unknown> =>
  database`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'parley' and query ilike 'listen %'`;

describe("a turn that runs on one instance", () => {
  test("is watched from another as it grows, and stopped from a third", async () => {
    const { turn, held } = await holdTurn(one, model, "Once ");
    const view = await followUntil(two, turn.id, "Once ");
    held.send("upon ");
    await until("the next piece has come", () => view.text === "Once upon ");
    const stopped = await three.post<Turn>(`/v1/turns/${turn.id}/stop`, {});
    expect(stopped.body).toMatchObject({ status: "stopped", response: "Once upon ", length: 10 });
    await view.whole;
    expect(view.text).toBe("Once upon ");
    expect(view.done).toMatchObject({ status: "stopped", length: 10, turn_id: turn.id });
    // The model is asked no more.
    await (await held.request).closed;
    for (const service of instances.all) expect(await turnOf(service, turn.id)).toEqual(stopped.body);
    const again = await two.post<Turn>(`/v1/turns/${turn.id}/stop`, {});
    expect(again.body).toEqual(stopped.body);
  });

  test("is stopped at once, not only when its leases are renewed", async () => {
    // Each waits for a renewal otherwise: together longer than the test may take.
    for (let count = 0; count < 15; count++) {
      const { turn } = await holdTurn(one, model, "Once ");
      const stopped = await two.post<Turn>(`/v1/turns/${turn.id}/stop`, {});
      expect(stopped.body.status).toBe("stopped");
    }
  });

  test("is stopped too where the word of it gets lost", async () => {
    const { turn } = await holdTurn(one, model, "Once ");
    await cutListeners();
    const stopped = await two.post<Turn>(`/v1/turns/${turn.id}/stop`, {});
    expect(stopped.body.status).toBe("stopped");
  });

  test("is told of by every instance while it runs", async () => {
    const { turn, held } = await holdTurn(one, model, "Once ");
    await until("another instance knows the text", async () => (await turnOf(two, turn.id)).response !== "");
    expect(await turnOf(two, turn.id)).toEqual(await turnOf(one, turn.id));
    const { conversation_id } = turn;
    const { body } = await two.get<{ messages: Message[] }>(`/v1/conversations/${conversation_id}/messages`);
    expect(body.messages.at(-1)).toMatchObject({ status: "running", content: "Once " });
    expect((await three.get<Conversation>(`/v1/conversations/${conversation_id}`)).body.active_turn_id).toBe(
      turn.id,
    );
    const receipts = await Promise.all(instances.all.map(({ get }) => get(`/v1/turns/${turn.id}/receipt`)));
    expect(receipts.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(receipts[1]!.body).toEqual(receipts[0]!.body);
    held.finish();
    await untilEnded(three, turn.id);
  });

  test("shows in another's messages what its watchers have seen there", async () => {
    const { turn, held } = await holdTurn(one, model, "Once ");
    const view = await followUntil(two, turn.id, "Once ");
    for (const word of ["upon ", "a ", "time"]) {
      held.send(word);
      const text = view.text + word;
      await until("the word has come", () => view.text === text);
      const { body } = await two.get<{ messages: Message[] }>(
        `/v1/conversations/${turn.conversation_id}/messages`,
      );
      expect(body.messages.at(-1)!.content).toBe(text);
      expect((await turnOf(two, turn.id)).response).toBe(text);
    }
    held.finish();
    await view.whole;
  });

  test("answers a request that is retried elsewhere with its Idempotency-Key, waiting or streaming", async () => {
    const body = { user_id: "ada", message: "Hello" };
    const key = { "idempotency-key": crypto.randomUUID() };
    const held = model.hold();
    const first = one.post<ChatResponse>("/v1/chat", body, key);
    await held.request;
    held.send("only ");
    const asked = model.requests.length;
    const second = two.post<ChatResponse>("/v1/chat", body, key);
    const streamed = await three.fetch("/v1/chat/stream", {
      method: "POST",
      headers: { "content-type": "application/json", ...key },
      body: JSON.stringify(body),
    });
    const view = follow(streamed);
    await until("it is watched", () => view.text === "only ");
    held.send("once");
    held.finish();
    expect(await second).toMatchObject({ status: 200, body: { response: "only once" } });
    expect((await second).body).toEqual((await first).body);
    await view.whole;
    expect([view.text, view.done?.status]).toEqual(["only once", "completed"]);
    expect(model.requests.length).toBe(asked);
  });

  test("lets no other turn run in its conversation, on any instance", async () => {
    const { turn, held } = await holdTurn(one, model, "Once ");
    const { conversation_id } = turn;
    const next = await two.post<{ code: string; turn_id: string }>("/v1/chat", {
      user_id: "ada",
      message: "And?",
      conversation_id,
    });
    expect(next.status).toBe(409);
    expect(next.body).toMatchObject({ code: "turn_in_progress", turn_id: turn.id });
    held.finish();
    await untilEnded(one, turn.id);
  });

  test("is stopped when its conversation is deleted elsewhere, and its watchers anywhere are told", async () => {
    const { turn, held } = await holdTurn(one, model, "Once ");
    const views = await Promise.all(instances.all.map((service) => followUntil(service, turn.id, "Once ")));
    const deleted = await three.send("DELETE", `/v1/conversations/${turn.conversation_id}`);
    expect(deleted.status).toBe(200);
    for (const view of views) {
      await view.whole;
      expect([view.text, view.done?.status]).toEqual(["Once ", "stopped"]);
    }
    await (await held.request).closed;
    for (const service of instances.all) expect((await service.get(`/v1/turns/${turn.id}`)).status).toBe(404);
  });

  test("is stopped when its user is erased elsewhere, and nothing of it is left", async () => {
    const user_id = crypto.randomUUID();
    const { turn, held } = await holdTurn(one, model, "Once ", { user_id });
    const { turn: own } = await holdTurn(three, model, "Upon ", { user_id });
    const views = await Promise.all(
      instances.all.flatMap((service) => [
        followUntil(service, turn.id, "Once "),
        followUntil(service, own.id, "Upon "),
      ]),
    );
    const { status, body } = await three.send<{ erased: Record<string, number> }>(
      "DELETE",
      `/v1/users/${user_id}`,
    );
    expect([status, body.erased.turns]).toEqual([200, 2]);
    for (const view of views) {
      await view.whole;
      expect(view.done?.status).toBe("stopped");
    }
    await (await held.request).closed;
    for (const service of instances.all) expect((await service.get(`/v1/turns/${turn.id}`)).status).toBe(404);
    const left = await database`select from turns where id in (${turn.id}, ${own.id})`;
    expect(left.length).toBe(0);
  });
});

/** Pieces of many kinds: among them one that is longer than a notification, in characters of one to four bytes. */
const pieces = [
  "plain, ",
  'quotes " \\ and \n\r\t, ',
  "e\u0301 ǹ̃ ",
  "👩‍🚀👨‍👩‍👧‍👦 ",
  "\u0001\u0002\u2028\u2029",
  "漢字かな",
  ...Array.from({ length: 30 }, (_, index) => `${index}😀`),
  "😀".repeat(9_000),
  "x".repeat(100_000),
  "\u0003".repeat(20_000),
  "漢".repeat(30_000),
  "the end",
];

describe("its text elsewhere", () => {
  test("is the same to the character, whatever comes and from wherever it is watched", async () => {
    const text = pieces.join("");
    const { turn, held } = await holdTurn(one, model, pieces[0]);
    const offsets = [0, 3, 10, 5_000, text.length - 2, text.length];
    const views = await Promise.all(
      offsets.flatMap((offset) => instances.all.map((service) => resume(service, turn.id, offset))),
    );
    const read = views.map(readTranscript);
    for (const piece of pieces.slice(1)) held.send(piece);
    held.finish();
    for (const [index, transcript] of (await Promise.all(read)).entries()) {
      const offset = offsets[Math.floor(index / 3)]!;
      expect(transcript.text === text.slice(offset)).toBe(true);
      expect(transcript.done).toMatchObject({ status: "completed", length: text.length });
    }
    for (const service of instances.all)
      expect((await turnOf(service, turn.id)).response === text).toBe(true);
    // All of it came live, in pieces that nothing is cut in.
    let heard = "";
    for (const message of await sentOf(turn.id)) {
      if (message.kind !== "text") continue;
      expect(message.text.isWellFormed()).toBe(true);
      heard = heard.slice(0, message.at) + message.text;
    }
    expect(heard === text).toBe(true);
  });

  test("goes to fifty watchers of an instance as one", async () => {
    const { turn, held } = await holdTurn(one, model, "all ");
    const views = await Promise.all(Array.from({ length: 50 }, () => followUntil(two, turn.id, "all ")));
    const words = Array.from({ length: 20 }, (_, index) => `word${index} `);
    for (const word of words) held.send(word);
    held.finish();
    await Promise.all(views.map(({ whole }) => whole));
    for (const view of views) {
      expect(view.text).toBe(`all ${words.join("")}`);
      expect(view.done?.status).toBe("completed");
    }
    const heard = await sentOf(turn.id);
    // A piece for a word at most, the end, and answers to who asks every few seconds whether there is more.
    expect(heard.length).toBeLessThan(40);
  });

  test("is read on by a client that moves to another instance at every event", async () => {
    const { turn, held } = await holdTurn(one, model, "0 ");
    let text = "";
    let last = `${turn.id}:0`;
    for (let word = 1; ; word++) {
      const service = instances.all[word % 3]!;
      const response = await service.fetch(`/v1/turns/${turn.id}/stream`, {
        headers: { "last-event-id": last },
      });
      let done = false;
      for await (const { id, event, data } of sseEvents(response)) {
        if (event !== undefined) continue;
        const { token = "" } = JSON.parse(data) as { token?: string };
        text += token;
        last = id!;
        done = id!.endsWith(":end");
        break;
      }
      if (done) break;
      expect(last).toBe(`${turn.id}:${text.length}`);
      if (word < 40) held.send(`${word}😀 `);
      else if (word === 40) held.finish();
    }
    expect(text).toBe(["0 ", ...Array.from({ length: 39 }, (_, index) => `${index + 1}😀 `)].join(""));
  });

  test("that skips something is asked for again, and nothing false is shown", async () => {
    const { turn, held } = await holdTurn(one, model, "true");
    const view = await followUntil(two, turn.id, "true");
    const bogus = { kind: "text", turn_id: turn.id, at: 1_000, text: "false", model: "m", from: "inst_x" };
    const twice = { kind: "text", turn_id: turn.id, at: 2, text: "ue", model: "test-model", from: "inst_x" };
    for (const payload of [bogus, twice, bogus, "{", { kind: "other", turn_id: turn.id }]) {
      await database`select pg_notify(${channel}, ${typeof payload === "string" ? payload : JSON.stringify(payload)})`;
    }
    held.send(" and whole");
    held.finish();
    await view.whole;
    expect([view.text, view.done?.status]).toEqual(["true and whole", "completed"]);
  });

  test("goes on when the connections that bring it are cut, again and again", async () => {
    const { turn, held } = await holdTurn(one, model, "0 ");
    const views = await Promise.all([two, three].map((service) => followUntil(service, turn.id, "0 ")));
    let text = "0 ";
    for (let round = 0; round < 4; round++) {
      await cutListeners();
      // While nobody hears anything, and after.
      for (let word = 0; word < 10; word++) {
        held.send(`${round}.${word}😀 `);
        text += `${round}.${word}😀 `;
        await Bun.sleep(5);
      }
      await until("all of it has come", () => views.every((view) => view.text === text));
    }
    held.finish();
    for (const view of views) {
      await view.whole;
      expect([view.text, view.done?.status]).toEqual([text, "completed"]);
    }
  });

  test("is asked for no more when nobody watches it there", async () => {
    const { turn, held } = await holdTurn(one, model, "Once ");
    const view = await resume(two, turn.id, 0);
    const events = sseEvents(view);
    await events.next();
    await events.next();
    await events.return();
    await until("it isn't asked for any more", async () => {
      const before = sent.length;
      held.send("more ");
      await Bun.sleep(200);
      return sent.length === before;
    });
    held.finish();
    await untilEnded(two, turn.id);
  });

  test("comes behind what it draws on, as where the turn runs", async () => {
    const text = `# Handbook\n\n${"The Falcon drone has a warranty of thirty-seven months. ".repeat(60)}`;
    const document = await addDocument(three, { name: "handbook.md", text });
    const message = "How long is the warranty of the Falcon drone?";
    const held = model.to(message).hold();
    const turn = await startTurn(one, { message });
    await held.request;
    const early = [await resume(one, turn.id, 0), await resume(two, turn.id, 0)].map(readSse);
    held.send("Thirty-seven ");
    await until("the text has come", async () => (await turnOf(two, turn.id)).response !== "");
    const late = [await resume(one, turn.id, 6), await resume(two, turn.id, 6)].map(readSse);
    const running = await turnOf(two, turn.id);
    expect([running.status, running.sources]).toEqual(["running", ["handbook.md"]]);
    expect(running.citations).toEqual((await turnOf(one, turn.id)).citations);
    held.send("months.");
    held.finish();
    const views = await Promise.all([...early, ...late]);
    expect(views[1]).toEqual(views[0]!);
    for (const events of views) {
      expect(events[1]).toMatchObject({ event: "sources", data: views[0]![1]!.data });
      expect(toTranscript(events).done.sources).toEqual(["handbook.md"]);
    }
    await three.send("DELETE", `/v1/documents/${document.id}`);
  });

  test("adds up to what is stored, whatever is in it, wherever clients come from and are cut off to", async () => {
    await fc.assert(
      fc.asyncProperty(
        anyReply,
        anyClients,
        fc.array(fc.nat(2), { minLength: 8, maxLength: 8 }),
        async (reply, clients, route) => {
          const text = kept(reply.map((piece) => piece.text).join(""));
          const { turn, held } = await holdTurn(instances.all[route[0]!]!, model, "");
          const path = `/v1/turns/${turn.id}/stream`;
          const follow = async ({ visits }: (typeof clients)[number]): Promise<ResumingClient> => {
            const client = new ResumingClient();
            for (const [index, { forgets, ...cut }] of visits.entries()) {
              if (client.ends > 0) break;
              await client.read(instances.all[route[index + 1]!]!.port, path, cut);
              client.forget(forgets);
            }
            if (client.ends === 0) await client.read(instances.all[route[7]!]!.port, path, neverCut);
            return client;
          };
          const following: Promise<ResumingClient>[] = [];
          for (const [index, piece] of reply.entries()) {
            following.push(...clients.filter(({ comesAt }) => comesAt === index).map(follow));
            held.send(piece.text);
            if (piece.waitMs > 0) await Bun.sleep(piece.waitMs);
          }
          held.finish();
          await untilEnded(two, turn.id);
          following.push(...clients.filter(({ comesAt }) => comesAt >= reply.length).map(follow));
          for (const client of await Promise.all(following)) {
            expect([client.text, client.ends]).toEqual([text, 1]);
          }
          for (const service of instances.all) expect((await turnOf(service, turn.id)).response).toBe(text);
        },
      ),
      propertyOptions(30),
    );
  });
});
