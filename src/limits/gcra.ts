/**
 * Counts requests in memory by the generic cell rate algorithm (ITU-T I.371, "virtual scheduling"): a quota is one time,
 * at which it will be whole again, so that requests come back one by one and no window has an edge to crowd at.
 */
import type { Quota, RateLimiter, Taken } from "./rate-limiter.ts";

/** Sums of fractions are off by less than this. */
export const toleranceMs = 1e-3;

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
    const { aheadMs, ...taken } = oneMore(this.#aheadMs(name), quota);
    if (taken.allowed) this.know(name, aheadMs);
    return taken;
  }

  async look(name: string, quota: Quota): Promise<Taken> {
    const { aheadMs: _, ...taken } = oneMore(this.#aheadMs(name), quota);
    return taken;
  }

  /** Takes over how a quota stands elsewhere. */
  know(name: string, aheadMs: number): void {
    const now = this.nowMs();
    this.#wholeAtMs.delete(name);
    this.#wholeAtMs.set(name, now + aheadMs);
    this.#forget(now);
  }

  /** Until a quota is whole again. */
  #aheadMs(name: string): number {
    const now = this.nowMs();
    return Math.max(0, (this.#wholeAtMs.get(name) ?? now) - now);
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

/** One more request of a quota that will be whole in `beforeMs`, and in `aheadMs` where it is allowed. */
export function oneMore(beforeMs: number, { requests, windowSeconds }: Quota): Taken & { aheadMs: number } {
  const windowMs = windowSeconds * 1000;
  const eachMs = windowMs / requests;
  const afterMs = beforeMs + eachMs;
  const waitMs = afterMs - windowMs;
  const allowed = waitMs <= toleranceMs;
  const aheadMs = allowed ? afterMs : beforeMs;
  return {
    allowed,
    aheadMs,
    remaining: allowed ? Math.floor((windowMs - afterMs) / eachMs + 1e-6) : 0,
    resetSeconds: aheadMs / 1000,
    retryAfterSeconds: allowed ? 0 : waitMs / 1000,
  };
}
