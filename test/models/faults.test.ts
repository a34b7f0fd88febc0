import { afterAll, describe, expect, test } from "bun:test";
import type { Limits } from "../../src/config.ts";
import { errorCodes, titleOf } from "../../src/errors.ts";
import type { ModelFailureCode } from "../../src/models/model.ts";
import { openAiCompatible } from "../../src/models/openai-compatible.ts";
import { startFullBacklog } from "../support/full-backlog.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { limitsWith, read } from "../support/models.ts";

const server = startModelServer();
afterAll(() => server.close());

/** Stands in every text that upstream writes about a fault, and must not come out anywhere. */
const secret = "SECRET-of-upstream";

const text = (content: string): string =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
const errorBody = (error: object) => ({ body: { error: { message: secret, ...error } } });
const errorEvent = (error: unknown): string => `data: ${JSON.stringify({ error })}\n\n`;

interface Row {
  fault: string;
  script: (model: ModelServer) => void;
  code: ModelFailureCode;
  /** What came before the failure. */
  text?: string;
  upstream?: Record<string, string | number>;
  retryAfterSeconds?: number;
  limits?: Partial<Limits>;
}

const statuses: Row[] = [
  [400, {}, "model_rejected"],
  [401, { code: "invalid_api_key" }, "model_rejected"],
  [403, {}, "model_rejected"],
  [404, { code: "model_not_found" }, "model_rejected"],
  [413, {}, "model_rejected"],
  [422, {}, "model_rejected"],
  [402, {}, "model_quota_exhausted"],
  [408, {}, "model_timeout"],
  [429, { code: "rate_limit_exceeded", type: "tokens" }, "model_overloaded"],
  [429, { code: "insufficient_quota", type: "insufficient_quota" }, "model_quota_exhausted"],
  [500, { type: "server_error" }, "model_bad_response"],
  [500, { code: 500, type: "exceed_context_size_error" }, "model_rejected"],
  [502, {}, "model_unreachable"],
  [503, { type: "unavailable_error" }, "model_overloaded"],
  [504, {}, "model_timeout"],
  [521, {}, "model_unreachable"],
  [529, { type: "overloaded_error" }, "model_overloaded"],
].map(([status, error, code]) => ({
  fault: `status ${status} ${JSON.stringify(error)}`,
  script: (model) => model.status(status as number, errorBody(error as object)),
  code: code as ModelFailureCode,
  upstream: { status: status as number, ...(error as Record<string, string>) },
}));

const beforeTheStream: Row[] = [
  {
    fault: "429 with Retry-After in seconds",
    script: (model) => model.status(429, { headers: { "Retry-After": "7" }, ...errorBody({}) }),
    code: "model_overloaded",
    retryAfterSeconds: 7,
  },
  {
    fault: "429 with retry-after-ms",
    script: (model) => model.status(429, { headers: { "retry-after-ms": "250", "Retry-After": "1" } }),
    code: "model_overloaded",
    retryAfterSeconds: 0.25,
  },
  {
    fault: "an error that is no JSON",
    script: (model) => model.status(500, { body: `<html>${secret}</html>` }),
    code: "model_bad_response",
    upstream: { status: 500 },
  },
  {
    fault: "an error whose code is a text",
    script: (model) =>
      model.status(400, { body: { error: { code: `${secret} with spaces`, type: secret.repeat(9) } } }),
    code: "model_rejected",
    upstream: { status: 400 },
  },
  {
    fault: "an error body beyond the cap, without an end",
    script: (model) => model.raw([secret.repeat(10_000)], { status: 503, hang: true }),
    code: "model_overloaded",
    upstream: { status: 503 },
  },
  {
    fault: "headers that never come",
    script: (model) => model.silence(),
    code: "model_timeout",
    limits: { modelFirstByteSeconds: 0.2 },
  },
  {
    fault: "an error body that never ends",
    script: (model) => model.raw([`{"error":`], { status: 500, hang: true }),
    code: "model_timeout",
    limits: { modelFirstByteSeconds: 0.2 },
  },
  {
    fault: "HTML with status 200",
    script: (model) => model.raw([`<!doctype html>${secret}`], { contentType: "text/html" }),
    code: "model_bad_response",
    upstream: { status: 200, code: "html" },
  },
  {
    fault: "an error object as JSON with status 200",
    script: (model) =>
      model.raw([`{"error":{"message":"${secret}","code":429}}`], { contentType: "application/json" }),
    code: "model_overloaded",
  },
  {
    fault: "JSON with status 200 that is no completion",
    script: (model) => model.raw([`{"message":"${secret}"}`], { contentType: "application/json" }),
    code: "model_bad_response",
  },
  {
    fault: "half a JSON with status 200",
    script: (model) => model.raw([`{"choices":[{"mess`], { contentType: "application/json" }),
    code: "model_bad_response",
  },
  {
    fault: "JSON with status 200 without an end",
    script: (model) => {
      const mebibyte = " ".repeat(1024 * 1024);
      model.raw(Array(20).fill(mebibyte), { contentType: "application/json" });
    },
    code: "model_bad_response",
    upstream: { code: "body_too_large" },
  },
];

const errorForms: [name: string, frame: string, code: ModelFailureCode, upstream?: Row["upstream"]][] = [
  [
    "OpenAI's",
    errorEvent({ message: secret, type: "server_error", param: null, code: null }),
    "model_stream_incomplete",
    { status: 200, type: "server_error" },
  ],
  [
    "OpenAI's, of the rate limit",
    errorEvent({ message: secret, type: "tokens", code: "rate_limit_exceeded" }),
    "model_overloaded",
  ],
  [
    "OpenAI's, of the quota",
    errorEvent({ message: secret, type: "insufficient_quota", code: "insufficient_quota" }),
    "model_quota_exhausted",
  ],
  [
    "llama.cpp's",
    errorEvent({ code: 500, message: secret, type: "server_error" }),
    "model_stream_incomplete",
    { status: 500, code: 500, type: "server_error" },
  ],
  [
    "llama.cpp's old one",
    `error: {"code":500,"message":"${secret}","type":"server_error"}\n\n`,
    "model_stream_incomplete",
  ],
  [
    "llama.cpp's, of the context",
    errorEvent({ code: 500, message: secret, type: "exceed_context_size_error", n_ctx: 256 }),
    "model_rejected",
  ],
  [
    "OpenRouter's",
    `data: {"id":"gen-1","error":{"code":502,"message":"${secret}"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n`,
    "model_stream_incomplete",
    { status: 502, code: 502 },
  ],
  [
    "OpenRouter's in the choice",
    `data: {"id":"gen-1","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error","error":{"code":429,"message":"${secret}"}}]}\n\n`,
    "model_overloaded",
  ],
  [
    "vLLM's",
    `data: {"object":"error","message":"${secret}","type":"BadRequestError","code":400}\n\n`,
    "model_rejected",
  ],
  ["Ollama's", errorEvent(secret), "model_stream_incomplete", { status: 200 }],
  [
    "an event named error",
    `event: error\ndata: {"error":{"type":"overloaded_error","message":"${secret}"}}\n\n`,
    "model_overloaded",
  ],
  ["an event named error with a text", `event: error\ndata: ${secret}\n\n`, "model_stream_incomplete"],
  ["a timeout", errorEvent({ message: secret, code: 504, type: "timeout" }), "model_timeout"],
];

const errorObjects: Row[] = errorForms.flatMap(([name, frame, code, upstream]): Row[] => [
  {
    fault: `an error object as the first event of a 200: ${name}`,
    script: (model) => model.raw([frame]),
    code,
    ...(upstream && { upstream }),
  },
  {
    fault: `an error object mid-stream: ${name}`,
    script: (model) => model.raw([text("one "), text("two"), frame, "data: [DONE]\n\n"]),
    text: "one two",
    code,
    ...(upstream && { upstream }),
  },
  {
    fault: `an error object in one network chunk with text: ${name}`,
    script: (model) => model.raw([text("one ") + text("two") + frame]),
    text: "one two",
    code,
  },
]);

const midStream: Row[] = [
  {
    fault: "a connection reset mid-stream",
    script: (model) => model.failAfter(2, "reset"),
    text: "word1 word2 ",
    code: "model_stream_incomplete",
    upstream: { code: "ECONNRESET" },
  },
  {
    fault: "the end of the stream without finish_reason or [DONE]",
    script: (model) => model.failAfter(2, "end"),
    text: "word1 word2 ",
    code: "model_stream_incomplete",
  },
  {
    fault: "the end of the stream inside an event",
    script: (model) => model.raw([text("a"), text("b").slice(0, 30)]),
    text: "a",
    code: "model_stream_incomplete",
  },
  {
    fault: 'the end of the stream after finish_reason ""',
    script: (model) => model.raw([`data: {"choices":[{"delta":{"content":"a"},"finish_reason":""}]}\n\n`]),
    text: "a",
    code: "model_stream_incomplete",
  },
  { fault: "a stream without anything", script: (model) => model.raw([]), code: "model_stream_incomplete" },
  {
    fault: "a reset right after the headers",
    script: (model) => model.raw([": hi\n\n"], { reset: true }),
    code: "model_stream_incomplete",
  },
  {
    fault: "a stall without bytes",
    script: (model) => model.failAfter(2, "stall"),
    text: "word1 word2 ",
    code: "model_timeout",
    limits: { modelIdleSeconds: 0.2 },
  },
  {
    fault: "a stall behind comment pings",
    script: (model) => model.raw([text("a"), ...Array(60).fill(": ping\n\n")], { delayMs: 25, hang: true }),
    text: "a",
    code: "model_timeout",
    limits: { modelIdleSeconds: 0.2 },
  },
  {
    fault: "a stall behind empty deltas",
    script: (model) => model.raw([text("a"), ...Array(60).fill(text(""))], { delayMs: 25, hang: true }),
    text: "a",
    code: "model_timeout",
    limits: { modelIdleSeconds: 0.2 },
  },
  {
    fault: "pings before a first token that never comes",
    script: (model) => model.raw(Array(60).fill(": ping\n\n"), { delayMs: 25, hang: true }),
    code: "model_timeout",
    limits: { modelFirstByteSeconds: 0.2 },
  },
  {
    fault: "malformed JSON in a chunk",
    script: (model) => model.raw([text("a"), `data: {"choices": ${secret}\n\n`, text("b")], { hang: true }),
    text: "a",
    code: "model_bad_response",
  },
  {
    fault: "a chunk that is no object",
    script: (model) => model.raw([text("a"), "data: null\n\n"], { hang: true }),
    text: "a",
    code: "model_bad_response",
  },
  {
    fault: "an event of 10 MiB",
    script: (model) => {
      const kibibytes = "x".repeat(64 * 1024);
      model.raw([text("a"), `data: {"choices":[{"delta":{"content":"`, ...Array(160).fill(kibibytes)], {
        hang: true,
      });
    },
    text: "a",
    code: "model_bad_response",
    upstream: { code: "event_too_large" },
  },
  {
    fault: "a line of 10 MiB that is no field",
    script: (model) => model.raw([text("a"), ...Array(160).fill("x".repeat(64 * 1024))]),
    text: "a",
    code: "model_stream_incomplete",
  },
];

describe("a fault of the model is a typed failure, after the text that came before it", () => {
  test.each([...statuses, ...beforeTheStream, ...errorObjects, ...midStream])("$fault", async (row) => {
    row.script(server);
    const target = { model: "test-model", baseUrl: server.url, apiKey: "sk-test" };
    const outcome = await read(openAiCompatible(target, limitsWith(row.limits)));
    const { failure } = outcome;
    expect(failure).toBeDefined();
    expect(failure!.code).toBe(row.code);
    expect(outcome.text).toBe(row.text ?? "");
    if (row.upstream !== undefined) expect(failure!.upstream).toEqual(row.upstream);
    expect(failure!.retryAfterSeconds).toBe(row.retryAfterSeconds);
    // What is public is constant, and what is logged has none of upstream's text.
    expect(failure!.message).toBe(`${titleOf(row.code)}.`);
    expect(JSON.stringify(failure!.upstream)).not.toContain(secret);
    expect(errorCodes).toContain(failure!.code);
    expect(outcome.finish_reason).toBeUndefined();
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
    const { failure } = await read(openAiCompatible({ model: "m", baseUrl, apiKey: null }, limitsWith()));
    expect(failure?.code).toBe("model_unreachable");
    expect(failure?.upstream).toEqual({ code });
  });
});

describe("limits of time", () => {
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
    server.silence();
    const limits = limitsWith({ modelConnectSeconds: 0.1, modelFirstByteSeconds: 0.4 });
    const { failure } = await read(
      openAiCompatible({ model: "m", baseUrl: server.url, apiKey: null }, limits),
    );
    expect(failure).toMatchObject({ code: "model_timeout", upstream: { code: "no_answer" } });
  });

  test("reasoning is progress: a long silence of text isn't a stall", async () => {
    const thought = `data: {"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}\n\n`;
    const end = `data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\n`;
    server.raw([...Array(20).fill(thought), end], { delayMs: 30 });
    const limits = limitsWith({ modelFirstByteSeconds: 0.3, modelIdleSeconds: 0.3 });
    const outcome = await read(openAiCompatible({ model: "m", baseUrl: server.url, apiKey: null }, limits));
    expect(outcome.failure).toBeUndefined();
    expect(outcome.text).toBe("ok");
  });

  test("a slow but steady stream runs longer than any single limit", async () => {
    server.reply(Array(20).fill("x"), { delayMs: 30 });
    const limits = limitsWith({ modelFirstByteSeconds: 0.3, modelIdleSeconds: 0.3 });
    const outcome = await read(openAiCompatible({ model: "m", baseUrl: server.url, apiKey: null }, limits));
    expect(outcome).toMatchObject({ text: "x".repeat(20), failure: undefined });
  });

  test("the connection is closed on a stall", async () => {
    const before = server.requests.length;
    server.failAfter(1, "stall");
    await read(
      openAiCompatible(
        { model: "m", baseUrl: server.url, apiKey: null },
        limitsWith({ modelIdleSeconds: 0.1 }),
      ),
    );
    await server.requests[before]!.closed;
  });
});
