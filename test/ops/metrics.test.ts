/** What Prometheus reads of a service, and that it is what was done. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { Metrics } from "../../src/ops/metrics.ts";
import { startEmbeddingServer } from "../support/embedding-server.ts";
import { Exposition } from "../support/exposition.ts";
import { adminKey, bearer, guardedEnv, makeKey, makeToken } from "../support/keys.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { connect } from "../support/raw-client.ts";
import { type Service, startService, testModel, testMsMax, until } from "../support/service.ts";
import { skipsSmallDisk, smallDisk } from "../support/small-disk.ts";
import { sseEvents } from "../support/sse.ts";
import { endedTurn, holdTurn, startTurn, untilEnded, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

async function scrape(service: Service, headers: Record<string, string> = {}): Promise<Exposition> {
  const response = await service.fetch("/metrics", { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  return new Exposition(await response.text());
}

/** Scrapes until a value is there: what is counted at an end is counted right after the answer. */
async function scrapeUntil(
  service: Service,
  what: string,
  holds: (found: Exposition) => boolean,
): Promise<Exposition> {
  let found = await scrape(service);
  await until(what, async () => {
    found = await scrape(service);
    return holds(found);
  });
  return found;
}

describe("what is counted", () => {
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

  test("is every turn, with its status, model, tokens and times", async () => {
    const answers: ChatResponse[] = [];
    for (const [prompt_tokens, completion_tokens] of [
      [11, 3],
      [200, 50],
    ] as const) {
      model.reply(["Two ", "pieces"], { usage: { prompt_tokens, completion_tokens } });
      const { body } = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "Hello" });
      answers.push(body);
    }
    model.reply(["cut"], { finish: "length" });
    answers.push((await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "Hello" })).body);
    model.status(401);
    expect((await service.post("/v1/chat", { user_id: "ada", message: "Hello" })).status).toBe(502);
    const { turn } = await holdTurn(service, model, "some text");
    // So that its text and its end are in different milliseconds: what came at once has no speed.
    await Bun.sleep(5);
    await service.post(`/v1/turns/${turn.id}/stop`, undefined);
    const stopped = await service.get<ChatResponse>(`/v1/turns/${turn.id}`);
    answers.push(stopped.body);

    const found = await scrapeUntil(
      service,
      "5 turns are counted",
      (found) => found.sum("parley_turns_total") === 5,
    );
    const turns = found
      .samples("parley_turns_total")
      .map(({ labels, value }) => [labels.status, labels.model, value]);
    expect(turns.toSorted()).toEqual([
      ["completed", testModel, 2],
      ["failed", testModel, 1],
      ["stopped", testModel, 1],
      ["truncated", testModel, 1],
    ]);
    expect(found.samples("parley_turn_errors_total")).toEqual([
      { name: "parley_turn_errors_total", labels: { code: "model_rejected" }, value: 1 },
    ]);
    const used = (kind: "prompt_tokens" | "completion_tokens"): number =>
      answers.reduce((sum, { usage }) => sum + usage[kind], 0);
    // The turn that failed had a prompt too, by Parley's own count.
    expect(found.sum("parley_tokens_total", { kind: "prompt" })).toBeGreaterThan(used("prompt_tokens"));
    expect(found.sum("parley_tokens_total", { kind: "completion", model: testModel })).toBe(
      used("completion_tokens"),
    );
    expect(found.sum("parley_turn_duration_seconds_count", { model: testModel })).toBe(5);
    expect(found.sum("parley_turn_time_to_first_token_seconds_count")).toBe(4);
    expect(found.sum("parley_turn_tokens_per_second_count")).toBeGreaterThanOrEqual(1);
    expect(found.sum("parley_turn_duration_seconds_sum")).toBeGreaterThanOrEqual(
      found.sum("parley_turn_time_to_first_token_seconds_sum"),
    );
    for (const operation of ["startTurn", "endTurn"]) {
      expect(found.sum("parley_store_operation_duration_seconds_count", { operation })).toBe(5);
    }
    expect(
      found.sum("parley_store_operation_duration_seconds_sum", { operation: "endTurn" }),
    ).toBeGreaterThan(0);
    expect(found.samples("parley_cost_usd_total")).toEqual([]);
  });

  test("is every request, by route, method and class of status, at the end of its stream", async () => {
    const before = await scrape(service);
    const counted = (found: Exposition, labels: Record<string, string>): number =>
      found.sum("parley_http_requests_total", labels) - before.sum("parley_http_requests_total", labels);
    for (let n = 0; n < 3; n++) await service.get("/v1/conversations");
    await service.get("/v1/turns/no-turn");
    await service.get("/v1/conversations?limit=x");
    await service.fetch("/v1/conversations", { method: "HEAD" });
    const held = model.hold();
    const stream = await service.fetch(
      `/v1/chat/stream?${new URLSearchParams({ user_id: "ada", message: "Hello" })}`,
    );
    const events = sseEvents(stream);
    const { value: started } = await events.next();
    const route = "/v1/chat/stream";
    const running = await scrape(service);
    expect(counted(running, { route })).toBe(0);
    expect(running.sum("parley_http_streams_open")).toBe(1);
    expect(running.sum("parley_turns_running")).toBe(1);
    // This one and the stream.
    expect(running.sum("parley_http_requests_open")).toBe(2);
    // A refusal is an answer of the storage, and no failure.
    const { conversation_id } = JSON.parse(started!.data) as { conversation_id: string };
    const refused = await service.post("/v1/turns", { user_id: "ada", message: "Hello", conversation_id });
    expect(refused.status).toBe(409);
    held.finish();
    for await (const _ of events);
    const found = await scrapeUntil(
      service,
      "the stream is counted",
      (found) => counted(found, { route }) === 1,
    );
    expect(found.sum("parley_http_streams_open")).toBe(0);
    expect(found.sum("parley_turns_running")).toBe(0);
    expect(found.samples("parley_store_errors_total")).toEqual([]);
    const conversations = { route: "/v1/conversations" };
    expect(counted(found, { ...conversations, method: "GET", status: "2xx" })).toBe(3);
    expect(counted(found, { ...conversations, method: "HEAD", status: "2xx" })).toBe(1);
    expect(counted(found, { ...conversations, method: "GET", status: "4xx" })).toBe(1);
    expect(counted(found, { route: "/v1/turns/:id", status: "4xx" })).toBe(1);
    for (const { labels, value } of found.samples("parley_http_request_duration_seconds_count")) {
      expect(value).toBe(found.sum("parley_http_requests_total", { route: labels.route! }));
    }
  });

  test("of a stream whose client has gone is its end too", async () => {
    const { turn, held } = await holdTurn(service, model, "text");
    const leaving = new AbortController();
    const stream = await service.fetch(`/v1/turns/${turn.id}/stream`, { signal: leaving.signal });
    await sseEvents(stream).next();
    expect((await scrape(service)).sum("parley_http_streams_open")).toBe(1);
    leaving.abort();
    await scrapeUntil(service, "no stream is open", (found) => found.sum("parley_http_streams_open") === 0);
    held.finish();
    await untilEnded(service, turn.id);
  });

  test("of streams whose clients leave before they have begun is their end too", async () => {
    model.default((scripted) => scripted.reply(["fine"]));
    const before = await scrape(service);
    const body = JSON.stringify({ user_id: "ada", message: "Hello" });
    const head = `host: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
    for (let n = 0; n < 40; n++) {
      const connection = await connect(service.port);
      connection.write(`POST /chat/stream HTTP/1.1\r\n${head}\r\n\r\n${body}`);
      await Bun.sleep(n % 8);
      connection.close();
    }
    const since = (found: Exposition, name: string, labels: Record<string, string> = {}): number =>
      found.sum(name, labels) - before.sum(name, labels);
    await scrapeUntil(
      service,
      "no stream is open, and each turn has its request",
      (found) =>
        found.sum("parley_http_streams_open") === 0 &&
        found.sum("parley_turns_running") === 0 &&
        since(found, "parley_turns_total") > 0 &&
        since(found, "parley_turns_total") ===
          since(found, "parley_http_requests_total", { route: "/chat/stream" }),
    );
  });

  test("of failing models is each attempt, with its code, and what was done about it", async () => {
    const before = await scrape(service);
    model.status(503);
    model.status(429, { body: { error: { code: "rate_limit_exceeded" } } });
    await wholeTurn(service, model, ["third time lucky"]);
    const found = await scrape(service);
    const since = (name: string, labels: Record<string, string>): number =>
      found.sum(name, labels) - before.sum(name, labels);
    expect(since("parley_model_errors_total", { kind: "chat", code: "model_overloaded" })).toBe(2);
    expect(since("parley_model_retries_total", { code: "model_overloaded", next: "retry" })).toBe(2);
    expect(since("parley_model_errors_total", {})).toBe(2);
  });

  test("is of the process too", async () => {
    const found = await scrape(service);
    expect(found.sum("process_resident_memory_bytes")).toBeGreaterThan(10e6);
    expect(found.sum("process_cpu_seconds_total")).toBeGreaterThan(0);
    expect(Math.abs(found.sum("process_start_time_seconds") - Date.now() / 1000)).toBeLessThan(600);
    expect(found.sum("parley_build_info")).toBe(1);
    const later = await scrapeUntil(
      service,
      "the event loop was looked at again",
      (later) =>
        later.sum("parley_event_loop_delay_seconds_count") >
        found.sum("parley_event_loop_delay_seconds_count"),
    );
    expect(later.sum("process_cpu_seconds_total")).toBeGreaterThan(found.sum("process_cpu_seconds_total"));
  });
});

test("fallbacks are counted, and so is what an embedding model fails at", async () => {
  const first = startModelServer();
  const second = startModelServer();
  const embedding = startEmbeddingServer();
  first.status(401);
  second.reply(["fine"]);
  embedding.status(401);
  await using service = await startService({
    model: first,
    env: {
      PARLEY_FALLBACK_MODELS: `second@${second.url}`,
      PARLEY_EMBEDDING_MODEL: `vectors@${embedding.url}`,
    },
  });
  await service.post("/v1/chat", { user_id: "ada", message: "Hello" });
  const found = await scrapeUntil(
    service,
    "the embedding model has failed",
    (found) => found.sum("parley_model_errors_total", { kind: "embedding", code: "model_rejected" }) > 0,
  );
  expect(found.samples("parley_model_retries_total")).toMatchObject([
    { labels: { code: "model_rejected", next: "fallback" }, value: 1 },
  ]);
  expect(found.sum("parley_turns_total", { model: "second", status: "completed" })).toBe(1);
  await first.close();
  await second.close();
  await embedding.close();
});

test("what a turn costs is counted where its model has a price, and tokens of any kind", async () => {
  const metrics = new Metrics(["priced"]);
  const ended = {
    turn: { ...endedTurn("text"), model: "priced" },
    workspace_id: "default",
    user_id: "ada",
    message: "Hello",
    correlation: { request_id: "req_1", trace: null },
    seconds: 1,
    firstTokenSeconds: null,
    writingSeconds: null,
  };
  metrics.turnEnded({ ...ended, tokens: { prompt: 7, cached: 5 }, cost: 0.25 });
  metrics.turnEnded({ ...ended, tokens: { prompt: 7, cached: 0 }, cost: 0.5 });
  metrics.turnEnded({ ...ended, tokens: {}, cost: null });
  const found = new Exposition(await metrics.exposition());
  expect(found.sum("parley_cost_usd_total", { model: "priced" })).toBe(0.75);
  expect(found.sum("parley_tokens_total", { kind: "cached" })).toBe(5);
  expect(found.sum("parley_turns_total")).toBe(3);
});

test.skipIf(skipsSmallDisk())("what the storage can't do is counted, by operation and code", async () => {
  using disk = smallDisk(16);
  await using service = await startService({ dataDir: disk.path });
  disk.fill();
  expect((await service.post("/v1/turns", { user_id: "ada", message: "Hello" })).status).toBe(503);
  const found = await scrape(service);
  const labels = { operation: "startTurn", code: "storage_unavailable" };
  expect(found.sum("parley_store_errors_total", labels)).toBe(1);
  expect(found.sum("parley_disk_available_bytes")).toBeLessThan(1_000_000);
});

test("queues are as deep as what waits in them", async () => {
  const model = startModelServer();
  await using service = await startService({ model, env: { PARLEY_MEMORY_MODEL: testModel } });
  const held = model.memory.hold();
  await wholeTurn(service, model, ["fine"], { message: "I live in Zurich." });
  await held.request;
  const waiting = await scrape(service);
  expect(waiting.values("parley_queue_depth", "queue")).toEqual([
    "documents",
    "memories",
    "reader",
    "recaller",
    "summaries",
    "writer",
  ]);
  expect(waiting.sum("parley_queue_depth", { queue: "memories" })).toBe(1);
  held.send('{"memories": []}');
  held.finish();
  await scrapeUntil(
    service,
    "nothing waits",
    (found) => found.sum("parley_queue_depth", { queue: "memories" }) === 0,
  );
  await model.close();
});

describe("labels", () => {
  test("are few, whatever clients name: models, paths, methods", async () => {
    const model = startModelServer();
    model.default((scripted) => scripted.reply(["fine"]));
    await using service = await startService({ model });
    const names = [
      'a"b\\c\nd',
      "x".repeat(200),
      "completed,status:failed",
      "a {b}",
      "constructor!",
      ...Array.from({ length: 60 }, (_, n) => `vendor/model-${n}:latest`),
    ];
    for (const name of names) await startTurn(service, { user_id: name, model: name });
    await wholeTurn(service, model, ["fine"]);
    for (const name of names) {
      await service.fetch(`/${encodeURIComponent(name)}`);
      await service.fetch(`/v1/turns/${encodeURIComponent(name)}`);
    }
    for (const method of ["PROPFIND", "MKCOL", "PURGE"]) await service.fetch("/v1/chat", { method });
    const all = names.length + 1;
    const found = await scrapeUntil(
      service,
      "all turns are counted",
      (found) => found.sum("parley_turns_total") === all,
    );
    const models = found.values("parley_turns_total", "model");
    expect(models).toContain(testModel);
    expect(models).toContain("other");
    expect(models.length).toBe(22);
    expect(models.filter((name) => !/^(other|test-model|vendor\/model-\d+:latest)$/.test(name))).toEqual([]);
    expect(found.sum("parley_turns_total", { model: testModel })).toBe(1);
    expect(found.sum("parley_turns_total", { model: "vendor/model-0:latest" })).toBe(1);
    expect(found.sum("parley_turns_total", { model: "other" })).toBe(all - 21);
    expect(found.values("parley_turn_duration_seconds_count", "model")).toEqual(models);
    expect(found.values("parley_http_requests_total", "route")).toEqual([
      "/metrics",
      "/v1/chat",
      "/v1/turns",
      "/v1/turns/:id",
      "other",
    ]);
    expect(found.values("parley_http_requests_total", "method")).toEqual(["GET", "OTHER", "POST"]);
    const text = await (await service.fetch("/metrics")).text();
    expect(text).not.toContain("user_id");
    expect(text.length).toBeLessThan(300_000);
    await model.close();
  });
});

describe("/metrics", () => {
  const admin = "an-admin-key-of-these-tests";
  const plain = "a-service-key-of-these-tests";

  test("takes a key, of an admin or a service, where there are keys", async () => {
    await using service = await startService({ env: { PARLEY_API_KEYS: `admin:${admin},${plain}` } });
    for (const headers of [{}, { authorization: "Bearer wrong" }]) {
      const { status, headers: answered } = await service.get<Problem>("/metrics", headers);
      expect([status, answered.get("www-authenticate")]).toEqual([401, 'Bearer realm="parley"']);
    }
    for (const key of [admin, plain]) {
      const found = await scrape(service, { authorization: `Bearer ${key}` });
      expect(found.sum("parley_http_requests_total", { route: "/metrics", status: "4xx" })).toBe(2);
    }
  });

  test("is open without a key, to this machine's programs and to no web page", async () => {
    await using service = await startService();
    await scrape(service);
    for (const headers of [{ host: "metrics.example" }, { origin: "https://metrics.example" }]) {
      expect((await service.get("/metrics", headers)).status).toBe(403);
    }
  });

  test("is closed to a user's own key or token", async () => {
    await using service = await startService({ env: guardedEnv });
    const { key } = await makeKey(service, { role: "user", user_id: "ada" });
    const token = await makeToken(service, adminKey, "ada");
    for (const secret of [key, token]) {
      const { status, body } = await service.get<Problem>("/metrics", bearer(secret));
      expect([status, body.code]).toEqual([403, "forbidden"]);
    }
    const { key: own } = await makeKey(service, { role: "service" });
    await scrape(service, bearer(own));
  });

  test("answers when nothing else does any more", async () => {
    const model = startModelServer();
    await using service = await startService({ model, env: { PARLEY_REQUESTS_OPEN_MAX: "1" } });
    const held = model.hold();
    const turn = await startTurn(service);
    const stream = await service.fetch(`/v1/turns/${turn.id}/stream`);
    expect((await service.get("/v1/conversations")).status).toBe(503);
    const found = await scrape(service);
    expect(found.sum("parley_http_requests_total", { status: "5xx", route: "other" })).toBe(1);
    held.finish();
    await stream.text();
    await model.close();
  });
});
