/**
 * Measures of a ranked list with binary relevance. `relevant[i]` says whether the result at rank i + 1 is relevant,
 * `total` how many relevant items there are, found or not; it is at least 1.
 */

/**
 * The share of the relevant items that are among the first `k` results.
 * Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval" (2008), section 8.4.
 */
export const recallAt = (k: number, relevant: readonly boolean[], total: number): number =>
  relevant.slice(0, k).filter(Boolean).length / total;

/**
 * Normalised discounted cumulative gain of the first `k` results: the sum of 1 / log2(rank + 1) over relevant ranks,
 * divided by that of the best possible order.
 * Source: Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002, with the
 * discount as in trec_eval's `ndcg_cut` and in section 8.4 of the book above.
 */
export function ndcgAt(k: number, relevant: readonly boolean[], total: number): number {
  const gain = (ranks: readonly boolean[]): number =>
    ranks.slice(0, k).reduce((sum, hit, index) => sum + (hit ? 1 / Math.log2(index + 2) : 0), 0);
  return gain(relevant) / gain(Array(total).fill(true));
}

/**
 * One divided by the rank of the first relevant result, 0 where there is none; its mean over questions is the MRR.
 * Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999.
 */
export function reciprocalRank(relevant: readonly boolean[]): number {
  const first = relevant.indexOf(true);
  return first < 0 ? 0 : 1 / (first + 1);
}
