import { describe, expect, test } from "bun:test";
import { ndcgAt, recallAt, reciprocalRank } from "../../../bench/retrieval/metrics.ts";

const yes = true;
const no = false;

describe("recall", () => {
  test.each([
    [5, [yes, no, no, no, no, yes], 2, 1 / 2],
    [10, [yes, no, no, no, no, yes], 2, 1],
    [5, [no, no, no, no, no], 1, 0],
    [5, [], 3, 0],
    [1, [yes, yes, yes], 4, 1 / 4],
    [5, [no, yes], 1, 1],
  ])("at %i of %j with %i relevant in all is %d", (k, relevant, total, expected) => {
    expect(recallAt(k, relevant, total)).toBeCloseTo(expected, 12);
  });
});

describe("nDCG", () => {
  // 1 / log2(rank + 1) for the ranks 1 to 4: 1, 0.63093, 0.5, 0.43068.
  test.each([
    [10, [yes], 1, 1],
    [10, [no, yes], 1, 0.63093],
    [10, [no, no, yes], 1, 0.5],
    // (1 + 0.5) / (1 + 0.63093)
    [10, [yes, no, yes], 2, 0.91972],
    // (0.63093 + 0.43068) / (1 + 0.63093 + 0.5)
    [10, [no, yes, no, yes], 3, 0.49819],
    // The best order has no more than k places: (0.63093) / (1 + 0.63093)
    [2, [no, yes, yes], 3, 0.38685],
    [10, [no, no], 2, 0],
    [10, [], 1, 0],
  ])("at %i of %j with %i relevant in all is %d", (k, relevant, total, expected) => {
    expect(ndcgAt(k, relevant, total)).toBeCloseTo(expected, 4);
  });
});

describe("the reciprocal rank", () => {
  test.each([
    [[yes, yes], 1],
    [[no, no, no, yes, yes], 1 / 4],
    [[no, no], 0],
    [[], 0],
  ])("of %j is %d", (relevant, expected) => {
    expect(reciprocalRank(relevant)).toBeCloseTo(expected, 12);
  });
});
