/** Whether this instance should get requests. */
import type { Store } from "../storage/store.ts";

/** Storage is asked at most this often, however often the probes come. */
const checkedEveryMs = 1_000;
const checkMsMax = 5_000;

export interface Check {
  status: "ok" | "failed";
  latency_ms: number;
}

export interface ReadinessReport {
  status: "ready" | "not_ready";
  checks: { serving: Check; storage: Check };
}

export class Readiness {
  #serving = true;
  #storage: Promise<Check> | null = null;
  #checkedMs = 0;

  constructor(readonly store: Store) {}

  /** From now on this instance isn't ready: it is about to shut down. */
  stopServing(): void {
    this.#serving = false;
  }

  async read(): Promise<ReadinessReport> {
    const nowMs = Date.now();
    if (this.#storage === null || nowMs - this.#checkedMs >= checkedEveryMs) {
      this.#checkedMs = nowMs;
      this.#storage = checkStorage(this.store);
    }
    const storage = await this.#storage;
    const serving: Check = { status: this.#serving ? "ok" : "failed", latency_ms: 0 };
    const ready = serving.status === "ok" && storage.status === "ok";
    return { status: ready ? "ready" : "not_ready", checks: { serving, storage } };
  }
}

async function checkStorage(store: Store): Promise<Check> {
  const startedMs = performance.now();
  const tooSlow = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => tooSlow.resolve(false), checkMsMax);
  const written = store.check().then(
    () => true,
    () => false,
  );
  const ok = await Promise.race([written, tooSlow.promise]);
  clearTimeout(timer);
  return {
    status: ok ? "ok" : "failed",
    latency_ms: Math.round((performance.now() - startedMs) * 1000) / 1000,
  };
}
