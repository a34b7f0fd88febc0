/**
 * Brings vectors up to date in the background: of what is stored now, then of what was stored before without them, or
 * with those of another model. Nothing waits for it. What it has done is kept, and what a crash leaves undone is found
 * again at the next start.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Claims } from "../claims.ts";
import type { Log } from "../log.ts";
import type { EmbeddingModel } from "../models/embeddings.ts";
import { ModelFailure } from "../models/model.ts";
import type { TextToEmbed, VectorSpace, VectorStore, WalkPosition } from "../storage/vector-store.ts";
import { cohort } from "./cohort.ts";
import type { Questions } from "./questions.ts";

const textsPerRequest = 32;
const requestsAtOnce = 4;
/** Between looks for new texts, where there were none. */
const idleMs = 500;
/** Between steps of the walk, which are quick where everything has its vector. */
const stepMs = 5;
/** How often another instance looks whether the one that does it has died. */
const takeOverMs = 5_000;
/** The wait after a failure; it doubles, less up to half of it by chance. */
const backoffMsMin = 500;
const backoffMsMax = 60_000;
/** A text that the model refuses is tried by shorter and shorter beginnings, down to this. */
const charsMin = 200;

export interface UpkeepServices {
  readonly store: VectorStore;
  /** One instance does it. */
  readonly claims: Claims;
  readonly questions: Questions;
  readonly log: Log;
}

export class VectorUpkeep {
  readonly #stopping = new AbortController();
  readonly #ended: Promise<void>;
  readonly #model: EmbeddingModel;

  /** Begins at once. */
  constructor(readonly services: UpkeepServices) {
    this.#model = services.questions.model;
    this.#ended = this.#run().catch((error) => {
      if (!this.#stopping.signal.aborted) throw error;
    });
  }

  /** Breaks off what is under way; resolves when nothing more is asked of the store. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { claims, questions, log } = this.services;
    const { signal } = this.#stopping;
    const space = await this.#persist(signal, () => questions.calibrate(signal));
    const { model, dimensions } = space;
    log.info({ event: "embedding", model, dimensions }, "texts are searched by vectors too");
    while (!signal.aborted) {
      await this.#persist(signal, () =>
        claims.during("vectors", signal, (held) => this.#keepUp(space, held)),
      );
      await sleep(takeOverMs, undefined, { signal });
    }
  }

  /** Until the signal is aborted. */
  async #keepUp(space: VectorSpace, signal: AbortSignal): Promise<void> {
    const { store, log } = this.services;
    let from: WalkPosition | null = null;
    let walked = false;
    let embedded = 0;
    const embedNew = async (): Promise<number> => {
      const texts = await store.newTexts(textsPerRequest * requestsAtOnce);
      await this.#embed(space, texts, signal);
      return texts.length;
    };
    const step = async (): Promise<void> => {
      const { texts, next } = await store.textsWithoutVector(space, from, textsPerRequest * requestsAtOnce);
      await this.#embed(space, texts, signal);
      embedded += texts.length;
      from = next;
      walked = next === null;
      if (walked)
        log.info({ event: "embedded", model: space.model, texts: embedded }, "all texts have vectors");
    };
    while (!signal.aborted) {
      if ((await this.#persist(signal, embedNew)) > 0) continue;
      if (!walked) await this.#persist(signal, step);
      await sleep(walked ? idleMs : stepMs, undefined, { signal });
    }
  }

  /** Does something until it succeeds. Rejects only when the signal is aborted. */
  async #persist<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    for (let backoffMs = backoffMsMin; ; backoffMs = Math.min(2 * backoffMs, backoffMsMax)) {
      try {
        return await task();
      } catch (error) {
        signal.throwIfAborted();
        const failure = error instanceof ModelFailure ? error : null;
        const asked = (failure?.retryAfterSeconds ?? 0) * 1000;
        const waitMs = Math.min(asked, backoffMsMax) + Math.ceil(backoffMs * (1 - Math.random() / 2));
        this.services.log.warn(
          {
            event: "embedding_failed",
            model: this.#model.name,
            ...(failure === null ? { err: error } : { code: failure.code, upstream: failure.upstream }),
            retry_in_ms: waitMs,
          },
          "texts not embedded yet",
        );
        await sleep(waitMs, undefined, { signal });
      }
    }
  }

  /** Embeds and saves texts, some requests at a time; what succeeds is saved though others fail. */
  async #embed(space: VectorSpace, texts: readonly TextToEmbed[], signal: AbortSignal): Promise<void> {
    const batches: Promise<void>[] = [];
    for (let start = 0; start < texts.length; start += textsPerRequest) {
      batches.push(this.#embedBatch(space, texts.slice(start, start + textsPerRequest), signal));
    }
    const failed = (await Promise.allSettled(batches)).find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
  }

  async #embedBatch(space: VectorSpace, batch: readonly TextToEmbed[], signal: AbortSignal): Promise<void> {
    const vectors = await this.#vectorsOf(
      batch.map(({ text }) => text),
      signal,
    );
    await this.services.store.saveVectors(
      space,
      batch.map(({ kind, n, mark }, index) => ({ kind, n, mark, values: vectors[index]! })),
    );
  }

  /** A vector for each text, or null where it is refused. */
  async #vectorsOf(texts: readonly string[], signal: AbortSignal): Promise<(Float32Array | null)[]> {
    try {
      return await this.#model.embed(texts, signal);
    } catch (error) {
      if (!mayBeTheText(error)) throw error;
      const vectors: (Float32Array | null)[] = [];
      for (const text of texts) vectors.push(await this.#vectorOf(text, signal));
      return vectors;
    }
  }

  async #vectorOf(text: string, signal: AbortSignal): Promise<Float32Array | null> {
    try {
      return (await this.#model.embed([text], signal))[0]!;
    } catch (error) {
      if (!mayBeTheText(error)) throw error;
      if (text.length > charsMin) return await this.#vectorOf(halfOf(text), signal);
      // Whether it is the text: the model took this one before.
      await this.#model.embed([cohort[0]!], signal);
      return null;
    }
  }
}

/** Whether a failure may be due to a text: llama.cpp answers one that is too long for it with 500. */
const mayBeTheText = (error: unknown): boolean =>
  error instanceof ModelFailure && [400, 413, 422, 500].includes(Number(error.upstream.status));

const halfOf = (text: string): string => {
  const half = text.slice(0, text.length / 2).toWellFormed();
  return half.trim() === "" ? text.trim().slice(0, charsMin).toWellFormed() : half;
};
