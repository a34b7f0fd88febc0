/**
 * Starts of turns of which nobody knows whether they were committed, because the database went away in between. Who asked
 * was told that the storage failed, and no instance runs the turn; where it is stored after all it would hold up its
 * conversation for as long as this instance lives, and so it is ended.
 */
import { AppError } from "../errors.ts";
import type { TurnStart } from "../storage/store.ts";
import { interruptedEnd } from "./orphans.ts";
import type { TurnServices } from "./running-turn.ts";

const lookMs = 1_000;
/** For so long a start may turn up: longer than the database lets a query run. */
const doubtMsMax = 120_000;
/** Beyond so many, which no instance starts in that time while all is well, the oldest are forgotten. */
const doubtfulMax = 10_000;
const askedAtOnce = 500;

interface Doubtful {
  message: string;
  sinceMs: number;
}

export class DoubtfulStarts {
  readonly #doubtful = new Map<string, Doubtful>();
  readonly #timer: Timer;
  #looking: Promise<void> | null = null;

  constructor(readonly services: TurnServices) {
    this.#timer = setInterval(() => {
      if (this.#doubtful.size > 0) this.#looking ??= this.#look();
    }, lookMs);
  }

  /** Hears of a start that failed. Where no other instance shares the storage it is known what became of it. */
  failed({ turn_id, message }: TurnStart, error: unknown): void {
    if (this.services.relay === null) return;
    if (!(error instanceof AppError) || error.code !== "storage_unavailable") return;
    this.#doubtful.set(turn_id, { message, sinceMs: performance.now() });
    if (this.#doubtful.size <= doubtfulMax) return;
    for (const oldest of this.#doubtful.keys()) return void this.#doubtful.delete(oldest);
  }

  /** What is still in doubt is ended by others, when the leases have run out. */
  close(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    try {
      const ids = [...this.#doubtful.keys()];
      for (let from = 0; from < ids.length; from += askedAtOnce) {
        await this.#settle(ids.slice(from, from + askedAtOnce));
      }
    } catch (err) {
      this.services.log.warn({ turns: this.#doubtful.size, err }, "starts in doubt not looked for");
    } finally {
      this.#looking = null;
    }
  }

  async #settle(ids: string[]): Promise<void> {
    const { relay, store, instanceId, prices, log } = this.services;
    const askedMs = performance.now();
    // Also of those of which there is no text.
    const found = (await relay?.news(ids.map((turn_id) => ({ turn_id, bytes: -1 })))) ?? [];
    for (const { turn_id, turn } of found) {
      const { message, sinceMs } = this.#doubtful.get(turn_id)!;
      if (turn === null && askedMs - sinceMs < doubtMsMax) continue;
      if (turn?.status === "running") {
        const { code, detail } = new AppError("storage_unavailable");
        const end = interruptedEnd({ turn, message }, { code, message: detail }, prices);
        await store.endTurn(turn_id, instanceId, end, Date.now());
        log.warn({ turn_id }, "a turn that was refused was stored after all, and is ended as interrupted");
      }
      this.#doubtful.delete(turn_id);
    }
  }
}
