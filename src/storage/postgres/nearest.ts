/**
 * Nearest neighbours: the database chooses by the codes of a scope's vectors, a bit for each dimension, and what it chose
 * is compared exactly here.
 */
import { type Near, nearOf } from "../../search/similarity.ts";
import { codeOf, cosineOf, quantized } from "../quantize.ts";
import type { QuestionVector, VectorSpace } from "../vector-store.ts";

/** Bytes of vectors that are compared exactly: enough that hardly one of the nearest is missed at 256 dimensions. */
const comparedBytes = 512 * 256;
/** Longer vectors have longer codes, which tell more. */
const comparedMin = 128;
/** Codes that are looked at: the newest messages, the newest documents. */
const codesMax = 200_000;
/** Of what is near by its code so much comes with its text; hardly ever is anything else among the best. */
export const nearWithText = 48;

/** A code as PostgreSQL takes it. */
export const bitsOf = (values: Float32Array, { center }: VectorSpace): string =>
  `x${Buffer.from(codeOf(values, center)).toString("hex")}`;

/** A question's vector as the functions of 0006_vectors.sql take it. */
export const askedVector = (question: QuestionVector) => ({
  model: question.model,
  dimensions: question.dimensions,
  code: bitsOf(question.values, question),
  compared_max: Math.max(comparedMin, Math.floor(comparedBytes / question.dimensions)),
  codes_max: codesMax,
});

/** What is near of what was chosen, best first. @param vectors one after the other, in the order of the keys */
export function nearest<Key>(
  question: QuestionVector,
  keys: readonly Key[],
  vectors: Uint8Array | null,
  texts: number,
): Near<Key>[] {
  if (vectors === null) return [];
  const asked = quantized(question.values);
  const { dimensions } = question;
  const compared = keys.map((key, index) => {
    const at = vectors.byteOffset + index * dimensions;
    return { key, cosine: cosineOf(asked, new Int8Array(vectors.buffer, at, dimensions)) };
  });
  return nearOf(compared, question.unrelated, texts);
}
