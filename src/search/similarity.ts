/**
 * When a text is near enough to a question. What a cosine means differs from model to model (0.4 is much for one and
 * nothing for another) and from language to language: it is counted in standard deviations above the cosines of texts
 * that have nothing to do with the question (test normalisation, from speaker verification: Auckenthaler, Carey and
 * Lloyd-Thomas, "Score normalization for text-independent speaker verification systems", 2000).
 */

/** Less is taken for chance. */
export const zMin = 3;
/** As much as if all of the question's words were found; half of it is what a cited passage needs at least. */
const zOfWhole = 5.4;
/** Among so many texts, and fewer, `zMin` is enough. */
const textsFew = 100;

/** What the nearest of many unrelated texts comes to by chance: the expected maximum of normal deviates, about. */
const chanceOf = (texts: number): number => Math.sqrt(2 * Math.log(texts));

/**
 * A cosine in standard deviations above unrelated texts.
 * @param texts how many were compared: the more there are, the nearer one lies by chance, which is taken off
 */
export const zOf = (cosine: number, unrelated: { mean: number; deviation: number }, texts: number): number =>
  (cosine - unrelated.mean) / unrelated.deviation -
  (chanceOf(Math.max(texts, textsFew)) - chanceOf(textsFew));

/** Which part of a question a near text holds, 0 to 1, so that it compares with the part that words make up. */
export const coverageOf = (z: number): number => Math.max(0, Math.min(1, (z - zMin) / (zOfWhole - zMin)));

/** A text that is near a question, by what stands for it: see `zOf`. */
export interface Near<Key> {
  key: Key;
  z: number;
}

/** So many texts count as near at most. */
const nearMax = 100;

/** Those of compared texts that are near, best first. @param texts see `zOf` */
export const nearOf = <Key>(
  compared: readonly { key: Key; cosine: number }[],
  unrelated: { mean: number; deviation: number },
  texts: number,
): Near<Key>[] =>
  compared
    .map(({ key, cosine }) => ({ key, z: zOf(cosine, unrelated, texts) }))
    .filter(({ z }) => z >= zMin)
    .sort((one, other) => other.z - one.z)
    .slice(0, nearMax);
