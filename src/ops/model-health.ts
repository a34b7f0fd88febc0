/** How a model answered when it was asked last. It isn't asked for that: a probe would cost tokens. */
import { blamesRequest, type ModelFailure } from "../models/model.ts";
import type { ModelObserver } from "../models/observer.ts";
import type { Check } from "./readiness.ts";

export class ModelHealth implements ModelObserver {
  #last: Check = { status: "unknown", latency_ms: 0 };

  /** @param counting hears of the same */
  constructor(readonly counting: ModelObserver) {}

  /** `unknown` until it was asked. */
  get check(): Check {
    return this.#last;
  }

  answered(seconds: number): void {
    this.#last = { status: "ok", latency_ms: milliseconds(seconds) };
    this.counting.answered(seconds);
  }

  failed(failure: ModelFailure, seconds: number, next: "retry" | "fallback" | "none"): void {
    // Who refuses a request can answer another one.
    const status = blamesRequest(failure) ? "ok" : "failed";
    this.#last = { status, latency_ms: milliseconds(seconds) };
    this.counting.failed(failure, seconds, next);
  }
}

const milliseconds = (seconds: number): number => Math.round(seconds * 1e6) / 1e3;
