/**
 * The port to an embedding model, which places texts in a space where those of like meaning lie in like directions.
 *
 * `embed` rejects with a `ModelFailure`, and nothing else, when the model fails, or with the signal's reason when the
 * caller aborts; nothing is retried here.
 */
export interface EmbeddingModel {
  readonly name: string;
  /** The length of its vectors, which the first answer tells, and all others keep to; null before. */
  readonly dimensions: number | null;
  /** A vector of length 1 for each text, in order. @param texts none of them blank */
  embed(texts: readonly string[], signal: AbortSignal): Promise<Float32Array[]>;
}
