/**
 * Nearest neighbours: the database chooses by the codes of a scope's vectors, a bit for each dimension, and what it chose
 * is compared exactly here.
 */
import { type Near, nearOf } from "../../search/similarity.ts";
import { codeOf, cosineOf, quantized } from "../quantize.ts";
import type { QuestionVector, VectorSpace } from "../vector-store.ts";

/** Codes that are looked at: the newest messages, the newest documents. */
const codesMax = 200_000;
/** Of these so many, in which the fewest bits differ, are told apart more finely. */
const nearMax = 2_048;
/** Bytes of vectors that are compared exactly: enough that hardly one of the nearest is missed. */
const comparedBytes = 512 * 256;
/** Longer vectors have longer codes, which tell more. */
const comparedMin = 96;
/** Of what is near by its code so much comes with its text; hardly ever is anything else among the best. */
export const nearWithText = 100;
/** What a question's values are counted as at most, against codes. */
const valueMax = 7;

const hexOf = (code: Uint8Array): string => `x${Buffer.from(code).toString("hex")}`;

/** A code as PostgreSQL takes it. */
export const bitsOf = (values: Float32Array, { center }: VectorSpace): string =>
  hexOf(codeOf(values, center));

/** A question's vector as the functions of 0006_vectors.sql take it. */
export const askedVector = (question: QuestionVector) => ({
  model: question.model,
  dimensions: question.dimensions,
  code: bitsOf(question.values, question),
  planes: planesOf(question),
  compared_max: Math.max(comparedMin, Math.floor(comparedBytes / question.dimensions)),
  near_max: nearMax,
  codes_max: codesMax,
});

/** See `nearness` in 0006_vectors.sql. */
function planesOf({ values, center }: QuestionVector): string[] {
  const sides = values.map((value, index) => value - center[index]!);
  const largest = sides.reduce((max, side) => Math.max(max, Math.abs(side)), 0);
  const raised = sides.map((side) => Math.round((side / largest) * valueMax) + valueMax);
  const half = new Float32Array(values.length).fill(0.5);
  return [0, 1, 2, 3].map((plane) =>
    hexOf(
      codeOf(
        raised.map((value) => (value >> plane) & 1),
        half,
      ),
    ),
  );
}

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
