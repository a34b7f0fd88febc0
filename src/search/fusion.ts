/** The rankings of the same things by words and by vectors become one. */
import { coverageOf } from "./similarity.ts";

/** How fast the weight of a rank falls: the value of the paper, which hardly matters. */
const k = 60;

/**
 * Reciprocal rank fusion (Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual
 * rank learning methods", SIGIR 2009). Only ranks count, because scores of different kinds don't compare.
 * @param rankings each best first
 * @returns all that is ranked, best first, each with a score: 1 where it is the first of every ranking
 */
export function fuse<Item>(rankings: readonly (readonly Item[])[]): [item: Item, score: number][] {
  const scores = new Map<Item, number>();
  for (const ranking of rankings) {
    ranking.forEach((item, index) => {
      scores.set(item, (scores.get(item) ?? 0) + (k + 1) / (k + 1 + index) / rankings.length);
    });
  }
  return [...scores].sort(([, one], [, other]) => other - one);
}

export interface Hit<Key> {
  key: Key;
  score: number;
  /** Which part of the question it holds, 0 to 1. */
  coverage: number;
}

/** Fuses what was found by words with what lies near, both best first. */
export function fuseHits<Key>(
  byWords: readonly { key: Key; coverage: number }[],
  byMeaning: readonly { key: Key; z: number }[],
): Hit<Key>[] {
  const coverages = new Map(byWords.map(({ key, coverage }) => [key, coverage]));
  for (const { key, z } of byMeaning) {
    coverages.set(key, Math.max(coverages.get(key) ?? 0, coverageOf(z)));
  }
  const keysOf = (hits: readonly { key: Key }[]): Key[] => hits.map(({ key }) => key);
  return fuse([keysOf(byWords), keysOf(byMeaning)]).map(([key, score]) => ({
    key,
    score,
    coverage: coverages.get(key) ?? 0,
  }));
}
