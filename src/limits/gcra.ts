/**
 * Counts requests in memory by the generic cell rate algorithm (ITU-T I.371, "virtual scheduling"): a quota is one time,
 * at which it will be whole again, so that requests come back one by one and no window has an edge to crowd at.
 */
import type { Quota, RateLimiter, Taken } from "./rate-limiter.ts";

/** Names that are kept: a hundred bytes or two each. */
const defaultNamesMax = 100_000;

export class Gcra implements RateLimiter {
  /** By name, when its quota is whole again, in ms; last used last. */
  readonly #wholeAtMs = new Map<string, number>();

  /**
   * @param namesMax how many quotas are kept. Those that are whole again needn't be; beyond that the one that was not used
   * for the longest time is forgotten.
   */
  constructor(
    readonly namesMax = defaultNamesMax,
    readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** How many quotas are kept right now. */
  get size(): number {
    return this.#wholeAtMs.size;
  }

  async take(name: string, quota: Quota): Promise<Taken> {
    const now = this.nowMs();
    const before = this.#wholeAtMs.get(name) ?? now;
    const { wholeAt, ...taken } = scheduled(before, now, quota);
    if (taken.allowed) {
      this.#wholeAtMs.delete(name);
      this.#wholeAtMs.set(name, wholeAt);
      this.#forget(now);
    }
    return taken;
  }

  async look(name: string, quota: Quota): Promise<Taken> {
    const now = this.nowMs();
    const { wholeAt: _, ...taken } = scheduled(this.#wholeAtMs.get(name) ?? now, now, quota);
    return taken;
  }

  /** Some of those that are whole again, a few at each request, and what is too much. */
  #forget(now: number): void {
    let looked = 0;
    for (const [name, wholeAt] of this.#wholeAtMs) {
      const isTooMany = this.#wholeAtMs.size > this.namesMax;
      if (!isTooMany && (wholeAt > now || ++looked > 2)) return;
      this.#wholeAtMs.delete(name);
    }
  }
}

/** One more request of a quota that is whole at a time. */
function scheduled(wholeAtMs: number, now: number, { requests, windowSeconds }: Quota) {
  const windowMs = windowSeconds * 1000;
  const eachMs = windowMs / requests;
  const due = Math.max(wholeAtMs, now);
  const wholeAt = due + eachMs;
  const waitMs = wholeAt - windowMs - now;
  // Sums of fractions are off by less than this.
  const allowed = waitMs <= 1e-3;
  return {
    allowed,
    wholeAt,
    remaining: allowed ? Math.floor((windowMs - (wholeAt - now)) / eachMs + 1e-6) : 0,
    resetSeconds: ((allowed ? wholeAt : due) - now) / 1000,
    retryAfterSeconds: allowed ? 0 : waitMs / 1000,
  };
}
