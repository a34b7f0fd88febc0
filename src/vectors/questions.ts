/** Questions as vectors. A turn waits for its own, so what takes long is done without, and what fails isn't asked again at once. */
import type { Log } from "../log.ts";
import type { EmbeddingModel } from "../models/embeddings.ts";
import { ModelFailure } from "../models/model.ts";
import { embeddedCharsMax, type QuestionVector, type VectorSpace } from "../storage/vector-store.ts";
import { centerOf, cohort, unrelatedTo } from "./cohort.ts";

/** A turn waits so long for its question's vector. */
const questionMsMax = 2_000;
/** After a failure turns go on without for so long; it doubles with each that follows. */
const pauseMsMin = 5_000;
const pauseMsMax = 60_000;

export class Questions {
  #cohort: Float32Array[] = [];
  #space: VectorSpace | null = null;
  #pauseMs = pauseMsMin;
  #pausedUntil = 0;

  constructor(
    readonly model: EmbeddingModel,
    private readonly log: Log,
  ) {}

  /** Learns what the model's cosines mean, which no question can do without. @throws ModelFailure, or the signal's reason */
  async calibrate(signal: AbortSignal): Promise<VectorSpace> {
    this.#cohort = await this.model.embed(cohort, signal);
    const center = centerOf(this.#cohort);
    this.#space = { model: this.model.name, dimensions: center.length, center };
    return this.#space;
  }

  /** The vector of a question; null where there is none in time. Never rejects. */
  async vectorOf(question: string): Promise<QuestionVector | null> {
    const text = question.slice(0, embeddedCharsMax).toWellFormed();
    if (this.#space === null || text.trim() === "" || Date.now() < this.#pausedUntil) return null;
    try {
      const [values] = await this.model.embed([text], AbortSignal.timeout(questionMsMax));
      this.#pauseMs = pauseMsMin;
      return { ...this.#space, values: values!, unrelated: unrelatedTo(values!, this.#cohort) };
    } catch (error) {
      this.#pause(error);
      return null;
    }
  }

  #pause(error: unknown): void {
    const now = Date.now();
    // Of turns that failed together one counts.
    if (now < this.#pausedUntil) return;
    this.#pausedUntil = now + this.#pauseMs;
    this.log.warn(
      {
        event: "question_not_embedded",
        model: this.model.name,
        ...(error instanceof ModelFailure
          ? { code: error.code, upstream: error.upstream }
          : { code: "model_timeout" }),
        pause_ms: this.#pauseMs,
      },
      "turns go on by words alone",
    );
    this.#pauseMs = Math.min(2 * this.#pauseMs, pauseMsMax);
  }
}
