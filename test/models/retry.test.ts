import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import type { Log } from "../../src/log.ts";
import { openAiCompatible } from "../../src/models/openai-compatible.ts";
import { type RetryOptions, withRetries } from "../../src/models/retry.ts";
import { startModelServer } from "../support/model-server.ts";
import { limitsWith, read, request } from "../support/models.ts";

const first = startModelServer();
const second = startModelServer();
const third = startModelServer();
const servers = [first, second, third];
afterAll(() => Promise.all(servers.map((server) => server.close())));

let lines: Record<string, unknown>[] = [];
const note = (line: unknown): void => void lines.push(line as Record<string, unknown>);
const log = { info: note, warn: note, error: note } as unknown as Log;

beforeEach(() => {
  lines = [];
  for (const server of servers) server.requests.length = 0;
});

const names = ["big", "small", "tiny"];
const limits = limitsWith({ modelFirstByteSeconds: 0.3, modelIdleSeconds: 0.3 });

/** The first `count` servers as one model; short waits unless the test is about them. */
const chain = (count: number, options: Partial<RetryOptions> = {}) =>
  withRetries(
    servers
      .slice(0, count)
      .map(({ url }, index) =>
        openAiCompatible({ model: names[index]!, baseUrl: url, apiKey: null }, limits),
      ),
    { log, backoffMs: 10, ...options },
  );

const calls = () => servers.map(({ requests }) => requests.length);

describe("one model", () => {
  test("is named as it is, and asked once where nothing fails", async () => {
    first.reply(["Hi"]);
    const model = chain(1);
    expect(model.name).toBe("big");
    expect(await read(model)).toMatchObject({ text: "Hi", model: undefined, failure: undefined });
    expect(calls()).toEqual([1, 0, 0]);
    expect(lines).toEqual([]);
  });

  test.each([500, 502, 503, 504, 529, 429])("is tried twice more after status %i", async (status) => {
    first.status(status);
    first.status(status);
    first.reply(["third time"]);
    expect((await read(chain(1))).text).toBe("third time");
    expect(calls()).toEqual([3, 0, 0]);
  });

  test("fails after the second retry, with the last failure", async () => {
    for (const status of [500, 500, 503]) first.status(status);
    const { failure } = await read(chain(1));
    expect(failure?.code).toBe("model_overloaded");
    expect(calls()).toEqual([3, 0, 0]);
  });

  test("is tried again where the connection is refused", async () => {
    const nobody = openAiCompatible(
      { model: "gone", baseUrl: "http://127.0.0.1:1/v1", apiKey: null },
      limits,
    );
    const { failure } = await read(withRetries([nobody], { log, backoffMs: 1 }));
    expect(failure?.code).toBe("model_unreachable");
    expect(lines.length).toBe(3);
  });

  test.each([
    ["a reset before the first token", () => first.failAfter(0, "reset")],
    ["an end before the first token", () => first.failAfter(0, "end")],
    ["a server error as the first event", () => first.failAfter(0, { error: { type: "server_error" } })],
  ])("is tried again after %s", async (_name, fail) => {
    fail();
    first.reply(["again"]);
    expect(await read(chain(1))).toMatchObject({ text: "again", failure: undefined });
    expect(calls()).toEqual([2, 0, 0]);
  });

  test.each([
    [400, {}, "model_rejected"],
    [401, {}, "model_rejected"],
    [403, {}, "model_rejected"],
    [404, {}, "model_rejected"],
    [422, {}, "model_rejected"],
    [429, { code: "insufficient_quota" }, "model_quota_exhausted"],
  ])("is not tried again after status %i %j", async (status, error, code) => {
    first.status(status, { body: { error } });
    expect((await read(chain(1))).failure?.code).toBe(code as "model_rejected");
    expect(calls()).toEqual([1, 0, 0]);
  });

  test.each([
    ["headers that never come", () => first.silence()],
    ["HTML with status 200", () => first.raw(["<html>"], { contentType: "text/html" })],
  ])("is not tried again after %s", async (_name, fail) => {
    fail();
    expect((await read(chain(1))).failure).toBeDefined();
    expect(calls()).toEqual([1, 0, 0]);
  });

  test.each([
    ["a reset", () => first.failAfter(2, "reset")],
    ["an error object", () => first.failAfter(2, { error: { type: "overloaded_error" } })],
    ["a stall", () => first.failAfter(2, "stall")],
  ])("is never tried again once it has said something: %s", async (_name, fail) => {
    fail();
    const outcome = await read(chain(2));
    expect(outcome.text).toBe("word1 word2 ");
    expect(outcome.failure).toBeDefined();
    expect(calls()).toEqual([1, 0, 0]);
  });
});

describe("waiting", () => {
  const elapsed = async (work: () => Promise<unknown>): Promise<number> => {
    const start = performance.now();
    await work();
    return performance.now() - start;
  };

  test("lasts as long as Retry-After says", async () => {
    first.status(429, { headers: { "retry-after-ms": "300" } });
    first.reply(["Hi"]);
    const ms = await elapsed(async () => expect((await read(chain(1))).text).toBe("Hi"));
    expect(ms).toBeGreaterThanOrEqual(290);
  });

  test("isn't done where Retry-After is beyond the cap: the failure says how long it would be", async () => {
    first.status(429, { headers: { "Retry-After": "3600" } });
    const { failure } = await read(chain(1));
    expect(failure).toMatchObject({ code: "model_overloaded", retryAfterSeconds: 3600 });
    expect(calls()).toEqual([1, 0, 0]);
  });

  test("grows with each retry, and is at least half of the whole", async () => {
    for (let attempt = 0; attempt < 3; attempt++) first.status(503);
    const ms = await elapsed(() => read(chain(1, { backoffMs: 100 })));
    expect(ms).toBeGreaterThanOrEqual(50 + 100 - 10);
  });

  test("ends at once when the caller aborts, with the signal's reason", async () => {
    first.status(503);
    const stop = new AbortController();
    const failed = Promise.withResolvers<void>();
    const waiting = chain(1, { backoffMs: 60_000, log: { ...log, warn: () => failed.resolve() } });
    const outcome = read(waiting, request(), stop.signal).catch((error: unknown) => error);
    await failed.promise;
    stop.abort("stopped");
    expect(await outcome).toBe("stopped");
    expect(calls()).toEqual([1, 0, 0]);
  });
});

describe("fallbacks", () => {
  test("are tried in order, each with its own retries, and say who answers", async () => {
    for (let attempt = 0; attempt < 3; attempt++) {
      first.status(503);
      second.status(500);
    }
    third.reply(["from ", "the third"], { delayMs: 5 });
    const outcome = await read(chain(3));
    expect(outcome).toMatchObject({ text: "from the third", model: "tiny", failure: undefined });
    expect(outcome.pieces.filter(({ model }) => model !== undefined).length).toBe(1);
    expect(outcome.pieces.find(({ text }) => text !== undefined)!.model).toBe("tiny");
    expect(calls()).toEqual([3, 3, 1]);
    expect(third.requests[0]!.body.model).toBe("tiny");
  });

  test.each([
    ["a wrong key", () => first.status(401)],
    ["a model that isn't there", () => first.status(404)],
    ["an exhausted quota", () => first.status(429, { body: { error: { code: "insufficient_quota" } } })],
    ["headers that never come", () => first.silence()],
    ["HTML with status 200", () => first.raw(["<html>"], { contentType: "text/html" })],
    ["a Retry-After beyond the cap", () => first.status(429, { headers: { "Retry-After": "3600" } })],
  ])("are tried at once after %s", async (_name, fail) => {
    fail();
    second.reply(["Hi"]);
    expect(await read(chain(2))).toMatchObject({ text: "Hi", model: "small" });
    expect(calls()).toEqual([1, 1, 0]);
  });

  test.each([400, 422])("are not tried where the request is wrong: status %i", async (status) => {
    first.status(status);
    expect((await read(chain(2))).failure?.code).toBe("model_rejected");
    expect(calls()).toEqual([1, 0, 0]);
  });

  test("fail with the last one's failure", async () => {
    first.status(401);
    second.status(429, { body: { error: { code: "insufficient_quota" } } });
    expect((await read(chain(2))).failure?.code).toBe("model_quota_exhausted");
  });

  test("are not tried after the caller has aborted", async () => {
    first.silence();
    const stop = new AbortController();
    const outcome = read(chain(2), request(), stop.signal).catch((error: unknown) => error);
    await first.received(1);
    stop.abort("stopped");
    expect(await outcome).toBe("stopped");
    expect(calls()).toEqual([1, 0, 0]);
  });
});

describe("a model asked for by name", () => {
  test("is the first target of that name", async () => {
    second.reply(["Hi"]);
    const outcome = await read(chain(3), request({ model: "small" }));
    expect(outcome).toMatchObject({ text: "Hi", model: undefined });
    expect(calls()).toEqual([0, 1, 0]);
  });

  test("falls back to the others, which keep their own names", async () => {
    second.status(401);
    first.reply(["Hi"]);
    const outcome = await read(chain(3), request({ model: "small" }));
    expect(outcome).toMatchObject({ text: "Hi", model: "big" });
    expect(first.requests[0]!.body.model).toBe("big");
  });

  test("that no target has is asked of the first", async () => {
    first.reply(["Hi"]);
    expect((await read(chain(2), request({ model: "new-one" }))).model).toBeUndefined();
    expect(first.requests[0]!.body.model).toBe("new-one");
  });
});

test("the log has each failed attempt with its model, number, code and status, and never content", async () => {
  first.status(503, { body: { error: { message: "SECRET", type: "unavailable_error" } } });
  first.status(429, { body: { error: { message: "SECRET", code: "insufficient_quota" } } });
  second.reply(["Hi"]);
  await read(chain(2), request({ messages: [{ role: "user", content: "SECRET" }] }));
  expect(lines).toMatchObject([
    {
      model: "big",
      attempt: 1,
      code: "model_overloaded",
      upstream: { status: 503, type: "unavailable_error" },
    },
    { model: "big", attempt: 2, code: "model_quota_exhausted", upstream: { status: 429 } },
  ]);
  expect(JSON.stringify(lines)).not.toContain("SECRET");
});
