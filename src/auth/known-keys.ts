/** What this instance knows of the keys of the database for a moment, so that most requests look nothing up. */
import type { Log } from "../log.ts";
import type { KeyRecord, KeyStore } from "../storage/key-store.ts";

/** A key that was revoked elsewhere works here for so long at most. */
const knownMs = 1_000;
const lookMs = 500;
/** How often the use of a key is noted. */
const useSeconds = 60;
/** Instances' clocks differ: so far back revoked keys are looked for. */
const overlapSeconds = 60;

interface Known {
  key: Promise<KeyRecord | null>;
  untilMs: number;
}

export class KnownKeys {
  readonly #byHash = new Map<string, Known>();
  /** Uses to be noted, and those of the last minute that were. */
  readonly #used = new Map<string, number>();
  readonly #noted = new Map<string, number>();
  readonly #ticker: Timer;
  #any: boolean;

  private constructor(
    readonly store: KeyStore,
    readonly log: Log,
    any: boolean,
    /** Hears of keys that were revoked, twice a second, and of each more than once. */
    readonly onLook: (revoked: string[]) => void,
  ) {
    this.#any = any;
    this.#ticker = setInterval(() => void this.look(), lookMs);
  }

  static async open(store: KeyStore, log: Log, onLook: (revoked: string[]) => void): Promise<KnownKeys> {
    return new KnownKeys(store, log, await store.hasKeys(), onLook);
  }

  /** Whether the database has ever had a key, as of a moment ago. */
  get any(): boolean {
    return this.#any;
  }

  /** Looks now whether it has. */
  async lookForAny(): Promise<boolean> {
    this.#any ||= await this.store.hasKeys();
    return this.#any;
  }

  /** The key with this hash that works now; null where there is none. Only those that work are kept in mind. */
  async working(hash: string): Promise<KeyRecord | null> {
    const nowMs = Date.now();
    let known = this.#byHash.get(hash);
    if (known === undefined || known.untilMs <= nowMs) {
      known = { key: this.store.keyOfHash(hash), untilMs: nowMs + knownMs };
      this.#byHash.set(hash, known);
    }
    const key = await known.key.catch((error) => {
      this.#byHash.delete(hash);
      throw error;
    });
    const now = nowMs / 1000;
    if (key === null || key.revoked_at !== null || (key.expires_at !== null && key.expires_at <= now)) {
      this.#byHash.delete(hash);
      return null;
    }
    const lastUse = this.#noted.get(key.id) ?? key.last_used_at ?? Number.NEGATIVE_INFINITY;
    if (now - lastUse >= useSeconds) this.#used.set(key.id, Math.floor(now));
    return key;
  }

  async close(): Promise<void> {
    clearInterval(this.#ticker);
    await this.#noteUses();
  }

  /** Looks now for what was made and revoked elsewhere; it does so twice a second anyway. */
  async look(): Promise<void> {
    const nowMs = Date.now();
    for (const [hash, { untilMs }] of this.#byHash) if (untilMs <= nowMs) this.#byHash.delete(hash);
    for (const [id, at] of this.#noted) if (at + useSeconds <= nowMs / 1000) this.#noted.delete(id);
    try {
      await this.lookForAny();
      const revoked = await this.store.keysRevokedSince(Math.floor(nowMs / 1000) - overlapSeconds);
      // Who comes back after their stream has ended finds nothing open.
      if (revoked.length > 0) this.#byHash.clear();
      this.onLook(revoked);
    } catch (err) {
      this.log.warn({ err }, "revoked keys not looked for");
    }
    await this.#noteUses();
  }

  /** Off the path of any request. */
  async #noteUses(): Promise<void> {
    if (this.#used.size === 0) return;
    const uses = [...this.#used].map(([id, at]) => ({ id, at }));
    for (const { id, at } of uses) this.#noted.set(id, at);
    this.#used.clear();
    try {
      await this.store.noteKeyUses(uses);
    } catch (err) {
      this.log.warn({ err, keys: uses.length }, "the use of keys not noted");
    }
  }
}
