/** The texts that a question is compared with to learn what a model's cosines mean. */
import { cohortTexts } from "./cohort-texts.ts";

/** Of a language's texts these are left out, the nearest: they may have to do with the question after all. */
const leftOut = 2;
/** A model that places all texts alike says nothing, whatever its cosines. */
const deviationMin = 0.001;

const languages = Object.values(cohortTexts).map((texts) => texts.trim().split("\n"));

/** All of them, language by language. */
export const cohort: readonly string[] = languages.flat();

/**
 * Mean and standard deviation of a question's cosines with the texts of that language in which they are nearest, which
 * is its own or the most like it.
 * @param question of length 1
 * @param vectors those of `cohort`, in order, of length 1
 */
export function unrelatedTo(
  question: Float32Array,
  vectors: readonly Float32Array[],
): { mean: number; deviation: number } {
  const cosines = vectors.map((vector) =>
    vector.reduce((sum, value, index) => sum + value * question[index]!, 0),
  );
  let nearest = { mean: Number.NEGATIVE_INFINITY, deviation: deviationMin };
  let start = 0;
  for (const { length } of languages) {
    const kept = cosines
      .slice(start, start + length)
      .sort((a, b) => a - b)
      .slice(0, length - leftOut);
    start += length;
    const mean = meanOf(kept);
    if (mean <= nearest.mean) continue;
    const variance = meanOf(kept.map((cosine) => (cosine - mean) ** 2));
    nearest = { mean, deviation: Math.max(deviationMin, Math.sqrt(variance)) };
  }
  return nearest;
}

/** The mean of vectors. @param vectors at least one, all of one length */
export const centerOf = (vectors: readonly Float32Array[]): Float32Array =>
  vectors[0]!.map((_, index) => meanOf(vectors.map((vector) => vector[index]!)));

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
