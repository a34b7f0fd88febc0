/** Who hears how attempts at a model go, once for each and never at a token. */

import type { EmbeddingModel } from "./embeddings.ts";
import { ModelFailure } from "./model.ts";

export interface ModelObserver {
  /** It began to answer. @param seconds after it was asked */
  answered(seconds: number): void;
  /** @param next what is done about it: the same model once more, another one, or nothing */
  failed(failure: ModelFailure, seconds: number, next: "retry" | "fallback" | "none"): void;
}

/** The same embedding model, whose requests are heard of. */
export function observedEmbeddings(model: EmbeddingModel, observer: ModelObserver): EmbeddingModel {
  return {
    name: model.name,
    get dimensions() {
      return model.dimensions;
    },
    async embed(texts, signal) {
      const startedMs = performance.now();
      const seconds = (): number => (performance.now() - startedMs) / 1000;
      try {
        const vectors = await model.embed(texts, signal);
        observer.answered(seconds());
        return vectors;
      } catch (error) {
        if (error instanceof ModelFailure) observer.failed(error, seconds(), "none");
        // A question that would have made its turn wait.
        else if (signal.reason?.name === "TimeoutError")
          observer.failed(new ModelFailure("model_timeout", ""), seconds(), "none");
        throw error;
      }
    },
  };
}
