/**
 * What is left of limits, in headers: `RateLimit-Policy` and `RateLimit` as draft 10 of
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ has them, which are lists of structured fields,
 * and for requests `x-ratelimit-*-requests` as OpenAI has them, which its clients know.
 */

export interface LimitState {
  /** What it is called: lower-case letters and dashes. */
  name: string;
  quota: number;
  remaining: number;
  /** How long the quota is for; null for what is in use at the same time. */
  windowSeconds: number | null;
  /** Until the quota is whole again; null where nobody knows. */
  resetSeconds: number | null;
  unit: "requests" | "concurrent-requests" | "tokens" | "nano-usd";
}

/** The headers that tell how limits stand; none where there are none. */
export function limitHeaders(states: readonly LimitState[]): Record<string, string> {
  if (states.length === 0) return {};
  const [tightest] = states
    .filter(({ unit }) => unit === "requests")
    .toSorted((a, b) => a.remaining - b.remaining);
  return {
    "ratelimit-policy": states.map(policyOf).join(", "),
    ratelimit: states.map(leftOf).join(", "),
    ...(tightest && {
      "x-ratelimit-limit-requests": String(tightest.quota),
      "x-ratelimit-remaining-requests": String(tightest.remaining),
      "x-ratelimit-reset-requests": duration(tightest.resetSeconds ?? 0),
    }),
  };
}

const policyOf = ({ name, quota, windowSeconds, unit }: LimitState): string =>
  [
    `"${name}"`,
    `q=${quota}`,
    ...(windowSeconds === null ? [] : [`w=${windowSeconds}`]),
    ...(unit === "requests" ? [] : [`qu="${unit}"`]),
  ].join(";");

const leftOf = ({ name, remaining, resetSeconds }: LimitState): string =>
  [`"${name}"`, `r=${remaining}`, ...(resetSeconds === null ? [] : [`t=${Math.ceil(resetSeconds)}`])].join(
    ";",
  );

/** As OpenAI writes it: 120ms, 8.64s, 6m0s. */
function duration(seconds: number): string {
  if (seconds < 1) return `${Math.ceil(seconds * 1000)}ms`;
  const minutes = Math.floor(seconds / 60);
  const rest = `${Math.round((seconds - minutes * 60) * 1000) / 1000}s`;
  return minutes === 0 ? rest : `${minutes}m${rest}`;
}
