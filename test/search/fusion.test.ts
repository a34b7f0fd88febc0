/** Rankings by words and by vectors become one. */
import { expect, test } from "bun:test";
import { fuse, fuseHits } from "../../src/search/fusion.ts";
import { coverageOf, zMin, zOf } from "../../src/search/similarity.ts";

test("what is first everywhere has a score of 1, and each rank less is worth less", () => {
  expect(fuse([["a", "b"], ["a"]])).toEqual([
    ["a", 1],
    ["b", 61 / 62 / 2],
  ]);
});

test("what both rankings hold comes before what one of them holds higher", () => {
  const fused = fuse([
    ["words", "both"],
    ["meaning", "other", "both"],
  ]);
  expect(fused.map(([item]) => item)).toEqual(["both", "words", "meaning", "other"]);
  for (const [index, [, score]] of fused.entries()) {
    expect(score).toBeWithin(0, 1);
    if (index > 0) expect(score).toBeLessThanOrEqual(fused[index - 1]![1]);
  }
});

test("nothing ranked is nothing found", () => {
  expect(fuse([[], []])).toEqual([]);
});

test("a hit covers as much of the question as its words or its nearness do, whichever is more", () => {
  const near = 4.5;
  const hits = fuseHits(
    [
      { key: 1, coverage: 0.9 },
      { key: 2, coverage: 0.1 },
    ],
    [
      { key: 2, z: near },
      { key: 3, z: near },
      { key: 1, z: near },
    ],
  );
  expect(Object.fromEntries(hits.map(({ key, coverage }) => [key, coverage]))).toEqual({
    1: 0.9,
    2: coverageOf(near),
    3: coverageOf(near),
  });
});

test("nearness is counted from what chance brings, and is never less than nothing or more than all", () => {
  expect([zMin - 1, zMin, 1_000].map(coverageOf)).toEqual([0, 0, 1]);
  expect(coverageOf(zMin + 2)).toBeGreaterThan(coverageOf(zMin + 1));
});

test("among many texts one has to be nearer than among few", () => {
  const unrelated = { mean: 0.5, deviation: 0.1 };
  expect(zOf(0.9, unrelated, 1)).toBeCloseTo(4);
  const zs = [100, 1_000, 100_000, 1_000_000].map((texts) => zOf(0.9, unrelated, texts));
  expect(zs[0]).toBeCloseTo(4);
  expect(zs).toEqual(zs.toSorted((a, b) => b - a));
  expect(zs[3]).toBeCloseTo(4 - (Math.sqrt(2 * Math.log(1e6)) - Math.sqrt(2 * Math.log(100))));
});
