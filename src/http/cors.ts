/**
 * Cross-origin requests (the Fetch standard, "HTTP extensions"): which pages of other origins may read answers. Keys
 * come in a header and never by themselves, so that no answer allows credentials.
 */

/** Methods and headers that pages may send. */
const allowed = {
  "access-control-allow-methods": "GET, HEAD, POST, PATCH, DELETE",
  "access-control-allow-headers":
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id, traceparent, tracestate",
  // Browsers keep it no longer than 2 hours.
  "access-control-max-age": "7200",
};

/** Headers of answers that pages may read, beside those that they always may. */
const exposed = [
  "X-Request-Id",
  "Location",
  "Retry-After",
  "RateLimit-Policy",
  "RateLimit",
  ...["limit", "remaining", "reset"].flatMap((what) => [
    `x-ratelimit-${what}-requests`,
    `x-ratelimit-${what}-tokens`,
  ]),
  "WWW-Authenticate",
  "Content-Disposition",
].join(", ");

export interface Cors {
  /** Whether an origin was named: `*` names none. */
  isNamed(origin: string): boolean;
  /** The headers that every answer to a request has to carry. */
  headersFor(request: Request): Record<string, string>;
  /** The answer to a preflight; null where the request is none, or of an origin that isn't allowed. */
  preflight(request: Request): Response | null;
}

/** @param origins exact ones, or `*` for any */
export function createCors(origins: readonly string[]): Cors {
  const named = new Set(origins);
  const isAny = named.has("*");
  const allows = (origin: string | null): origin is string => origin !== null && (isAny || named.has(origin));
  return {
    isNamed: (origin) => origin !== "*" && named.has(origin),

    headersFor({ headers }) {
      if (named.size === 0) return {};
      const origin = headers.get("origin");
      const vary: Record<string, string> = isAny ? {} : { vary: "Origin" };
      if (!allows(origin)) return vary;
      return {
        ...vary,
        "access-control-allow-origin": isAny ? "*" : origin,
        "access-control-expose-headers": exposed,
      };
    },

    preflight(request) {
      if (request.method !== "OPTIONS" || !request.headers.has("access-control-request-method")) return null;
      if (!allows(request.headers.get("origin"))) return null;
      return new Response(null, { status: 204, headers: allowed });
    },
  };
}
