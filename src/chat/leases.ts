/**
 * What lets many instances share a database: each keeps the turns that it runs by a lease, and ends those whose lease has
 * run out. From the death of an instance to the end of its turns it takes the lease and a look. Where the database was
 * away, so that nobody could renew, all leases may have run out: then everyone gets time to renew before any turn is ended.
 */
import type { Log } from "../log.ts";
import type { Relay } from "../storage/relay.ts";
import { endOrphans, type OrphanServices } from "./orphans.ts";

export const leaseSeconds = 10;
/** Must stay well below the lease, so that a slow database or two don't lose it. */
const renewalMs = 3_000;
const lookMs = 1_000;
/** Looks that lie further apart, because the database or this process was away, tell nothing of who is alive. */
const gapMsMax = 3_000;
/** So long looks must have gone well, without a gap. Must stay well above the renewal, so that who lives has renewed by then. */
const steadyMsMin = 6_000;
/** So long the end of an instance waits for the database: its leases run out anyway. */
const farewellMsMax = 2_000;

export interface LeaseServices extends OrphanServices {
  readonly relay: Relay | null;
  readonly log: Log;
}

/** The turns that run here. */
export interface LeasedTurns {
  ids(): string[];
  stop(turnId: string): void;
  /** Others have ended it. */
  lose(turnId: string): void;
  /** Shows what was withheld of the others while they might have been lost. */
  show(): void;
}

export class Leases {
  readonly #timers: Timer[];
  /** Whether others may have ended turns that run here. */
  #mayHaveLost = false;
  /** When this process was last known to be alive, by `performance.now()`. */
  #beatMs = performance.now();
  /** Whether it was paused, and hasn't renewed its leases since. */
  #paused = false;
  #looking: Promise<void> | null = null;
  /** When a look last went well, and since when they did without a gap, by `performance.now()`. */
  #lookedMs = Number.NEGATIVE_INFINITY;
  #steadySinceMs = 0;
  /** An outage is told once. */
  #failed = false;

  constructor(
    readonly services: LeaseServices,
    readonly turns: LeasedTurns,
  ) {
    const { relay } = services;
    this.#timers = [setInterval(() => void this.#renew(), renewalMs)];
    if (relay === null) return;
    this.#timers.push(
      setInterval(() => {
        this.#beat();
        this.#looking ??= this.#look();
      }, lookMs),
    );
    // Who asked for a turn to be stopped may not have been heard.
    relay.onReconnected(() => void this.#renew());
  }

  /** Whether this process was paused, so that others may have ended what runs here; known when the leases are renewed. */
  get mayBeLost(): boolean {
    if (this.services.relay === null) return false;
    return this.#paused || performance.now() - this.#beatMs > gapMsMax;
  }

  /** Lets go of the leases: no turn runs here any more. */
  async close(): Promise<void> {
    const { store, instanceId, log } = this.services;
    for (const timer of this.#timers) clearInterval(timer);
    const dropped = store.dropLeases(instanceId).catch((err) => log.warn({ err }, "leases not dropped"));
    await Promise.race([dropped, Bun.sleep(farewellMsMax)]);
  }

  #beat(): void {
    const nowMs = performance.now();
    const wasSilent = nowMs - this.#beatMs > gapMsMax;
    this.#beatMs = nowMs;
    if (!wasSilent) return;
    this.#paused = true;
    void this.#renew();
  }

  async #renew(): Promise<void> {
    const { store, instanceId, log } = this.services;
    // One that was under way during the pause says nothing of what came after.
    const isSince = this.#paused;
    if (this.turns.ids().length === 0) {
      this.#paused = false;
      return;
    }
    try {
      const { lapsed, to_stop } = await store.renewLeases(instanceId, leaseSeconds);
      for (const id of to_stop) this.turns.stop(id);
      this.#mayHaveLost ||= lapsed;
      if (this.#mayHaveLost) await this.#loseEnded();
      if (!isSince) return;
      this.#paused = false;
      this.turns.show();
    } catch (error) {
      log.error({ err: error }, "leases not renewed");
    }
  }

  /** Asks the models no more for turns that others have ended while this instance was silent. */
  async #loseEnded(): Promise<void> {
    const held = this.turns.ids().map((turn_id) => ({ turn_id, bytes: null }));
    const ended = (await this.services.relay?.news(held)) ?? [];
    for (const { turn_id } of ended) this.turns.lose(turn_id);
    this.#mayHaveLost = false;
  }

  async #look(): Promise<void> {
    const { store, instanceId, log } = this.services;
    const nowMs = performance.now();
    if (nowMs - this.#lookedMs > gapMsMax) this.#steadySinceMs = nowMs;
    try {
      if (nowMs - this.#steadySinceMs < steadyMsMin) await store.orphans(instanceId);
      else {
        const turns = await endOrphans(this.services);
        if (turns > 0) log.warn({ turns }, "turns of a dead instance ended as interrupted");
      }
      this.#lookedMs = performance.now();
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) log.error({ err: error }, "turns of dead instances not looked for");
      this.#failed = true;
    } finally {
      this.#looking = null;
    }
  }
}
