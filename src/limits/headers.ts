/**
 * What is left of limits, in headers: `RateLimit-Policy` and `RateLimit` as
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ (draft 10) has them, lists of structured fields.
 */

export interface LimitState {
  /** What it is called: lower-case letters and dashes. */
  name: string;
  quota: number;
  remaining: number;
  /** How long the quota is for; null for what is in use at the same time. */
  windowSeconds: number | null;
  /** Until there is more of it; null where nobody knows. */
  resetSeconds: number | null;
  unit: "requests" | "concurrent-requests" | "tokens" | "nano-usd";
}

/** Adds limits to the headers of a response, after those that are there. */
export function addLimitHeaders(headers: Record<string, unknown>, states: readonly LimitState[]): void {
  if (states.length === 0) return;
  const add = (name: string, items: string[]): void => {
    const before = headers[name];
    headers[name] = [...(before === undefined ? [] : [before]), ...items].join(", ");
  };
  add("ratelimit-policy", states.map(policyOf));
  add("ratelimit", states.map(leftOf));
}

const policyOf = ({ name, quota, windowSeconds, unit }: LimitState): string =>
  [
    `"${name}"`,
    `q=${quota}`,
    ...(windowSeconds === null ? [] : [`w=${windowSeconds}`]),
    ...(unit === "requests" ? [] : [`qu="${unit}"`]),
  ].join(";");

const leftOf = ({ name, remaining, resetSeconds }: LimitState): string =>
  [`"${name}"`, `r=${Math.max(0, remaining)}`, ...(resetSeconds === null ? [] : [`t=${resetSeconds}`])].join(
    ";",
  );
