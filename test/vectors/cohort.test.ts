/** What a model's cosines mean, learnt from texts that have nothing to do with each other. */
import { describe, expect, test } from "bun:test";
import { zMin, zOf } from "../../src/search/similarity.ts";
import { centerOf, cohort, unrelatedTo } from "../../src/vectors/cohort.ts";
import { cohortTexts } from "../../src/vectors/cohort-texts.ts";
import { vectorOf } from "../support/embedding-vectors.ts";

const languages = Object.values(cohortTexts).map((texts) => texts.trim().split("\n"));
const cosineOf = (one: Float32Array, other: Float32Array): number =>
  one.reduce((sum, value, index) => sum + value * other[index]!, 0);

const unit = (values: number[]): Float32Array => {
  const length = Math.hypot(...values);
  return Float32Array.from(values, (value) => value / length);
};

test("the texts are as many in each language, all different, and none blank", () => {
  for (const texts of languages) expect(texts).toHaveLength(16);
  expect(new Set(cohort).size).toBe(cohort.length);
  for (const text of cohort) expect(text.trim()).toBe(text);
});

/** A model that leans to one side: all its vectors have much in common, those of a language more. Others are English. */
function leaning(text: string, lean: number): Float32Array {
  const language = Math.max(
    0,
    languages.findIndex((texts) => texts.includes(text)),
  );
  const own = vectorOf(text);
  const common = Array.from(own, (_, index) => {
    if (index === 0) return lean;
    return index === language + 1 ? lean / 2 : 0;
  });
  return unit(own.map((value, index) => value + common[index]!));
}

describe.each([0, 1, 4])("with a model that leans by %d", (lean) => {
  const vectors = cohort.map((text) => leaning(text, lean));
  const question = leaning("Which automobile did dad acquire?", lean);
  const unrelated = unrelatedTo(question, vectors);
  const zTo = (text: string): number => zOf(cosineOf(question, leaning(text, lean)), unrelated, 1);

  test("what means the like is far above what doesn't", () => {
    expect(zTo("My father purchased a small red vehicle at the fair.")).toBeGreaterThan(zMin + 2);
    expect(zTo("Tomorrow the tomatoes must be watered again.")).toBeLessThan(zMin);
  });
});

test("the question's language counts, in which unrelated texts are nearer than in others", () => {
  const vectors = cohort.map((text) => leaning(text, 2));
  const german = leaning(languages[1]![0]!, 2);
  const unrelated = unrelatedTo(german, vectors);
  const english = vectors.slice(0, 16).map((vector) => cosineOf(german, vector));
  expect(unrelated.mean).toBeGreaterThan(Math.max(...english));
});

test("a text that has to do with the question after all takes nothing from its nearness", () => {
  const vectors = cohort.map((text) => leaning(text, 2));
  for (const twin of [vectors[3]!, vectors[77]!]) {
    expect(zOf(cosineOf(twin, twin), unrelatedTo(twin, vectors), 1)).toBeGreaterThan(zMin + 3);
  }
});

test("a model that places all texts alike finds nothing", () => {
  const vector = unit([1, 2, 3]);
  const unrelated = unrelatedTo(
    vector,
    cohort.map(() => vector),
  );
  expect(unrelated.deviation).toBeGreaterThanOrEqual(0.001);
  expect(zOf(cosineOf(vector, vector), unrelated, 1)).toBeLessThan(zMin);
});

test("the center is the mean", () => {
  expect([...centerOf([Float32Array.of(1, 2), Float32Array.of(3, -2)])]).toEqual([2, 0]);
});
