/**
 * The real binary, killed with -9 again and again in the middle of 64 chats, on the same data directory. What its
 * clients were told is compared with what it kept.
 *
 * PARLEY_TEST_KILLS: how many kills, 20 if unset. TEST_SEED repeats a run as far as timing allows.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { ChatResponse, Message, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { buildBinary } from "../support/binary.ts";
import { heldUpWhile } from "../support/held-up.ts";
import { type Attempt, attempt } from "../support/recording-client.ts";
import { type Service, serviceEnv, startService, temporaryDirectory } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { startTellingModel, type TellingModel, tellingOf } from "../support/telling-model.ts";
import { resume, seededRandom } from "../support/turns.ts";

const kills = Number(process.env.PARLEY_TEST_KILLS ?? 20);
const clients = 64;
/** DESIGN's promise: a crash costs at most so much of what somebody had seen. */
const lostMsMax = 1_000;

const directory = temporaryDirectory();
let binary: string;
let model: TellingModel;

beforeAll(async () => {
  binary = await buildBinary(directory);
  model = startTellingModel();
});

afterAll(async () => {
  await model.close();
  rmSync(directory, { recursive: true, force: true });
});

/** A user with conversations; `said` is what must be in each of them, in order. */
interface Chatter {
  user_id: string;
  conversation_id: string | null;
  said: Map<string, { turn_id: string; message: string }[]>;
  /** Messages of all attempts, whatever became of them. */
  tried: Set<string>;
}

const chatters = Array.from(
  { length: clients },
  (_, index): Chatter => ({
    user_id: `user-${index}`,
    conversation_id: null,
    said: new Map(),
    tried: new Set(),
  }),
);

const counts = { acknowledged: 0, completedUnseen: 0, interrupted: 0, restarted: 0, lostMs: 0 };

test(
  `what ${clients} chats were told survives ${kills} kills`,
  async () => {
    const random = seededRandom();
    await using service = await startService({ model, command: [binary], dataDir: join(directory, "data") });
    for (let kill = 1; kill <= kills; kill++) {
      // One in five comes right after the start, when the first turns are being committed.
      const afterMs = random() < 0.2 ? random() * 30 : 100 + random() * 1_600;
      const { result, heldUpMs } = await heldUpWhile(() => chatUntilKilled(service, random, afterMs));
      if (random() < 0.3) await killWhileStarting(service, random() * 150);
      await service.restart();
      expectSound(service);
      await Promise.all(result.attempts.map((asked) => verify(service, asked, result.killedAtMs, heldUpMs)));
    }
    await Promise.all(chatters.map((chatter) => verifyAll(service, chatter)));
    expectSound(service);
    console.log(`${kills} kills:`, counts);
    expect(counts.acknowledged).toBeGreaterThan(kills);
    expect(counts.interrupted).toBeGreaterThan(kills);
  },
  30_000 + kills * 10_000,
);

/** All clients chat on until the process is killed; gives what they were doing then. */
async function chatUntilKilled(service: Service, random: () => number, afterMs: number) {
  let killedAtMs = Number.POSITIVE_INFINITY;
  const cut: Attempt[] = [];
  const chatting = chatters.map(async (chatter) => {
    while (killedAtMs === Number.POSITIVE_INFINITY) {
      const message = `Message ${chatter.tried.size} of ${chatter.user_id}: ${random()}`;
      chatter.tried.add(message);
      if (random() < 0.2) chatter.conversation_id = null;
      const { user_id, conversation_id } = chatter;
      const blank: Attempt = {
        user_id,
        message,
        conversation_id,
        key: Bun.randomUUIDv7(),
        turn_id: null,
        text: "",
        seen: [],
        done: null,
      };
      const asked = await attempt(service, blank, Math.floor(random() * 4));
      if (asked.done === null) cut.push(asked);
      else acknowledge(chatter, asked, asked.done);
    }
  });
  await Bun.sleep(afterMs);
  killedAtMs = performance.now();
  await service.kill();
  await Promise.all(chatting);
  return { attempts: cut, killedAtMs };
}

/** What was told is whole, at once; that it stays so is seen at the very end. */
function acknowledge(chatter: Chatter, asked: Attempt, done: NonNullable<Attempt["done"]>): void {
  const { text, usage } = tellingOf(asked.message);
  expect([asked.text, done.status, done.usage]).toEqual([text, "completed", { ...usage, estimated: false }]);
  counts.acknowledged++;
  remember(chatter, done.conversation_id, { turn_id: asked.turn_id!, message: asked.message });
}

function remember(chatter: Chatter, conversation_id: string, turn: { turn_id: string; message: string }) {
  chatter.conversation_id = conversation_id;
  const said = chatter.said.get(conversation_id) ?? [];
  chatter.said.set(conversation_id, [...said, turn]);
}

/** A process that doesn't get to its first request. */
async function killWhileStarting(service: Service, afterMs: number): Promise<void> {
  const starting = Bun.spawn([binary, "serve"], {
    env: serviceEnv(service.dataDir, { model }),
    stdout: "ignore",
    stderr: "ignore",
  });
  await Bun.sleep(afterMs);
  starting.kill("SIGKILL");
  await starting.exited;
}

function expectSound(service: Service): void {
  using db = new Database(join(service.dataDir, "parley.db"));
  db.run("pragma busy_timeout = 5000");
  expect(db.query("pragma integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
  expect(db.query("pragma foreign_key_check").all()).toEqual([]);
}

/** What became of a request that was cut off by the kill. */
async function verify(service: Service, asked: Attempt, killedAtMs: number, heldUpMs: number): Promise<void> {
  const chatter = chatters.find(({ user_id }) => user_id === asked.user_id)!;
  if (asked.turn_id !== null) {
    const { status, body: turn } = await service.get<Turn>(`/v1/turns/${asked.turn_id}`);
    expect(status).toBe(200);
    expectKept(turn, asked, killedAtMs, heldUpMs);
    await expectResumed(service, turn, asked.text.length);
  }
  const askedBefore = model.asked.get(asked.message) ?? 0;
  const { user_id, message, conversation_id, key } = asked;
  const retry = await service.post<Omit<ChatResponse, "status"> & Problem>(
    "/v1/chat",
    { user_id, message, ...(conversation_id !== null && { conversation_id }) },
    { "idempotency-key": key },
  );
  const { turn_id, response } = retry.body;
  expect([200, 503]).toContain(retry.status);
  // A turn that was told of is found again; one that wasn't may have been stored or not.
  if (asked.turn_id !== null) expect(turn_id).toBe(asked.turn_id);
  const { text } = tellingOf(message);
  if (retry.status === 200) {
    expect(response).toBe(text);
    if ((model.asked.get(message) ?? 0) > askedBefore) {
      expect([asked.turn_id, askedBefore]).toEqual([null, 0]);
      counts.restarted++;
    } else counts.completedUnseen++;
  } else {
    expect(retry.body.code).toBe("turn_interrupted");
    expect(text).toStartWith(response);
    counts.interrupted++;
  }
  expect(model.asked.get(message) ?? 0).toBeLessThanOrEqual(1);
  remember(chatter, retry.body.conversation_id, { turn_id, message });
}

/** It ended once, with what the model said until then, less at most a second of what was seen. */
function expectKept(
  turn: Turn,
  { message, text: seenText, seen }: Attempt,
  killedAtMs: number,
  heldUpMs: number,
) {
  const { text, usage } = tellingOf(message);
  expect(["completed", "interrupted"]).toContain(turn.status);
  expect(text).toStartWith(turn.response);
  expect(text).toStartWith(seenText);
  if (turn.status === "completed") {
    expect([turn.response, turn.usage]).toEqual([text, { ...usage, estimated: false }]);
    return;
  }
  expect(turn.error?.code).toBe("turn_interrupted");
  const firstLost = seen.find(({ length }) => length > turn.length);
  const lostMs = firstLost === undefined ? 0 : killedAtMs - firstLost.atMs;
  counts.lostMs = Math.max(counts.lostMs, Math.round(lostMs));
  expect(lostMs - heldUpMs).toBeLessThanOrEqual(lostMsMax);
}

/** Who comes back gets the rest of what was kept and the end, or the end alone where they hold more. */
async function expectResumed(service: Service, turn: Turn, offset: number): Promise<void> {
  const { text, startId, done } = await readTranscript(await resume(service, turn.id, offset));
  expect(startId).toBe(`${turn.id}:${offset}`);
  expect(text).toBe(turn.response.slice(offset));
  expect([done.status, done.length]).toEqual([turn.status, turn.length]);
}

/** Everything that the user was told is there, once, in order, and nothing else. */
async function verifyAll(service: Service, chatter: Chatter): Promise<void> {
  const { user_id } = chatter;
  const list = await service.get<{ conversations: Conversation[]; has_more: boolean }>(
    `/v1/conversations?user_id=${user_id}&limit=100`,
  );
  expect(list.body.has_more).toBe(false);
  const ids = list.body.conversations.map(({ id }) => id);
  expect(ids.toSorted()).toEqual([...chatter.said.keys()].toSorted());
  for (const conversation of list.body.conversations) {
    expect(conversation.active_turn_id).toBeNull();
    const said = chatter.said.get(conversation.id)!;
    const { messages } = (
      await service.get<{ messages: Message[] }>(`/v1/conversations/${conversation.id}/export`)
    ).body;
    expect(messages.map(({ seq }) => seq)).toEqual(messages.map((_, index) => index + 1));
    expect(conversation.message_count).toBe(messages.length);
    const users = messages.filter(({ role }) => role === "user");
    expect(users.map(({ turn_id, content }) => ({ turn_id, message: content }))).toEqual(said);
    for (const { role, status, content, seq } of messages) {
      if (role === "user") continue;
      const { text } = tellingOf(users[seq / 2 - 1]!.content);
      if (status === "completed") expect(content).toBe(text);
      else expect([status, text.startsWith(content)]).toEqual(["interrupted", true]);
    }
  }
  const stored = list.body.conversations.reduce((sum, { message_count }) => sum + message_count, 0);
  expect(stored).toBe(2 * chatter.tried.size);
}
