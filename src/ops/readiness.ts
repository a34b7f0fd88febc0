/**
 * Whether this instance should get requests, and how its parts are. Only what no other instance could do better decides:
 * that it serves, and that it can store. A model that is down is down for every instance; turns then fail with its code,
 * while conversations, documents and running streams go on. Little room on the disk and work that lags are told before
 * they hurt.
 */
import { statfs } from "node:fs/promises";
import type { Store } from "../storage/store.ts";
import type { ModelHealth } from "./model-health.ts";

/** Storage and disk are asked at most this often, however often the probes come. */
const checkedEveryMs = 1_000;
const checkMsMax = 5_000;
const diskBytesMin = 64 * 1024 * 1024;

export interface Check {
  status: "ok" | "failed" | "unknown";
  /** How long the check took; of a model, how long its last answer took to begin. */
  latency_ms: number;
}

export interface ReadinessReport {
  status: "ready" | "not_ready";
  checks: {
    serving: Check;
    storage: Check;
    /** Only where the data is in a directory. */
    disk?: Check;
    background: Check;
    model: Check;
    /** Only where search is by vectors too. */
    embedding?: Check;
  };
}

export interface ReadinessParts {
  readonly store: Pick<Store, "check">;
  /** Null where the data is on another machine's disk. */
  readonly dataDir: string | null;
  readonly background: { readonly isBehind: boolean };
  /** Null where it needs no server, and so can't fail. */
  readonly model: ModelHealth | null;
  readonly embedding: ModelHealth | null;
}

const fine: Check = { status: "ok", latency_ms: 0 };
const failed: Check = { status: "failed", latency_ms: 0 };

export class Readiness {
  #serving = true;
  #checked: Promise<{ storage: Check; disk: Check | null }> | null = null;
  #checkedMs = 0;

  constructor(readonly parts: ReadinessParts) {}

  /** From now on this instance isn't ready: it is about to shut down. */
  stopServing(): void {
    this.#serving = false;
  }

  async read(): Promise<ReadinessReport> {
    const { background, model, embedding } = this.parts;
    const nowMs = Date.now();
    if (this.#checked === null || nowMs - this.#checkedMs >= checkedEveryMs) {
      this.#checkedMs = nowMs;
      this.#checked = this.#check();
    }
    const { storage, disk } = await this.#checked;
    const serving = this.#serving ? fine : failed;
    const ready = serving.status === "ok" && storage.status === "ok";
    return {
      status: ready ? "ready" : "not_ready",
      checks: {
        serving,
        storage,
        ...(disk !== null && { disk }),
        background: background.isBehind ? failed : fine,
        model: model?.check ?? fine,
        ...(embedding !== null && { embedding: embedding.check }),
      },
    };
  }

  async #check(): Promise<{ storage: Check; disk: Check | null }> {
    const { store, dataDir } = this.parts;
    const [storage, disk] = await Promise.all([
      timed(async () => {
        await store.check();
        return true;
      }),
      dataDir === null ? null : timed(async () => (await diskBytesAvailable(dataDir)) >= diskBytesMin),
    ]);
    return { storage, disk };
  }
}

/** Bytes that this process may still write there. @throws where the system doesn't tell */
export async function diskBytesAvailable(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** A check that throws, says no or takes too long has failed. */
async function timed(check: () => Promise<boolean>): Promise<Check> {
  const startedMs = performance.now();
  const tooSlow = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => tooSlow.resolve(false), checkMsMax);
  const ok = await Promise.race([check().catch(() => false), tooSlow.promise]);
  clearTimeout(timer);
  return {
    status: ok ? "ok" : "failed",
    latency_ms: Math.round((performance.now() - startedMs) * 1000) / 1000,
  };
}
