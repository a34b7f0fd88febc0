/** What the searches of 0007_searches.sql take and give. */
import { type Counts, idf, type WeightedTerm } from "../../search/bm25f.ts";
import type { Near } from "../../search/similarity.ts";
import type { Term } from "../../search/terms.ts";
import type { QuestionVector } from "../vector-store.ts";
import { indexedWord } from "./indexed.ts";
import { askedVector, nearest, nearWithText } from "./nearest.ts";

/** So many rows, those that hold the most telling terms, are candidates where few are to be found. */
const candidatesMin = 60;

export interface Found<Row> {
  /** Null where there are none. */
  rows: Row[] | null;
  /** How many texts there are, and how many hold each term; null where nothing was looked for by words. */
  total: number | null;
  holding: number[] | null;
  near_rows: string[] | null;
  near_vectors: Buffer | null;
  near_texts: number | null;
}

/** The part of a question that all searches share. */
export const asked = (terms: readonly Term[], vector: QuestionVector | null, limit: number) => ({
  words: terms.map(({ word }) => indexedWord(word)),
  stems: terms.map(({ stem }) => indexedWord(stem)),
  vector: vector && askedVector(vector),
  candidates_max: Math.max(candidatesMin, 2 * limit),
  near_max: nearWithText,
});

export const weightedTerms = (terms: readonly Term[], { total, holding }: Found<unknown>): WeightedTerm[] =>
  holding === null ? [] : terms.map((term, index) => ({ ...term, idf: idf(holding[index]!, total!) }));

/** @param bits one for each of the terms */
export const countsOf = (terms: readonly Term[], bits: number): Counts =>
  terms.map((_, index) => (bits >> index) & 1);

export const nearIn = (found: Found<unknown>, vector: QuestionVector | null): Near<number>[] | null =>
  vector && nearest(vector, (found.near_rows ?? []).map(Number), found.near_vectors, found.near_texts ?? 0);

/** What was found by words or is near: of others only the code is. */
export function matching<Row extends { n: number; by_words: boolean }>(
  rows: readonly Row[],
  near: readonly Near<number>[] | null,
): Row[] {
  const keys = new Set(near?.map(({ key }) => key));
  return rows.filter(({ n, by_words }) => by_words || keys.has(n));
}
