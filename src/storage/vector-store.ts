/**
 * The part of the storage port that keeps vectors: what an embedding model makes of messages, memories and passages.
 * They are derived data. Whoever deletes a text deletes its vector, and a text that was changed has none.
 */
import type { UserScope } from "./memory-store.ts";

/** The vectors of one model, all of one length: no others compare. */
export interface VectorSpace {
  model: string;
  dimensions: number;
  /** Where texts of all kinds lie on average, which is far from the origin with many models. */
  center: Float32Array;
}

/** A question as the embedding model has it. */
export interface QuestionVector extends VectorSpace {
  values: Float32Array;
  /** Cosines of the question and texts that have nothing to do with it. */
  unrelated: { mean: number; deviation: number };
}

/** A text that bears on a question: its cosine, in standard deviations above that of unrelated texts. */
export interface NearMemory {
  id: string;
  z: number;
}

/** Characters of a text that are embedded: about as many as small models read. */
export const embeddedCharsMax = 2_000;

export interface TextToEmbed {
  kind: "message" | "memory" | "passage";
  n: number;
  /** Changes with the text, so that no text gets the vector of another. */
  mark: string;
  /** Its beginning. */
  text: string;
}

export interface NewVector extends Omit<TextToEmbed, "text"> {
  /** Null where the model refuses the text: it isn't offered again. */
  values: Float32Array | null;
}

/** How far a walk through all texts has come. */
export interface WalkPosition {
  kind: TextToEmbed["kind"];
  after: number;
}

export interface VectorStore {
  /**
   * Texts that have no vector yet and were stored since this was first asked, by whatever instance, oldest first; there
   * may be some of before among them.
   */
  newTexts(limit: number): Promise<TextToEmbed[]>;
  /**
   * A step of a walk through everything that was stored before: texts without a vector of this space, and where to go
   * on; null at the end. A step may find none.
   * @param from null begins
   */
  textsWithoutVector(
    space: VectorSpace,
    from: WalkPosition | null,
    limit: number,
  ): Promise<{ texts: TextToEmbed[]; next: WalkPosition | null }>;
  /** Keeps vectors of texts that are still there and the same; a text's vector of another space goes. */
  saveVectors(space: VectorSpace, vectors: readonly NewVector[]): Promise<void>;
  /** Those of a user's memories that hold and bear on a question, best first. */
  nearMemories(user: UserScope, question: QuestionVector): Promise<NearMemory[]>;
}
