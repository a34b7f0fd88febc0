/**
 * The one table of everything that can go wrong in front of a client: code -> status, public title and, where the
 * same request may well succeed a little later, the seconds of `Retry-After`.
 * Code throws `new AppError("not_found")`; `http/problem.ts` is the only place that turns one into a response.
 */
const table = {
  invalid_request: [400, "The request is invalid"],
  malformed_json: [400, "The body is not valid JSON"],
  document_unreadable: [400, "The document can't be read"],
  unauthorized: [401, "A valid API key is needed"],
  forbidden: [403, "This request is not allowed"],
  not_found: [404, "There is no such thing here"],
  method_not_allowed: [405, "This method is not allowed here"],
  turn_in_progress: [409, "The conversation has a running turn"],
  backup_in_progress: [409, "Another backup is being taken", 10],
  payload_too_large: [413, "The body is too large"],
  unsupported_media_type: [415, "This media type is not taken here"],
  idempotency_key_reused: [422, "The Idempotency-Key was used with another request"],
  rate_limited: [429, "Too many requests"],
  budget_exhausted: [429, "The budget is used up"],
  internal: [500, "Something went wrong on the server"],
  model_rejected: [502, "The model refused the request"],
  model_unreachable: [502, "The model can't be reached"],
  model_bad_response: [502, "The model's answer made no sense"],
  model_stream_incomplete: [502, "The model's answer broke off"],
  model_overloaded: [503, "The model is overloaded"],
  model_quota_exhausted: [503, "The model's quota is used up"],
  model_timeout: [504, "The model was too slow"],
  overloaded: [503, "The service is overloaded", 5],
  storage_unavailable: [503, "The storage can't be used right now", 5],
  shutting_down: [503, "The service is shutting down", 5],
  turn_interrupted: [503, "The turn was interrupted"],
} as const satisfies Record<string, readonly [status: number, title: string, retryAfterSeconds?: number]>;

export type ErrorCode = keyof typeof table;

export const errorCodes = Object.keys(table) as ErrorCode[];

/** The HTTP status of a code. */
export const statusOf = (code: ErrorCode): number => table[code][0];

/** The short, public, constant message of a code. */
export const titleOf = (code: ErrorCode): string => table[code][1];

/** Whole seconds after which a retry makes sense; undefined where it makes none, or nobody knows when. */
export const retryAfterSecondsOf = (code: ErrorCode): number | undefined => table[code][2];

/** One fault of a bad request: where it is (`body.metadata.color`) and what is wrong, never the value itself. */
export interface Fault {
  path: string;
  message: string;
}

export interface ErrorDetails {
  /** A sentence for the client about this occurrence. Never holds user input, SQL or upstream text. */
  detail?: string;
  /** Every fault of a bad request. */
  faults?: Fault[];
  /** Further public members of the problem, such as `turn_id`. */
  members?: Record<string, unknown>;
  /** Further headers of the response. */
  headers?: Record<string, string>;
  /** Whether the same request would meet the same error again, even where the code's others may pass. */
  final?: boolean;
  /** Why, for the log alone. */
  cause?: unknown;
}

/** An error with a public face. Anything else that is thrown reaches the client as `internal`. */
export class AppError extends Error {
  override readonly name = "AppError";
  readonly detail: string;
  readonly faults: Fault[] | undefined;
  readonly members: Record<string, unknown> | undefined;
  readonly headers: Record<string, string> | undefined;
  readonly final: boolean;

  constructor(
    readonly code: ErrorCode,
    { detail, faults, members, headers, final = false, cause }: ErrorDetails = {},
  ) {
    super(code, { cause });
    this.detail = detail ?? `${titleOf(code)}.`;
    this.faults = faults;
    this.members = members;
    this.headers = headers;
    this.final = final;
  }
}
