import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import type { Limits } from "../../src/config.ts";
import type { Log } from "../../src/log.ts";
import { openAiCompatible } from "../../src/models/openai-compatible.ts";
import { type RetryOptions, withRetries } from "../../src/models/retry.ts";
import { type Seen, textFrame } from "../support/model-faults.ts";
import { startModelServer } from "../support/model-server.ts";
import { limitsWith, read, request } from "../support/models.ts";
import { SeenText } from "../support/seen-text.ts";

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
interface ChainOptions extends Partial<RetryOptions> {
  /** The limits of time of the first model, where the test is about reaching them. */
  limits?: Partial<Limits>;
}

/** The first `count` servers as one model; short waits unless the test is about them. */
const chain = (count: number, { limits, ...options }: ChainOptions = {}) =>
  withRetries(
    servers
      .slice(0, count)
      .map(({ url }, index) =>
        openAiCompatible(
          { model: names[index]!, baseUrl: url, apiKey: null },
          limitsWith(index === 0 ? limits : {}),
        ),
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
      limitsWith(),
    );
    const { failure } = await read(withRetries([nobody], { log, backoffMs: 1 }));
    expect(failure?.code).toBe("model_unreachable");
    expect(lines.length).toBe(3);
  });

  test.each([
    ["a reset before the first token", () => first.raw([], { reset: true })],
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

  test("is not tried again after headers that never come", async () => {
    first.silence();
    const outcome = await read(chain(1, { limits: { modelFirstByteSeconds: 0.2 } }));
    expect(outcome.failure?.code).toBe("model_timeout");
    expect(calls()).toEqual([1, 0, 0]);
  });

  test("is not tried again after HTML with status 200", async () => {
    first.raw(["<html>"], { contentType: "text/html" });
    expect((await read(chain(1))).failure?.code).toBe("model_bad_response");
    expect(calls()).toEqual([1, 0, 0]);
  });

  test.each<[string, (said: string, seen: Seen) => void]>([
    ["a reset", (said, seen) => first.raw([said, seen("word")], { reset: true })],
    ["an error object", (said) => first.raw([said, 'data: {"error":{"type":"overloaded_error"}}\n\n'])],
    ["a stall", (said) => first.raw([said], { hang: true })],
  ])("is never tried again once it has said something: %s", async (_name, fail) => {
    const reader = new SeenText();
    fail(textFrame("word"), reader.seen);
    const model = chain(2, { limits: { modelIdleSeconds: 0.2 } });
    const outcome = await read(model, request(), undefined, reader.add);
    expect(outcome.text).toBe("word");
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

  const waits = (): number[] =>
    lines.map(({ retry_in_ms }) => retry_in_ms).filter((ms) => typeof ms === "number");

  test("is also done where Retry-After asks for none, or is in the past", async () => {
    first.status(429, { headers: { "Retry-After": "0" } });
    first.status(429, { headers: { "Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT" } });
    first.reply(["Hi"]);
    expect((await read(chain(1, { backoffMs: 20 }))).text).toBe("Hi");
    expect(waits().map((ms) => ms >= 10)).toEqual([true, true]);
  });

  test("doubles with each retry, less up to half of it by chance, and is what the log says", async () => {
    for (let round = 0; round < 8; round++) {
      lines = [];
      for (let attempt = 0; attempt < 3; attempt++) first.status(503);
      const ms = await elapsed(() => read(chain(1, { backoffMs: 20 })));
      const [one, two] = waits();
      expect(waits().length).toBe(2);
      expect(one).toBeWithin(10, 21);
      expect(two).toBeWithin(20, 41);
      expect(ms).toBeGreaterThanOrEqual(one! + two! - 5);
    }
  });

  test("differs from turn to turn, so that many don't come back at once", async () => {
    for (let request = 0; request < 16; request++) first.status(503, { headers: { "retry-after-ms": "1" } });
    await Promise.all(Array.from({ length: 8 }, () => read(chain(1, { backoffMs: 200, retriesMax: 1 }))));
    expect(new Set(waits()).size).toBeGreaterThan(2);
    expect(waits().every((ms) => ms >= 101 && ms <= 201)).toBe(true);
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

describe("usage", () => {
  const usage = (prompt_tokens: number) =>
    `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens, completion_tokens: 0 } })}\n\n`;
  const overloaded = 'data: {"error":{"type":"overloaded_error"}}\n\n';

  test("of an attempt that failed before the first token isn't taken for that of the answer", async () => {
    first.raw([usage(7) + overloaded]);
    first.raw([`${textFrame("Hi")}data: [DONE]\n\n`]);
    expect(await read(chain(1))).toMatchObject({ text: "Hi", usage: undefined, failure: undefined });
  });

  test("that comes before the answer comes with it", async () => {
    first.raw([usage(7), `${textFrame("Hi")}data: [DONE]\n\n`], { delayMs: 2 });
    expect(await read(chain(1))).toMatchObject({ text: "Hi", usage: { prompt_tokens: 7 } });
  });

  test("of the last attempt is told where there is no answer", async () => {
    for (const prompt_tokens of [1, 2, 3]) first.raw([usage(prompt_tokens) + overloaded]);
    const { failure, usage: told } = await read(chain(1));
    expect([failure?.code, told?.prompt_tokens]).toEqual(["model_overloaded", 3]);
  });
});

describe("fallbacks", () => {
  test("are tried in order, each with its own retries, and say who answers", async () => {
    for (let attempt = 0; attempt < 3; attempt++) {
      first.status(503);
      second.status(500);
    }
    const reader = new SeenText();
    third.raw([textFrame("from "), reader.seen("from "), textFrame("the third"), "data: [DONE]\n\n"]);
    const outcome = await read(chain(3), request(), undefined, reader.add);
    expect(outcome).toMatchObject({ text: "from the third", model: "tiny", failure: undefined });
    expect(outcome.pieces.map(({ text, model }) => [text, model])).toEqual([
      ["from ", "tiny"],
      ["the third", undefined],
    ]);
    expect(calls()).toEqual([3, 3, 1]);
    expect(third.requests[0]!.body.model).toBe("tiny");
  });

  test.each([
    ["a wrong key", () => first.status(401)],
    ["a model that isn't there", () => first.status(404)],
    ["an exhausted quota", () => first.status(429, { body: { error: { code: "insufficient_quota" } } })],
    ["HTML with status 200", () => first.raw(["<html>"], { contentType: "text/html" })],
    ["a Retry-After beyond the cap", () => first.status(429, { headers: { "Retry-After": "3600" } })],
  ])("are tried at once after %s", async (_name, fail) => {
    fail();
    second.reply(["Hi"]);
    expect(await read(chain(2))).toMatchObject({ text: "Hi", model: "small" });
    expect(calls()).toEqual([1, 1, 0]);
  });

  test("are tried at once after headers that never come", async () => {
    first.silence();
    second.reply(["Hi"]);
    const outcome = await read(chain(2, { limits: { modelFirstByteSeconds: 0.2 } }));
    expect(outcome).toMatchObject({ text: "Hi", model: "small" });
    expect(calls()).toEqual([1, 1, 0]);
  });

  test("say who answers, also with nothing", async () => {
    first.status(401);
    second.raw(["data: [DONE]\n\n"]);
    expect(await read(chain(2))).toMatchObject({ text: "", model: "small", failure: undefined });
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
