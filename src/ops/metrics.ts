/**
 * What is counted, in Prometheus' terms. Labels are few, and each has a bounded number of values: what clients name
 * (models, paths, methods) becomes one of what is known, or `other`. Everything is told at an end, of a request, a turn
 * or a call; what has a present value is read when it is asked for.
 */
import Counter from "prom-client/lib/counter.js";
import Gauge from "prom-client/lib/gauge.js";
import Histogram from "prom-client/lib/histogram.js";
import Registry from "prom-client/lib/registry.js";
import type { EndedTurn } from "../chat/ended-turn.ts";
import type { EndedRequest } from "../http/requests.ts";
import type { ModelObserver } from "../models/observer.ts";

/** In seconds. */
const buckets = {
  request: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600],
  turn: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600],
  firstToken: [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60],
  store: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
};
const tokensPerSecondBuckets = [1, 2, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1_000];

/** Models that clients named and nobody configured, as labels. */
const otherModelsMax = 20;
/** What a model's name may be to be a label. */
const modelName = /^[\w.:/@-]{1,100}$/;

export class Metrics {
  readonly #registry = new Registry();
  readonly #models: Set<string>;
  readonly #modelsMax: number;
  readonly #requests = this.#counter("parley_http_requests_total", "Requests that were answered.", [
    "method",
    "route",
    "status",
  ]);
  readonly #requestSeconds = this.#histogram(
    "parley_http_request_duration_seconds",
    "From a request to the end of its response, of its stream where it is one.",
    buckets.request,
    ["route"],
  );
  readonly #turns = this.#counter("parley_turns_total", "Turns that ended here.", ["status", "model"]);
  readonly #turnFailures = this.#counter("parley_turn_errors_total", "Turns that ended with an error.", [
    "code",
  ]);
  readonly #turnSeconds = this.#histogram(
    "parley_turn_duration_seconds",
    "From a turn's start to its committed end.",
    buckets.turn,
    ["model"],
  );
  readonly #firstTokenSeconds = this.#histogram(
    "parley_turn_time_to_first_token_seconds",
    "From a turn's start to the first text of its reply.",
    buckets.firstToken,
    ["model"],
  );
  readonly #tokensPerSecond = this.#histogram(
    "parley_turn_tokens_per_second",
    "Tokens of a reply by the seconds from its first text to its end.",
    tokensPerSecondBuckets,
    ["model"],
  );
  readonly #tokens = this.#counter("parley_tokens_total", "Tokens that turns used.", ["kind", "model"]);
  readonly #cost = this.#counter("parley_cost_usd_total", "What turns cost, by the price table.", ["model"]);
  readonly #modelErrors = this.#counter("parley_model_errors_total", "Attempts at a model that failed.", [
    "kind",
    "code",
  ]);
  readonly #modelRetries = this.#counter(
    "parley_model_retries_total",
    "Attempts that failed and were followed by another: at the same model, or at a fallback.",
    ["code", "next"],
  );
  readonly #storeSeconds = this.#histogram(
    "parley_store_operation_duration_seconds",
    "Calls of the storage, as whoever made them waited: queues included.",
    buckets.store,
    ["operation"],
  );
  readonly #storeErrors = this.#counter("parley_store_errors_total", "Calls that the storage failed.", [
    "operation",
    "code",
  ]);

  /** @param models the configured ones, which are labels in any case */
  constructor(models: readonly string[]) {
    this.#models = new Set(models);
    this.#modelsMax = this.#models.size + otherModelsMax;
  }

  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;

  /** All metrics in Prometheus' text format, version 0.0.4. */
  exposition(): Promise<string> {
    return this.#registry.metrics();
  }

  requestEnded({ method, route, status, seconds }: EndedRequest): void {
    const pattern = route ?? "other";
    this.#requests.inc({ method, route: pattern, status: `${Math.floor(status / 100)}xx` });
    this.#requestSeconds.observe({ route: pattern }, seconds);
  }

  turnEnded({ turn, seconds, firstTokenSeconds, writingSeconds, tokens, cost }: EndedTurn): void {
    const model = this.#modelLabel(turn.model);
    this.#turns.inc({ status: turn.status, model });
    if (turn.error !== null) this.#turnFailures.inc({ code: turn.error.code });
    this.#turnSeconds.observe({ model }, seconds);
    if (firstTokenSeconds !== null) this.#firstTokenSeconds.observe({ model }, firstTokenSeconds);
    const { completion_tokens } = turn.usage;
    // A reply that came in one piece has no speed.
    if (writingSeconds !== null && writingSeconds > 0 && completion_tokens > 0) {
      this.#tokensPerSecond.observe({ model }, completion_tokens / writingSeconds);
    }
    for (const [kind, count] of Object.entries(tokens)) this.#tokens.inc({ kind, model }, count);
    if (cost !== null) this.#cost.inc({ model }, cost);
  }

  /** What counts the attempts at models. @param kind what they are for: `chat` or `embedding` */
  modelObserver(kind: string): ModelObserver {
    return {
      answered() {},
      failed: ({ code }, _, next) => {
        this.#modelErrors.inc({ kind, code });
        if (next !== "none") this.#modelRetries.inc({ code, next });
      },
    };
  }

  /** @param code of the failure; null where the call did what it should */
  storeCalled(operation: string, seconds: number, code: string | null): void {
    this.#storeSeconds.observe({ operation }, seconds);
    if (code !== null) this.#storeErrors.inc({ operation, code });
  }

  /** A value that is read whenever the metrics are; a name ending in `_total` only grows. */
  watch(name: string, help: string, read: () => number | Promise<number>): void {
    const collected = {
      name,
      help,
      registers: [this.#registry],
      async collect(this: Gauge | Counter) {
        const value = await read();
        this.reset();
        this.inc(value);
      },
    };
    if (name.endsWith("_total")) new Counter(collected);
    else new Gauge(collected);
  }

  /** The same for several values, by the one label that tells them apart. */
  watchEach(name: string, help: string, label: string, read: () => Readonly<Record<string, number>>): void {
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [this.#registry],
      collect() {
        for (const [value, count] of Object.entries(read())) this.set({ [label]: value }, count);
      },
    });
  }

  /** A histogram of seconds for what is measured elsewhere; what it returns takes the values. */
  seconds(name: string, help: string, bounds: readonly number[]): (seconds: number) => void {
    const histogram = this.#histogram(name, help, bounds, []);
    return (seconds) => histogram.observe(seconds);
  }

  #modelLabel(model: string): string {
    if (this.#models.has(model)) return model;
    if (this.#models.size >= this.#modelsMax || !modelName.test(model)) return "other";
    this.#models.add(model);
    return model;
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  #histogram(name: string, help: string, buckets: readonly number[], labelNames: string[]): Histogram {
    return new Histogram({ name, help, buckets: [...buckets], labelNames, registers: [this.#registry] });
  }
}
