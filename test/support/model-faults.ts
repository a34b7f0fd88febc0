/**
 * The faults of a model, each with what has to come of it: for the tests of the adapter, and for those of the whole
 * service. What goes wrong after some text waits until that text was seen, so that nothing depends on time.
 */
import type { ModelFailureCode } from "../../src/models/model.ts";
import type { Scripting } from "./model-server.ts";
import type { SeenText } from "./seen-text.ts";

/** Stands in every text that upstream writes about a fault, and must not come out anywhere. */
export const secret = "SECRET-of-upstream";

export type Seen = SeenText["seen"];

/** Who is asked after a failure before the first token: the same model twice more, another one at once, or nobody. */
export type AskedNext = "same" | "other" | "nobody";

export interface ModelFault {
  fault: string;
  script: (model: Scripting, seen: Seen) => void;
  code: ModelFailureCode;
  /** What came before the failure; then nobody else is asked. */
  text?: string;
  next?: AskedNext;
  /** As the provider reported it. */
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
  upstream?: Record<string, string | number>;
  retryAfterSeconds?: number;
  /** The limit of time that is reached, which each test sets as low as it can. */
  limit?: "firstByte" | "idle";
}

export const textFrame = (content: string): string =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
const errorBody = (error: object) => ({ body: { error: { message: secret, ...error } } });
const errorFrame = (error: unknown): string => `data: ${JSON.stringify({ error })}\n\n`;

const statuses: ModelFault[] = (
  [
    [400, {}, "model_rejected", "nobody"],
    [401, { code: "invalid_api_key" }, "model_rejected", "other"],
    [403, {}, "model_rejected", "other"],
    [404, { code: "model_not_found" }, "model_rejected", "other"],
    [413, {}, "model_rejected", "nobody"],
    [422, {}, "model_rejected", "nobody"],
    [402, {}, "model_quota_exhausted", "other"],
    [408, {}, "model_timeout", "other"],
    [429, { code: "rate_limit_exceeded", type: "tokens" }, "model_overloaded", "same"],
    [429, { code: "insufficient_quota", type: "insufficient_quota" }, "model_quota_exhausted", "other"],
    [500, { type: "server_error" }, "model_bad_response", "same"],
    [500, { code: 500, type: "exceed_context_size_error" }, "model_rejected", "nobody"],
    [502, {}, "model_unreachable", "same"],
    [503, { type: "unavailable_error" }, "model_overloaded", "same"],
    [504, {}, "model_timeout", "same"],
    [521, {}, "model_unreachable", "same"],
    [529, { type: "overloaded_error" }, "model_overloaded", "same"],
  ] satisfies [number, Record<string, string | number>, ModelFailureCode, AskedNext][]
).map(([status, error, code, next]) => ({
  fault: `status ${status} ${JSON.stringify(error)}`,
  script: (model) => model.status(status, errorBody(error)),
  code,
  next,
  upstream: { status, ...error },
}));

const json = { contentType: "application/json" };

const beforeTheStream: ModelFault[] = [
  {
    fault: "429 with Retry-After in seconds",
    script: (model) => model.status(429, { headers: { "Retry-After": "1" }, ...errorBody({}) }),
    code: "model_overloaded",
    next: "same",
    retryAfterSeconds: 1,
  },
  {
    fault: "429 with retry-after-ms",
    script: (model) => model.status(429, { headers: { "retry-after-ms": "250", "Retry-After": "1" } }),
    code: "model_overloaded",
    next: "same",
    retryAfterSeconds: 0.25,
  },
  {
    fault: "429 with Retry-After beyond what is waited for",
    script: (model) => model.status(429, { headers: { "Retry-After": "3600" }, ...errorBody({}) }),
    code: "model_overloaded",
    next: "other",
    retryAfterSeconds: 3600,
  },
  {
    fault: "an error that is no JSON",
    script: (model) => model.status(500, { body: `<html>${secret}</html>` }),
    code: "model_bad_response",
    next: "same",
    upstream: { status: 500 },
  },
  {
    fault: "an error whose code is a text",
    script: (model) =>
      model.status(400, { body: { error: { code: `${secret} with spaces`, type: secret.repeat(9) } } }),
    code: "model_rejected",
    next: "nobody",
    upstream: { status: 400 },
  },
  {
    fault: "an error body beyond the cap, without an end",
    script: (model) => model.raw([secret.repeat(10_000)], { status: 503, hang: true }),
    code: "model_overloaded",
    next: "same",
    upstream: { status: 503 },
  },
  {
    fault: "headers that never come",
    script: (model) => model.silence(),
    code: "model_timeout",
    next: "other",
    limit: "firstByte",
  },
  {
    fault: "an error body that never ends",
    script: (model) => model.raw([`{"error":`], { status: 500, hang: true }),
    code: "model_timeout",
    next: "other",
    limit: "firstByte",
  },
  {
    fault: "HTML with status 200",
    script: (model) => model.raw([`<!doctype html>${secret}`], { contentType: "text/html" }),
    code: "model_bad_response",
    next: "other",
    upstream: { status: 200, code: "html" },
  },
  {
    fault: "an error object as JSON with status 200",
    script: (model) => model.raw([`{"error":{"message":"${secret}","code":429}}`], json),
    code: "model_overloaded",
    next: "same",
  },
  {
    fault: "JSON with status 200 that is no completion",
    script: (model) => model.raw([`{"message":"${secret}"}`], json),
    code: "model_bad_response",
    next: "other",
  },
  {
    fault: "half a JSON with status 200",
    script: (model) => model.raw([`{"choices":[{"mess`], json),
    code: "model_bad_response",
    next: "other",
  },
  {
    fault: "JSON with status 200 without an end",
    script: (model) => model.raw(Array(20).fill(" ".repeat(1024 * 1024)), json),
    code: "model_bad_response",
    next: "other",
    upstream: { code: "body_too_large" },
  },
];

type Upstream = NonNullable<ModelFault["upstream"]>;
type ErrorForm = [form: string, frame: string, ModelFailureCode, AskedNext, Upstream?];

const errorForms: ErrorForm[] = [
  [
    "OpenAI's",
    errorFrame({ message: secret, type: "server_error", param: null, code: null }),
    "model_stream_incomplete",
    "same",
    { status: 200, type: "server_error" },
  ],
  [
    "OpenAI's, of the rate limit",
    errorFrame({ message: secret, type: "tokens", code: "rate_limit_exceeded" }),
    "model_overloaded",
    "same",
  ],
  [
    "OpenAI's, of the quota",
    errorFrame({ message: secret, type: "insufficient_quota", code: "insufficient_quota" }),
    "model_quota_exhausted",
    "other",
  ],
  [
    "llama.cpp's",
    errorFrame({ code: 500, message: secret, type: "server_error" }),
    "model_stream_incomplete",
    "same",
    { status: 500, code: 500, type: "server_error" },
  ],
  [
    "llama.cpp's old one",
    `error: {"code":500,"message":"${secret}","type":"server_error"}\n\n`,
    "model_stream_incomplete",
    "same",
  ],
  [
    "llama.cpp's, of the context",
    errorFrame({ code: 500, message: secret, type: "exceed_context_size_error", n_ctx: 256 }),
    "model_rejected",
    "nobody",
  ],
  [
    "OpenRouter's",
    `data: {"id":"gen-1","error":{"code":502,"message":"${secret}"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n`,
    "model_stream_incomplete",
    "same",
    { status: 502, code: 502 },
  ],
  [
    "OpenRouter's in the choice",
    `data: {"id":"gen-1","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error","error":{"code":429,"message":"${secret}"}}]}\n\n`,
    "model_overloaded",
    "same",
  ],
  [
    "vLLM's",
    `data: {"object":"error","message":"${secret}","type":"BadRequestError","code":400}\n\n`,
    "model_rejected",
    "nobody",
  ],
  ["Ollama's", errorFrame(secret), "model_stream_incomplete", "same", { status: 200 }],
  [
    "an event named error",
    `event: error\ndata: {"error":{"type":"overloaded_error","message":"${secret}"}}\n\n`,
    "model_overloaded",
    "same",
  ],
  [
    "an event named error with a text",
    `event: error\ndata: ${secret}\n\n`,
    "model_stream_incomplete",
    "same",
  ],
  ["a timeout", errorFrame({ message: secret, code: 504, type: "timeout" }), "model_timeout", "same"],
];

const errorObjects = errorForms.flatMap(([form, frame, code, next, upstream]): ModelFault[] => [
  {
    fault: `an error object as the first event of a 200: ${form}`,
    script: (model) => model.raw([frame]),
    code,
    next,
    ...(upstream && { upstream }),
  },
  {
    fault: `an error object mid-stream: ${form}`,
    script: (model, seen) =>
      model.raw([textFrame("one "), textFrame("two"), seen("one two"), frame, "data: [DONE]\n\n"]),
    code,
    text: "one two",
    ...(upstream && { upstream }),
  },
  {
    fault: `an error object in one network chunk with text: ${form}`,
    script: (model) => model.raw([textFrame("one ") + textFrame("two") + frame]),
    code,
    text: "one two",
  },
]);

const usageFrame = `data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}}\n\n`;
const reported = { prompt_tokens: 11, completion_tokens: 2, total_tokens: 13 };
const kibibytes = "x".repeat(64 * 1024);

const broken: ModelFault[] = [
  {
    fault: "a connection reset mid-stream",
    script: (model, seen) =>
      model.raw([textFrame("one "), textFrame("two"), seen("one two")], { reset: true }),
    code: "model_stream_incomplete",
    text: "one two",
    upstream: { code: "ECONNRESET" },
  },
  {
    fault: "a connection reset after usage was reported",
    script: (model, seen) =>
      model.raw([textFrame("one ") + usageFrame + textFrame("two"), seen("one two")], { reset: true }),
    code: "model_stream_incomplete",
    text: "one two",
    usage: reported,
  },
  {
    fault: "the end of the stream without finish_reason or [DONE]",
    script: (model) => model.failAfter(2, "end"),
    code: "model_stream_incomplete",
    text: "word1 word2 ",
  },
  {
    fault: "the end of the stream after usage, without finish_reason or [DONE]",
    script: (model) => model.raw([textFrame("one"), usageFrame]),
    code: "model_stream_incomplete",
    text: "one",
    usage: reported,
  },
  {
    fault: "the end of the stream inside an event",
    script: (model) => model.raw([textFrame("a"), textFrame("b").slice(0, 30)]),
    code: "model_stream_incomplete",
    text: "a",
  },
  {
    fault: 'the end of the stream after finish_reason ""',
    script: (model) => model.raw([`data: {"choices":[{"delta":{"content":"a"},"finish_reason":""}]}\n\n`]),
    code: "model_stream_incomplete",
    text: "a",
  },
  {
    fault: "a stream without anything",
    script: (model) => model.raw([]),
    code: "model_stream_incomplete",
    next: "same",
  },
  {
    fault: "malformed JSON in the first chunk",
    script: (model) => model.raw([`data: {"choices": ${secret}\n\n`], { hang: true }),
    code: "model_bad_response",
    next: "other",
  },
  {
    fault: "malformed JSON in a chunk",
    script: (model, seen) =>
      model.raw([textFrame("a"), seen("a"), `data: {"choices": ${secret}\n\n`, textFrame("b")], {
        hang: true,
      }),
    code: "model_bad_response",
    text: "a",
  },
  {
    fault: "a chunk that is no object",
    script: (model, seen) => model.raw([textFrame("a"), seen("a"), "data: null\n\n"], { hang: true }),
    code: "model_bad_response",
    text: "a",
  },
  {
    fault: "an event of 10 MiB",
    script: (model, seen) =>
      model.raw(
        [textFrame("a"), seen("a"), `data: {"choices":[{"delta":{"content":"`, ...Array(160).fill(kibibytes)],
        { hang: true },
      ),
    code: "model_bad_response",
    text: "a",
    upstream: { code: "event_too_large" },
  },
  {
    fault: "an event of 10 MiB at the beginning",
    script: (model) => model.raw(["data: ", ...Array(160).fill(kibibytes)], { hang: true }),
    code: "model_bad_response",
    next: "other",
    upstream: { code: "event_too_large" },
  },
  {
    fault: "an event of 10 MiB in many lines",
    script: (model, seen) =>
      model.raw([textFrame("a"), seen("a"), ...Array(160).fill(`data: ${kibibytes}\n`)], { hang: true }),
    code: "model_bad_response",
    text: "a",
    upstream: { code: "event_too_large" },
  },
  {
    fault: "a line of 10 MiB that is no field",
    script: (model) => model.raw([textFrame("a"), ...Array(160).fill(kibibytes)]),
    code: "model_stream_incomplete",
    text: "a",
  },
];

const stalls: ModelFault[] = [
  {
    fault: "pings before a first token that never comes",
    script: (model) => model.raw([], { repeat: ": ping\n\n" }),
    code: "model_timeout",
    next: "other",
    limit: "firstByte",
  },
  {
    fault: "a stall without bytes",
    script: (model) => model.raw([textFrame("one ") + textFrame("two")], { hang: true }),
    code: "model_timeout",
    text: "one two",
    upstream: { code: "stalled" },
    limit: "idle",
  },
  {
    fault: "a stall behind comment pings",
    script: (model) => model.raw([textFrame("a")], { repeat: ": ping\n\n" }),
    code: "model_timeout",
    text: "a",
    upstream: { code: "stalled" },
    limit: "idle",
  },
  {
    fault: "a stall behind empty deltas",
    script: (model) => model.raw([textFrame("a")], { repeat: textFrame("") }),
    code: "model_timeout",
    text: "a",
    limit: "idle",
  },
  {
    fault: "a stall inside an event",
    script: (model) => model.raw([textFrame("a"), textFrame("b").slice(0, 30)], { hang: true }),
    code: "model_timeout",
    text: "a",
    limit: "idle",
  },
];

export const modelFaults: ModelFault[] = [
  ...statuses,
  ...beforeTheStream,
  ...errorObjects,
  ...broken,
  ...stalls,
];
