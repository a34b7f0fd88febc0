/** Counts requests in the database, for all instances together. */
import { setTimeout as sleep } from "node:timers/promises";
import type { LimitedBy } from "../../limits/admission.ts";
import { Gcra, oneMore, toleranceMs } from "../../limits/gcra.ts";
import type { Quota, RateLimiter, Taken } from "../../limits/rate-limiter.ts";
import { Database } from "./database.ts";

/** So long a request waits to be counted. */
const defaultWaitMsMax = 1_000;
/** So long the database isn't asked again where it gave no answer. */
const pauseMs = 1_000;
const connectionsMax = 2;
/** Requests that wait to be counted; what is beyond is counted here. */
const waitingMax = 10_000;
/** Rows of quotas that are whole again are nothing but waste. */
const clearMs = 60_000;

export interface RateLimits {
  readonly limiters: Record<LimitedBy, RateLimiter>;
  close(): Promise<void>;
}

/**
 * Connects when something is counted, on connections of its own: no slow query holds requests up.
 * @param onFailure hears why the database doesn't count, about once a second for each kind; each instance counts for
 * itself then
 */
export function openPostgresRateLimits(
  url: string,
  onFailure: (error: unknown) => void,
  waitMsMax = defaultWaitMsMax,
): RateLimits {
  const database = new Database(url, {
    connectionsMax,
    waitingMax,
    statementSecondsMax: waitMsMax / 1000,
    waitSecondsMax: waitMsMax / 1000,
  });
  const limiter = (kind: LimitedBy): PostgresRateLimiter =>
    new PostgresRateLimiter(database, kind, waitMsMax, onFailure);
  const limiters = {
    address: limiter("address"),
    unauthorized: limiter("unauthorized"),
    key: limiter("key"),
    user: limiter("user"),
  };
  const clearing = setInterval(() => {
    const counted = Object.values(limiters).filter((each) => each.counted());
    if (counted.length > 0) clearOld(database).catch(onFailure);
  }, clearMs);
  clearing.unref();
  return {
    limiters,
    async close() {
      clearInterval(clearing);
      await database.close();
    },
  };
}

/** Deletes the quotas that are whole again. */
export async function clearOld(database: Database): Promise<void> {
  await database.change(
    "delete from rate_limits where clock_timestamp() >= at + make_interval(secs => ahead_ms / 1000)",
  );
}

class PostgresRateLimiter implements RateLimiter {
  /** How quotas stood when the database last told, and what is counted by while it doesn't. */
  readonly #here = new Gcra();
  #askAgainMs = 0;
  #counted = false;

  constructor(
    readonly database: Database,
    readonly kind: LimitedBy,
    readonly waitMsMax: number,
    readonly onFailure: (error: unknown) => void,
  ) {}

  /** Whether anything was counted since it was last asked. */
  counted(): boolean {
    const counted = this.#counted;
    this.#counted = false;
    return counted;
  }

  async take(name: string, quota: Quota): Promise<Taken> {
    // Others can only have taken more: who is refused here is refused there, and asks nobody.
    const here = await this.#here.look(name, quota);
    if (!here.allowed) return here;
    const windowMs = quota.windowSeconds * 1000;
    const beforeMs = await this.#ask(
      "select take_request($name, $each_ms::float8, $window_ms::float8, $tolerance_ms::float8) as ahead_ms",
      {
        name: this.#hashOf(name),
        each_ms: windowMs / quota.requests,
        window_ms: windowMs,
        tolerance_ms: toleranceMs,
      },
    );
    if (beforeMs === null) return await this.#here.take(name, quota);
    this.#counted = true;
    return this.#told(name, beforeMs, quota, true);
  }

  async look(name: string, quota: Quota): Promise<Taken> {
    const here = await this.#here.look(name, quota);
    if (!here.allowed) return here;
    const beforeMs = await this.#ask("select quota_ahead_ms($name) as ahead_ms", {
      name: this.#hashOf(name),
    });
    return beforeMs === null ? here : this.#told(name, beforeMs, quota, false);
  }

  #told(name: string, beforeMs: number, quota: Quota, takes: boolean): Taken {
    const { aheadMs, ...taken } = oneMore(beforeMs, quota);
    this.#here.know(name, takes ? aheadMs : beforeMs);
    return taken;
  }

  /** Null where there is no answer in time. */
  async #ask(query: string, bindings: Record<string, string | number>): Promise<number | null> {
    if (performance.now() < this.#askAgainMs) return null;
    const given = new AbortController();
    try {
      const rows = await Promise.race([
        this.database.change<{ ahead_ms: number }>(query, bindings),
        sleep(this.waitMsMax, null, { signal: given.signal, ref: false }),
      ]);
      if (rows !== null) return rows[0]!.ahead_ms;
      this.onFailure(new Error(`the database took longer than ${this.waitMsMax} ms`));
    } catch (error) {
      this.onFailure(error);
    } finally {
      given.abort();
    }
    this.#askAgainMs = performance.now() + pauseMs;
    return null;
  }

  /** Addresses and users' names are nothing to keep. */
  #hashOf(name: string): string {
    return new Bun.CryptoHasher("sha256").update(`${this.kind}\0${name}`).digest("base64url");
  }
}
