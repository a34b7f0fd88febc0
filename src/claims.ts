/**
 * Work in the background that one instance does at a time: while it holds the claim, which is renewed until the work is
 * done. Whoever dies lets go of it when its time is up, and another instance takes over.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "./log.ts";
import type { Store } from "./storage/store.ts";

/** So long nobody takes over what an instance had that has died. */
const claimSeconds = 15;
/** Renewals while a claim holds: so that a slow database or two don't lose it. */
const renewalsPerClaim = 3;

/** Work that is done again and again. */
export interface Recurring {
  /** Ends what is under way; resolves when nothing is. */
  close(): Promise<void>;
}

export class Claims {
  /** @param seconds so long a claim holds without being renewed */
  constructor(
    readonly store: Pick<Store, "claim" | "release">,
    readonly instanceId: string,
    readonly log: Log,
    readonly seconds: number = claimSeconds,
  ) {}

  /**
   * Does some work while no other instance does it; null where another one is at it, also where the claim was lost
   * before the work was done. One instance must not do the same task twice at once.
   * @param signal ends the work
   * @param work is to end soon when its own signal is aborted: others may be at it from then on
   * @throws storage_unavailable, and whatever the work throws
   */
  async during<T>(
    task: string,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T | null> {
    const { store, instanceId, log } = this;
    // Counted from before it was asked for, by a clock that stands still in nobody's hands: it never holds for longer.
    const holdsUntil = (): number => performance.now() + this.seconds * 1000;
    let until = holdsUntil();
    if (!(await store.claim(task, instanceId, this.seconds))) return null;
    const losing = new AbortController();
    const isLost = (): boolean => losing.signal.aborted;
    const lose = (): void => {
      if (!isLost())
        log.warn({ event: "claim_lost", task }, "work in the background is left to another instance");
      losing.abort();
    };
    const renew = async (): Promise<void> => {
      const next = holdsUntil();
      try {
        if (await store.claim(task, instanceId, this.seconds)) until = next;
        else lose();
      } catch (err) {
        log.warn({ task, err }, "claim not renewed yet");
      }
    };
    let renewal: Promise<void> | null = null;
    const renewing = setInterval(
      () => {
        // A claim whose time was up isn't taken again: others may have begun, and ended.
        if (performance.now() >= until) lose();
        else if (!isLost()) {
          renewal ??= renew().finally(() => {
            renewal = null;
          });
        }
      },
      (this.seconds * 1000) / renewalsPerClaim,
    );
    try {
      const result = await work(AbortSignal.any([signal, losing.signal]));
      return isLost() ? null : result;
    } catch (error) {
      if (isLost()) return null;
      throw error;
    } finally {
      clearInterval(renewing);
      // One that is on its way would take again what is let go of.
      await renewal;
      if (!isLost()) {
        await store
          .release(task, instanceId)
          .catch((err) => log.warn({ task, err }, "claim not released before its time is up"));
      }
    }
  }

  /** Does some work now and then every so often, one instance at a time. A failure is logged. */
  every(task: string, everyMs: number, work: (signal: AbortSignal) => Promise<void>): Recurring {
    const closing = new AbortController();
    const { signal } = closing;
    const run = async (): Promise<void> => {
      while (!signal.aborted) {
        try {
          await this.during(task, signal, work);
        } catch (err) {
          if (!signal.aborted) this.log.error({ task, err }, "work in the background has failed");
        }
        await sleep(everyMs, undefined, { signal, ref: false }).catch(() => {});
      }
    };
    const running = run();
    return {
      async close() {
        closing.abort();
        await running;
      },
    };
  }
}
