/** What a key or token that ends takes with it: the connections that watch by it, and nothing of the turns. */

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { ChatResponse, Turn } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { adminKey, bearer, guardedEnv, type MadeKey, makeKey, makeToken } from "../support/keys.ts";
import { type Held, type ModelServer, startModelServer } from "../support/model-server.ts";
import { connect } from "../support/raw-client.ts";
import { type Answer, type Service, startService, testMsMax, until } from "../support/service.ts";
import { readSse, sseEvents } from "../support/sse.ts";
import type { StartedTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
let service: Service;
beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model, env: guardedEnv });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const json = (key: string) => ({ ...bearer(key), "content-type": "application/json" });
const revoke = ({ id }: MadeKey) => service.send("DELETE", `/v1/keys/${id}`, undefined, bearer(adminKey));

/** A turn that waits for the test. */
async function runningTurn(key: string): Promise<{ turn: StartedTurn; held: Held }> {
  const held = model.hold();
  held.send("So far ");
  const body = { user_id: "ada", message: "Hello" };
  const { body: turn } = await service.post<StartedTurn>("/v1/turns", body, bearer(key));
  await held.request;
  return { turn, held };
}

/** A stream of which some text has been read; `rest` resolves to the events after it, when the stream ends. */
async function openStream(path: string, init: RequestInit) {
  const response = await service.fetch(path, init);
  expect(response.status).toBe(200);
  const events = sseEvents(response);
  for (;;) {
    const { value } = await events.next();
    if (value!.data.includes('"token"')) break;
  }
  return { rest: Array.fromAsync(events) };
}

const turnBy = async (key: string, id: string): Promise<Turn> =>
  (await service.get<Turn>(`/v1/turns/${id}`, bearer(key))).body;

async function expectTurnGoesOn(key: string, id: string, held: Held): Promise<void> {
  expect((await turnBy(key, id)).status).toBe("running");
  held.send("and on.");
  held.finish();
  await until("the turn has ended", async () => (await turnBy(key, id)).status === "completed");
  expect((await turnBy(key, id)).response).toBe("So far and on.");
}

test("a revoked key's streams end without a done; others of the same turn, and the turn, go on", async () => {
  const [doomed, other] = [await makeKey(service, {}), await makeKey(service, {})];
  const { turn, held } = await runningTurn(doomed.key);
  const path = `/v1/turns/${turn.id}/stream`;
  const byKey = await openStream(path, { headers: bearer(doomed.key) });
  const byOther = await openStream(path, { headers: bearer(other.key) });
  // A ticket is valid by itself: whoever was given one needs no key.
  const byTicket = await openStream(turn.stream_url, {});
  await revoke(doomed);
  expect(await byKey.rest).toEqual([]);
  expect((await service.fetch(path, { headers: bearer(doomed.key) })).status).toBe(401);
  expect((await service.fetch(turn.stream_url, { method: "HEAD" })).status).toBe(200);
  await expectTurnGoesOn(other.key, turn.id, held);
  for (const { rest } of [byOther, byTicket]) {
    const seen = (await rest).map(({ data }) => data);
    expect(seen[0]).toBe('{"token":"and on."}');
    expect(seen.at(-1)).toContain('"done":true');
  }
});

test("a revoked key's waiting POST /v1/chat is told where the turn is, which goes on", async () => {
  const [doomed, other] = [await makeKey(service, {}), await makeKey(service, {})];
  const held = model.hold();
  held.send("So far ");
  const body = JSON.stringify({ user_id: "ada", message: "Hello" });
  const waiting = service.fetch("/v1/chat", { method: "POST", headers: json(doomed.key), body });
  const streamed = service.fetch("/v1/chat/stream", {
    method: "POST",
    headers: json(other.key),
    body: JSON.stringify({ user_id: "ada", message: "Another" }),
  });
  const second = model.to("Another").hold();
  await held.request;
  await revoke(doomed);
  const answer = await waiting;
  expect(answer.status).toBe(401);
  expect(answer.headers.get("www-authenticate")).toStartWith("Bearer");
  const problem = (await answer.json()) as Problem;
  expect(problem).toMatchObject({ code: "unauthorized" });
  expect(problem.conversation_id).toStartWith("conv_");
  await expectTurnGoesOn(other.key, problem.turn_id!, held);
  second.finish();
  expect((await readSse(await streamed)).at(-1)!.data).toContain('"done":true');
});

test("a key's and a token's expiry end their streams too", async () => {
  const keeper = await makeKey(service, {});
  const expires_at = Math.floor(Date.now() / 1000) + 5;
  const brief = await makeKey(service, { expires_at });
  const token = await makeToken(service, brief.key, "ada");
  const { turn, held } = await runningTurn(keeper.key);
  const path = `/v1/turns/${turn.id}/stream`;
  const streams = [
    await openStream(path, { headers: bearer(brief.key) }),
    await openStream(path, { headers: bearer(token) }),
  ];
  for (const { rest } of streams) expect(await rest).toEqual([]);
  expect(Date.now() / 1000).toBeGreaterThanOrEqual(expires_at);
  for (const ended of [brief.key, token]) {
    expect((await service.fetch(path, { headers: bearer(ended) })).status).toBe(401);
  }
  await expectTurnGoesOn(keeper.key, turn.id, held);
});

test("a turn that ends in time is answered as ever, with a key that expires", async () => {
  const brief = await makeKey(service, { expires_at: Math.floor(Date.now() / 1000) + 600 });
  model.reply(["Hi."]);
  const body = { user_id: "ada", message: "Hello" };
  const answer = await service.post<ChatResponse>("/v1/chat", body, bearer(brief.key));
  expect([answer.status, answer.body.response]).toEqual([200, "Hi."]);
});

test("a file that a revoked key is still reading breaks off, and doesn't look whole", async () => {
  const doomed = await makeKey(service, {});
  let conversation_id: string | null = null;
  for (let turn = 0; turn < 8; turn++) {
    model.reply(["Hi."]);
    const body: Record<string, unknown> = { user_id: "ada", message: "Hello", conversation_id };
    const answer: Answer<ChatResponse> = await service.post<ChatResponse>(
      "/v1/chat",
      body,
      bearer(doomed.key),
    );
    conversation_id = answer.body.conversation_id;
  }
  // More than any buffer on the way takes.
  {
    using db = new Database(join(service.dataDir, "parley.db"));
    db.run("pragma busy_timeout = 5000");
    db.query(
      `update messages set content = hex(zeroblob(1000000))
       where conversation_n = (select n from conversations where id = ?)`,
    ).run(conversation_id);
  }
  for (const path of [`/v1/conversations/${conversation_id}/export`, "/v1/users/ada/export"]) {
    const { key, ...reader } = await makeKey(service, {});
    const request = `GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\nconnection: close\r\n\r\n`;
    const connection = await connect(service.port);
    connection.write(request);
    await until("the file begins", () => connection.received.includes('"messages":['));
    connection.pause();
    await revoke({ key, ...reader });
    await until(
      "the key is gone",
      async () => (await service.get("/v1/conversations", bearer(key))).status === 401,
    );
    connection.resume();
    await connection.closed;
    expect(connection.received.byteLength).toBeLessThan(30_000_000);
    expect(connection.received.toString("latin1")).not.toEndWith("0\r\n\r\n");
    // With a key that works it is whole.
    const whole = await service.fetch(path, { headers: bearer(doomed.key) });
    expect((await whole.arrayBuffer()).byteLength).toBeGreaterThan(32_000_000);
  }
  expect(service.logs.filter((line) => !line.includes('"level":"info"'))).toEqual([]);
});
