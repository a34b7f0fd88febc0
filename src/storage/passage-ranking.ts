/**
 * How passages are ranked for a question. Their headings and their neighbours count too: the words that a question uses
 * often stand above the answer, or right before it. Where the question has a vector, its ranking and that of the words
 * are fused.
 */
import { type Counts, type Ranked, rank, type Unit, type WeightedTerm } from "../search/bm25f.ts";
import { fuseHits, type Hit } from "../search/fusion.ts";
import type { Near } from "../search/similarity.ts";

const weights = { heading: 1.2, context: 0.3 };
/** Passages that are ranked with their neighbours, if not more are to be found: those that are best without them. */
const rankedMin = 32;

/** What was looked up for a question. */
export interface PassageMatches<Row> {
  terms: readonly WeightedTerm[];
  /** What was found by words, and what lies near. */
  rows: readonly Row[];
  unitOf(row: Row): Unit;
  /** Which terms the passages before and after some others hold, as far as was looked. */
  around(rows: readonly Row[]): (row: Row) => readonly Counts[];
  /** Passages that are near the question, best first; null where it has no vector. */
  near: readonly Near<number>[] | null;
}

interface Candidate<Row> extends Unit {
  row: Row;
}

/** Ranks passages for a question, best first; `key` is a row's n. */
export function rankPassages<Row extends { n: number }>(
  matches: PassageMatches<Row>,
  limit: number,
): Hit<number>[] {
  const byWords = inContext(matches, limit).map(({ candidate: { row }, score, coverage }) => ({
    key: row.n,
    score,
    coverage,
  }));
  if (matches.near === null) return byWords.slice(0, limit);
  const known = new Set(matches.rows.map(({ n }) => n));
  return fuseHits(
    byWords,
    matches.near.filter(({ key }) => known.has(key)),
  ).slice(0, limit);
}

/** The best passages by words, ranked with their neighbours. */
function inContext<Row extends { n: number }>(
  { terms, rows, unitOf, around }: PassageMatches<Row>,
  limit: number,
): Ranked<Candidate<Row>>[] {
  if (terms.length === 0) return [];
  const alone = rows.map((row): Candidate<Row> => ({ row, ...unitOf(row) }));
  const best = rank(terms, alone, weights).slice(0, Math.max(rankedMin, limit));
  const contextOf = around(best.map(({ candidate }) => candidate.row));
  const units = best.map(
    ({ candidate }): Candidate<Row> => ({ ...candidate, context: contextOf(candidate.row) }),
  );
  return rank(terms, units, weights);
}
