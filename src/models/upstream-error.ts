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
  new ModelFailure(code, titleOf(code), {
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
  return failure("model_unreachable", facts({ code: memberOf(cause, "code") }), { cause });
}

/** A connection that broke, or a stream that ended, after the answer had begun. */
export const incomplete = (cause?: unknown): ModelFailure =>
  failure("model_stream_incomplete", facts({ code: memberOf(cause, "code") }), { cause });

const quotaCodes = /quota|billing|insufficient_(credit|balance|fund)|payment/i;
const overloadTypes = /overload|rate_?limit|unavailable|too_many_requests|capacity/i;
const rejectedTypes =
  /invalid|bad_?request|authentication|unauthorized|permission|forbidden|not_?found|unsupported|context_(length|size)|content_?(filter|policy)/i;
const timeoutTypes = /time_?out|timed_out/i;

/** An answer with a status other than 2xx. */
function fromStatus(error: APIError): ModelFailure {
  const status = error.status as number;
  const upstream = facts({ status, code: error.code, type: error.type });
  const retryAfterSeconds = retryAfter(error.headers);
  return failure(codeOfStatus(status, `${error.code} ${error.type}`), upstream, { retryAfterSeconds });
}

function codeOfStatus(status: number, words: string): ModelFailureCode {
  if (status === 402 || (status === 429 && quotaCodes.test(words))) return "model_quota_exhausted";
  if (status === 429 || status === 503 || status === 529) return "model_overloaded";
  if (status === 408 || status === 504) return "model_timeout";
  if (status === 500) return "model_bad_response";
  // 502 and Cloudflare's 52x: a gateway is there, the model behind it isn't.
  return status > 500 ? "model_unreachable" : "model_rejected";
}

/**
 * An error object inside a stream or a body that began with status 200. Its forms: OpenAI's `{message, type, code}`,
 * llama.cpp's and vLLM's with a number as `code`, OpenRouter's with either, Ollama's bare string.
 */
export function fromErrorObject(error: unknown): ModelFailure {
  const code = memberOf(error, "code");
  const type = memberOf(error, "type");
  const upstream = facts({ status: 200, code, type });
  const words = `${code} ${type}`;
  const status = Number(code);
  if (status >= 400 && status <= 599) {
    // The stream had begun: a plain server error is a stream that broke off.
    const known = codeOfStatus(status, words);
    const brokeOff = known === "model_bad_response" || known === "model_unreachable";
    return failure(brokeOff ? "model_stream_incomplete" : known, upstream);
  }
  if (quotaCodes.test(words)) return failure("model_quota_exhausted", upstream);
  if (overloadTypes.test(words)) return failure("model_overloaded", upstream);
  if (timeoutTypes.test(words)) return failure("model_timeout", upstream);
  if (rejectedTypes.test(words)) return failure("model_rejected", upstream);
  return failure("model_stream_incomplete", upstream);
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
