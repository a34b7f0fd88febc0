import { afterAll, describe, expect, test } from "bun:test";
import type { Limits } from "../../src/config.ts";
import { errorCodes, titleOf } from "../../src/errors.ts";
import { openAiCompatible } from "../../src/models/openai-compatible.ts";
import { startFullBacklog } from "../support/full-backlog.ts";
import { type ModelFault, modelFaults, secret, textFrame } from "../support/model-faults.ts";
import { startModelServer } from "../support/model-server.ts";
import { limitsWith, read, request } from "../support/models.ts";
import { SeenText } from "../support/seen-text.ts";

const server = startModelServer();
afterAll(() => server.close());

const modelAt = (baseUrl: string, limits: Partial<Limits> = {}) =>
  openAiCompatible({ model: "test-model", baseUrl, apiKey: null }, limitsWith(limits));

/** A limit of time that is to be reached, small; the others stay as large as they are. */
const limitsFor: Record<NonNullable<ModelFault["limit"]>, Partial<Limits>> = {
  firstByte: { modelFirstByteSeconds: 0.2 },
  idle: { modelIdleSeconds: 0.2 },
};

describe("a fault of the model is a typed failure, after the text that came before it", () => {
  test.each(modelFaults)("$fault", async (row) => {
    const reader = new SeenText();
    row.script(server, reader.seen);
    const model = modelAt(server.url, row.limit && limitsFor[row.limit]);
    const outcome = await read(model, request(), undefined, reader.add);
    const { failure } = outcome;
    expect(failure).toBeDefined();
    expect(failure!.code).toBe(row.code);
    expect(outcome.text).toBe(row.text ?? "");
    if (row.usage !== undefined)
      expect(outcome.usage).toEqual({ ...row.usage, cached_tokens: 0, reasoning_tokens: 0 });
    if (row.upstream !== undefined) expect(failure!.upstream).toEqual(row.upstream);
    expect(failure!.retryAfterSeconds).toBe(row.retryAfterSeconds);
    // What is public is constant, and what is logged has none of upstream's text.
    expect(failure!.message).toBe(`${titleOf(row.code)}.`);
    expect(JSON.stringify(failure!.upstream)).not.toContain(secret);
    expect(errorCodes).toContain(failure!.code);
    expect(outcome.finish_reason).toBeUndefined();
  });

  test("a reset after the headers, before any text", async () => {
    const told = Promise.withResolvers<void>();
    const usage = `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":0}}\n\n`;
    server.raw([usage, told.promise], { reset: true });
    const outcome = await read(modelAt(server.url), request(), undefined, () => told.resolve());
    expect(outcome.failure).toMatchObject({
      code: "model_stream_incomplete",
      upstream: { code: "ECONNRESET" },
    });
    expect(outcome.usage?.prompt_tokens).toBe(3);
  });

  test.each([
    ["in two seconds", 2_000, 2],
    ["a minute ago", -60_000, 0],
  ])("429 with Retry-After as a date: %s", async (_when, ms, seconds) => {
    const date = new Date(Math.ceil(Date.now() / 1000) * 1000 + ms);
    server.status(429, { headers: { "Retry-After": date.toUTCString() } });
    const { failure } = await read(modelAt(server.url));
    const leftSeconds = Math.max(0, (date.getTime() - Date.now()) / 1000);
    expect(failure?.code).toBe("model_overloaded");
    expect(failure!.retryAfterSeconds!).toBeGreaterThanOrEqual(leftSeconds);
    expect(failure!.retryAfterSeconds!).toBeLessThanOrEqual(seconds && seconds + 1);
  });
});

describe("a server that can't be reached", () => {
  /** Answers a TLS handshake with an HTTP error, as a server without TLS does. */
  const plain = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("plain") });
  afterAll(() => plain.stop(true));

  test.each([
    ["a refused connection", "http://127.0.0.1:1/v1", "ECONNREFUSED"],
    ["a name that doesn't resolve", "http://no-such-host.invalid/v1", "ENOTFOUND"],
    ["a failing TLS handshake", `https://127.0.0.1:${plain.port}/v1`, "EPROTO"],
  ])("%s", async (_name, baseUrl, code) => {
    const { failure } = await read(modelAt(baseUrl));
    expect(failure?.code).toBe("model_unreachable");
    expect(failure?.upstream).toEqual({ code });
  });
});

describe.concurrent("limits of time", () => {
  describe.skipIf(process.platform !== "linux")("a connection that hangs", () => {
    test("is found out within modelConnectSeconds", async () => {
      const nowhere = await startFullBacklog();
      const target = { model: "m", baseUrl: `http://127.0.0.1:${nowhere.port}/v1`, apiKey: null };
      const connecting = limitsWith({ modelConnectSeconds: 0.2, modelFirstByteSeconds: 600 });
      const { failure } = await read(openAiCompatible(target, connecting));
      expect(failure).toMatchObject({ code: "model_unreachable", upstream: { code: "connect_timeout" } });
      // Through a proxy a direct connection proves nothing.
      const waiting = limitsWith({ modelConnectSeconds: 0.2, modelFirstByteSeconds: 1 });
      const proxied = await read(openAiCompatible(target, waiting, { throughProxy: true }));
      expect(proxied.failure?.code).toBe("model_timeout");
      nowhere.close();
    });
  });

  test("a server that is slow to answer isn't taken for one that can't be reached", async () => {
    const slow = startModelServer();
    slow.silence();
    const model = modelAt(slow.url, { modelConnectSeconds: 3, modelFirstByteSeconds: 2 });
    const { failure } = await read(model);
    expect(failure).toMatchObject({ code: "model_timeout", upstream: { code: "no_answer" } });
    // The second connection was the check.
    expect(slow.connectionsTaken).toBe(2);
    await slow.close();
  });

  test("a slow but steady stream, of thoughts or of text, runs longer than any single limit", async () => {
    const steady = startModelServer();
    const thought = `data: {"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}\n\n`;
    const end = `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n`;
    steady.raw([...Array(13).fill(thought), ...Array(13).fill(textFrame("x")), end], { delayMs: 100 });
    const limits = { modelFirstByteSeconds: 2, modelIdleSeconds: 2 };
    const outcome = await read(modelAt(steady.url, limits));
    expect(outcome).toMatchObject({ text: "x".repeat(13), failure: undefined });
    await steady.close();
  });

  test("the connection is closed on a stall", async () => {
    const stalling = startModelServer();
    stalling.failAfter(1, "stall");
    await read(modelAt(stalling.url, { modelIdleSeconds: 0.1 }));
    await stalling.requests[0]!.closed;
    await stalling.close();
  });
});
