/**
 * A turn is known from its commit on, a moment before who started it is told: by then it can be watched and stopped.
 * That moment is too short for clients to hit reliably, so the app runs on a store whose word comes late.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { createApp } from "../../src/app.ts";
import type { Turn } from "../../src/chat/schema.ts";
import { loadConfig } from "../../src/config.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import { createServices, type Services } from "../../src/services.ts";
import { temporaryDirectory, testMsMax, until } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";

setDefaultTimeout(testMsMax);

const dataDir = temporaryDirectory();
let services: Services;
let app: ReturnType<typeof createApp>;
/** Resolves when the store may say that a turn is started. */
let told: PromiseWithResolvers<void>;

beforeAll(async () => {
  const config = loadConfig({ PARLEY_DATA_DIR: dataDir, PARLEY_SHUTDOWN_SECONDS: "0" });
  services = await createServices(config, { info() {}, warn() {}, error() {} });
  const { startTurn } = services.store;
  services.store.startTurn = async (...start) => {
    const started = await startTurn(...start);
    await told.promise;
    return started;
  };
  app = createApp(services);
});
afterAll(async () => {
  await services.stop();
  await services.close();
  rmSync(dataDir, { recursive: true });
});

async function ask(method: string, path: string, body?: unknown, key?: string): Promise<Response> {
  const headers = { "content-type": "application/json", ...(key && { "idempotency-key": key }) };
  const init = { method, ...(body !== undefined && { headers, body: JSON.stringify(body) }) };
  return await app.handle(new Request(`http://localhost/v1${path}`, init));
}

const json = async <Body>(answer: Promise<Response>): Promise<Body> => (await (await answer).json()) as Body;

/** A turn that is committed, and nobody is told. */
async function committed(
  key?: string,
): Promise<{ id: string; conversation_id: string; started: Promise<Turn> }> {
  told = Promise.withResolvers();
  const { id: conversation_id } = await json<Conversation>(ask("POST", "/conversations", { user_id: "ada" }));
  const started = json<Turn>(
    ask("POST", "/turns", { user_id: "ada", message: "Who?", conversation_id }, key),
  );
  let id: string | null = null;
  await until("the turn is committed", async () => {
    id = (await json<Conversation>(ask("GET", `/conversations/${conversation_id}`))).active_turn_id;
    return id !== null;
  });
  return { id: id!, conversation_id, started };
}

/** Lets what was asked get as far as it can, then lets the start be told. */
async function tell(): Promise<void> {
  await Bun.sleep(20);
  told.resolve();
}

test("its stream goes on to its end", async () => {
  const { id, started } = await committed();
  const stream = ask("GET", `/turns/${id}/stream`).then(readTranscript);
  await tell();
  expect((await started).id).toBe(id);
  const { text, done } = await stream;
  expect([done.status, text]).toEqual(["completed", expect.stringContaining("I found nothing")]);
});

test("stopping it stops it", async () => {
  const { id, started } = await committed();
  const stopping = json<Turn>(ask("POST", `/turns/${id}/stop`));
  await tell();
  expect((await started).id).toBe(id);
  expect((await stopping).status).toBe("stopped");
});

test("deleting its conversation stops it first", async () => {
  const { id, conversation_id, started } = await committed();
  const deleted = ask("DELETE", `/conversations/${conversation_id}`);
  await tell();
  expect((await started).id).toBe(id);
  expect((await deleted).status).toBe(200);
  expect(services.turns.count).toBe(0);
  expect((await ask("GET", `/turns/${id}`)).status).toBe(404);
});

test("a retry with its key attaches to it", async () => {
  const { id, conversation_id, started } = await committed("once");
  const body = { user_id: "ada", message: "Who?", conversation_id };
  const retry = json<Turn>(ask("POST", "/turns", body, "once"));
  await tell();
  expect([(await started).id, (await retry).id]).toEqual([id, id]);
  expect((await retry).status).toBe("running");
});

test("one whose start fails is none: nobody waits for it for ever", async () => {
  told = Promise.withResolvers();
  const { startTurn } = services.store;
  const asked = Promise.withResolvers<string>();
  services.store.startTurn = async (_scope, { turn_id }) => {
    asked.resolve(turn_id);
    await told.promise;
    throw new Error("the disk is gone");
  };
  const started = ask("POST", "/turns", { user_id: "ada", message: "Who?" });
  const watching = ask("GET", `/turns/${await asked.promise}/stream`);
  await tell();
  expect((await started).status).toBe(500);
  expect((await watching).status).toBe(404);
  services.store.startTurn = startTurn;
});
