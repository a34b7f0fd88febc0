/** Live text between two instances, on a relay that loses what a test wants it to lose. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Elsewhere } from "../../src/chat/elsewhere.ts";
import { Reply } from "../../src/chat/reply.ts";
import { tail } from "../../src/http/sse.ts";
import { newId } from "../../src/ids.ts";
import { createLog } from "../../src/log.ts";
import { openPostgresRelay } from "../../src/storage/postgres/relay.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import type { Relay, RelayMessage } from "../../src/storage/relay.ts";
import { type Drawn, promptSections, type Receipt, type Store } from "../../src/storage/store.ts";
import { scope, turnEnd, turnStart } from "../contracts/records.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax, until } from "../support/service.ts";
import { seededRandom } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const unlimited = Number.MAX_SAFE_INTEGER;
const log = createLog("error");
let url: string;
let store: Store;
const open: { close(): unknown }[] = [];

beforeAll(async () => {
  url = await newDatabase();
  store = await openPostgresStore(url);
});
afterAll(async () => {
  for (const each of open.toReversed()) await each.close();
  await store.close();
});
// Its server is stopped after that.
const newDatabase = databasesOfFile();

/** Says which messages get through. */
type Passes = (message: RelayMessage) => boolean;

/** A relay that loses messages on their way out. */
async function openRelay(instanceId: string, passes: Passes): Promise<Relay> {
  const relay = await openPostgresRelay(url, instanceId, { onFault: console.error });
  open.push(relay);
  return {
    ...relay,
    async send(messages) {
      const left = messages.filter(({ message }) => passes(message));
      if (left.length > 0) await relay.send(left);
    },
    async sendToOwners(messages) {
      const left = messages.filter(passes);
      await relay.sendToOwners(left);
      return messages.map(({ turn_id }) => turn_id);
    },
  };
}

const noReceipt: Receipt = {
  tokens: Object.fromEntries(promptSections.map((section) => [section, 0])) as Receipt["tokens"],
  chosen: [],
  dropped: [],
};
const nothingDrawn: Drawn = { sources: [], citations: [], memories_used: [], receipt: noReceipt };

let pairs = 0;

/** A turn that runs on one instance, and another one that may watch it. */
async function openPair(passes: Passes = () => true) {
  const owner = `inst_owner_${++pairs}`;
  const { turn } = await store.startTurn(scope, turnStart({ instance_id: owner }));
  const reply = new Reply();
  const own = { turn: { ...turn }, reply, abort() {} };
  const stored: string[] = [];
  const here = new Elsewhere(
    await openRelay(owner, passes),
    {
      find: async (id) => (id === turn.id && !reply.ended ? own : null),
      async store(id) {
        stored.push(id);
        const drawn = { ...reply.cited!, receipt: reply.receipt! };
        await store.checkpointReplies([{ turn_id: id, text: reply.text, model: turn.model, drawn }]);
      },
    },
    log,
  );
  const there = new Elsewhere(
    await openRelay(`inst_watching_${pairs}`, passes),
    { find: async () => null, store: async () => {} },
    log,
  );
  open.push(here, there);
  return {
    turn,
    reply,
    there,
    stored,
    own,
    /** What another instance shows from an offset on. */
    async watch(offset = 0) {
      return readFrames(tail(there.turns.of((await store.turn(scope, turn.id))!), offset, never, () => {}));
    },
    watchHere: (offset = 0) => readFrames(tail(own, offset, never, () => {})),
    async end(drawn: Drawn = nothingDrawn) {
      reply.finish(unlimited);
      const end = turnEnd({ ...drawn, response: reply.text });
      await store.endTurn(turn.id, owner, end, turn.created_at * 1000);
      reply.end((await store.turn(scope, turn.id))!);
    },
  };
}

const never = new AbortController().signal;

/** The frames of a view as they come, without the heartbeats. */
function readFrames(frames: AsyncGenerator<string>) {
  const read = { frames: [] as string[], text: "", whole: Promise.resolve() };
  read.whole = (async () => {
    for await (const frame of frames) {
      if (frame.startsWith(":")) continue;
      read.frames.push(frame);
      read.text += /^data: (\{"token":.*\})$/m.exec(frame)
        ? JSON.parse(/^data: (.*)$/m.exec(frame)![1]!).token
        : "";
    }
  })();
  return read;
}

test("whatever is lost on the way, the text elsewhere is the same, and grows on", async () => {
  const random = seededRandom();
  const { turn, reply, watch, end } = await openPair(() => random() > 0.1);
  reply.drawOn(nothingDrawn);
  const views = [await watch(), await watch(7)];
  for (let piece = 0; piece < 300; piece++) {
    reply.append(random() < 0.1 ? "😀".repeat(random() * 3_000) : `${piece}é😀 `, unlimited);
    await Bun.sleep(random() * 10);
  }
  const text = reply.text;
  await until("all of it has come", () => views[0]!.text === text && views[1]!.text === text.slice(7));
  await end();
  for (const { whole } of views) await whole;
  expect([views[0]!.text === text, views[1]!.text === text.slice(7)]).toEqual([true, true]);
  expect((await store.turn(scope, turn.id))?.response === text).toBe(true);
});

test("where nothing is heard, text comes by checkpoints and the end from the store", async () => {
  const { turn, reply, watch, end } = await openPair(() => false);
  reply.drawOn(nothingDrawn);
  const view = await watch();
  for (const text of ["one 😀 ", "two 漢 ", "three"]) {
    reply.append(text, unlimited);
    await store.checkpointReplies([{ turn_id: turn.id, text: reply.text, model: "m" }]);
    await until("the checkpoint is shown", () => view.text === reply.text);
  }
  reply.append(" and four", unlimited);
  await end();
  await view.whole;
  expect(view.text).toBe("one 😀 two 漢 three and four");
  expect(view.frames.at(-1)).toContain('"status":"completed"');
});

test("the last text is asked for again, also where nothing comes after it", async () => {
  let passes = true;
  const { reply, watch } = await openPair((message) => passes || message.kind !== "text");
  reply.drawOn(nothingDrawn);
  const view = await watch();
  reply.append("heard ", unlimited);
  await until("it is heard", () => view.text === "heard ");
  passes = false;
  reply.append("lost", unlimited);
  // It has left when the next message does.
  await Bun.sleep(100);
  passes = true;
  await until("it is asked for again", () => view.text === "heard lost");
});

/** Longer than any notification. */
const drawn: Drawn = {
  sources: ["a.md"],
  citations: Array.from({ length: 50 }, (_, index) => ({
    document_id: newId("document"),
    name: "a.md",
    quote: `${index} 😀 `.repeat(500),
    start: index,
    end: index + 1,
    score: 1 / (index + 1),
  })),
  memories_used: [],
  receipt: noReceipt,
};

test("what the reply draws on is shown before its text, as where it runs", async () => {
  const { reply, watch, watchHere, end, stored, turn } = await openPair();
  const before = [await watch(), watchHere()];
  await until("it is watched", () => reply.isWatched);
  reply.drawOn(drawn);
  const [elsewhere] = before;
  await until("the sources are shown", () => elsewhere!.frames.length === 2);
  for (const piece of ["some ", "text"]) {
    reply.append(piece, unlimited);
    await until("it is shown", () => elsewhere!.text === reply.text);
  }
  const after = [await watch(), watchHere()];
  await until("it is shown", () => after[0]!.text === "some text");
  await end(drawn);
  for (const { whole } of [...before, ...after]) await whole;
  expect(before[0]!.frames).toEqual(before[1]!.frames);
  expect(before[0]!.frames[1]).toContain("event: sources");
  expect(after[0]!.frames).toEqual(after[1]!.frames);
  // It is in the store then, for whoever ends the turn of a dead instance too.
  expect(stored).toEqual([turn.id]);
});

test("a turn that nobody watches any more is let go of, and may be watched again", async () => {
  const asked: string[] = [];
  const { turn, reply, there, own } = await openPair(({ kind }) => asked.push(kind) > 0);
  reply.drawOn(nothingDrawn);
  const watched = there.turns.of((await store.turn(scope, turn.id))!);
  const leaving = new AbortController();
  const first = readFrames(tail(watched, 0, leaving.signal, () => {}));
  reply.append("one ", unlimited);
  await until("it is shown", () => first.text === "one ");
  leaving.abort();
  await first.whole;
  await until("its instance lets go of it", () => !reply.isWatched);
  expect(asked).toContain("leave");
  reply.append("two", unlimited);
  // The same view, for who comes back: it takes up where it was.
  const again = readFrames(tail(watched, 0, never, () => {}));
  await until("it is shown", () => again.text === "one two");
  expect(own.reply.isWatched).toBe(true);
});

test("changes are told to all other instances, and may be missed only until it is listened again", async () => {
  const [one, two] = [await openRelay("inst_one", () => true), await openRelay("inst_two", () => true)];
  const heard: string[] = [];
  one.onChanged("keys", () => heard.push("keys in one"));
  two.onChanged("keys", () => heard.push("keys in two"));
  two.onChanged("budgets", () => heard.push("budgets in two"));
  await one.changed("keys");
  await one.changed("budgets");
  await until("they are heard", () => heard.length >= 2);
  expect(heard).toEqual(["keys in two", "budgets in two"]);
  await using database = new Bun.SQL(url, { max: 1 });
  await database`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and query ilike 'listen %'`;
  await until("all is looked at again", () => heard.length >= 5);
  expect(heard.slice(2).toSorted()).toEqual(["budgets in two", "keys in one", "keys in two"]);
});
