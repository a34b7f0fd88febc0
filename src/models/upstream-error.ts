/**
 * What a server says went wrong, in any of the dialects, becomes a `ModelFailure`: a public constant message, and
 * status, code and type for the log. What upstream wrote besides those is never kept.
 */
import { APIConnectionError, APIError } from "openai/error";
import { titleOf } from "../errors.ts";
import { ModelFailure, type ModelFailureCode } from "./model.ts";

export type UpstreamFacts = Record<string, string | number>;

/** A failure with the public message of its code. */
export const failure = (
  code: ModelFailureCode,
  upstream: UpstreamFacts = {},
  options: { retryAfterSeconds?: number | undefined; cause?: unknown } = {},
): ModelFailure =>
  new ModelFailure(code, `${titleOf(code)}.`, {
    upstream,
    cause: options.cause,
    ...(options.retryAfterSeconds !== undefined && { retryAfterSeconds: options.retryAfterSeconds }),
  });

/** Whatever the SDK or the network threw before there was a stream. */
export function fromThrown(error: unknown): ModelFailure {
  if (error instanceof ModelFailure) return error;
  if (error instanceof APIError && error.status !== undefined) return fromStatus(error);
  return fromConnection(error instanceof APIConnectionError ? error.cause : error);
}

/** Refused, unresolvable, TLS, reset: the connection's own failures, told apart in the log by `code`. */
function fromConnection(cause: unknown): ModelFailure {
  return failure("model_unreachable", facts({ code: codeOfThrown(cause) }), { cause });
}

/** A connection that broke, or a stream that ended, after the answer had begun. */
export const incomplete = (cause?: unknown): ModelFailure =>
  failure("model_stream_incomplete", facts({ code: codeOfThrown(cause) }), { cause });

/** `ECONNREFUSED` and its like; the name of an error that has no code. */
const codeOfThrown = (cause: unknown): unknown => memberOf(cause, "code") ?? memberOf(cause, "name");

// What codes and types are made of; messages aren't read.
const quotaWords = /quota|billing|insufficient_(credit|balance|fund)|payment/i;
const contextWords = /context_?(length|size|window)/i;
const overloadWords = /overload|rate_?limit|unavailable|too_many_requests|capacity/i;
const timeoutWords = /time_?out|timed_out/i;
const rejectedWords =
  /invalid|bad_?request|authentication|unauthorized|permission|forbidden|not_?found|unsupported|content_?(filter|policy)/i;

/** An answer with a status other than 2xx. */
function fromStatus(error: APIError): ModelFailure {
  const status = error.status as number;
  const upstream = facts({ status, code: error.code, type: error.type });
  const retryAfterSeconds = retryAfter(error.headers);
  return failure(codeOfStatus(status, `${error.code} ${error.type}`), upstream, { retryAfterSeconds });
}

function codeOfStatus(status: number, words: string): ModelFailureCode {
  if (status === 402 || (status === 429 && quotaWords.test(words))) return "model_quota_exhausted";
  if (contextWords.test(words)) return "model_rejected";
  if (status === 429 || status === 503 || status === 529) return "model_overloaded";
  if (status === 408 || status === 504) return "model_timeout";
  if (status === 500) return "model_bad_response";
  // 502 and Cloudflare's 52x: a gateway is there, the model behind it isn't.
  return status > 500 ? "model_unreachable" : "model_rejected";
}

/**
 * An error object inside a stream or a body that began with status 200. Its forms: OpenAI's `{message, type, code}`,
 * llama.cpp's and vLLM's with a status as `code`, OpenRouter's with either, Ollama's bare string.
 */
export function fromErrorObject(error: unknown): ModelFailure {
  const code = memberOf(error, "code");
  const type = memberOf(error, "type");
  const status = Number(code) >= 400 && Number(code) <= 599 ? Number(code) : 200;
  return failure(codeOfErrorObject(status, `${code} ${type}`), facts({ status, code, type }));
}

function codeOfErrorObject(status: number, words: string): ModelFailureCode {
  if (quotaWords.test(words)) return "model_quota_exhausted";
  if (overloadWords.test(words)) return "model_overloaded";
  if (timeoutWords.test(words)) return "model_timeout";
  if (rejectedWords.test(words) || contextWords.test(words)) return "model_rejected";
  const code = status === 200 ? "model_bad_response" : codeOfStatus(status, words);
  // The answer had begun, so a server's plain failure is an answer that broke off.
  return code === "model_bad_response" || code === "model_unreachable" ? "model_stream_incomplete" : code;
}

/** Seconds asked for by `retry-after-ms` or `Retry-After` (a number or a date). */
function retryAfter(headers: Headers | undefined): number | undefined {
  const ms = Number(headers?.get("retry-after-ms") || Number.NaN);
  if (ms >= 0) return ms / 1000;
  const text = headers?.get("retry-after");
  if (!text) return undefined;
  const seconds = /^[\d.]+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

/** Only numbers and short identifiers pass: a code or a type must not carry text into the log. */
function facts(values: Record<string, unknown>): UpstreamFacts {
  const kept: UpstreamFacts = {};
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "number" || (typeof value === "string" && /^[\w.-]{1,64}$/.test(value))) {
      kept[name] = value;
    }
  }
  return kept;
}

const memberOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
