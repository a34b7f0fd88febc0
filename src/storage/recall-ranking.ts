/**
 * How messages are ranked for recall. A message often says nothing by itself ("Yes, on Tuesday"), so the two before and
 * the two after it count as its context. Where the question has a vector, its ranking and that of the words are fused.
 */
import { type Counts, type Ranked, rank, type Unit, type WeightedTerm } from "../search/bm25f.ts";
import { fuseHits } from "../search/fusion.ts";
import type { Near } from "../search/similarity.ts";

const contextMessages = 2;
/** A neighbour's own neighbours are part of its context. */
export const neighboursReach = 2 * contextMessages;
/** Best matches whose neighbours are looked at: they may be the ones that answer. */
const spreadMax = 20;
const weights = { heading: 0, context: 0.35 };
/** A message of half this age counts as much less as one of this age does against none. */
const halfLifeDays = 180;
/** What age can take from a score at most. */
const ageShare = 0.25;

/** What of a message is ranked. */
export interface PlacedMessage {
  n: number;
  conversation_n: number;
  seq: number;
  created_at: number;
  tokens: number;
}

export interface RecallHit<Row> {
  row: Row;
  score: number;
  coverage: number;
}

/** A stretch of a conversation, from a seq to another. */
export type Stretch = [conversation_n: number, from: number, to: number];

/** What was looked up for a question. */
export interface RecallMatches<Row> {
  terms: readonly WeightedTerm[];
  /** What was found by words, and what lies near. */
  rows: readonly Row[];
  unitOf(row: Row): Unit;
  /** Which terms any message of the user holds, as far as was looked. */
  heldBy(n: number): Counts;
  /** Messages that recall may find, in stretches of conversations that don't overlap. */
  around(stretches: readonly Stretch[]): readonly Row[];
  /** Messages that are near the question, best first; null where it has no vector. */
  near: readonly Near<number>[] | null;
}

interface Candidate<Row> extends Unit {
  row: Row;
}

/** Ranks messages for a question, best first. @param isShown whether the model has it before it already */
export function rankRecalled<Row extends PlacedMessage>(
  matches: RecallMatches<Row>,
  isShown: (row: Row) => boolean,
  { now, limit }: { now: number; limit: number },
): RecallHit<Row>[] {
  const byWords = inContext(matches)
    .filter(({ candidate }) => !isShown(candidate.row))
    .map(({ candidate: { row }, score, coverage }) => ({
      row,
      score: score * freshness(row, now),
      coverage,
    }))
    .sort((a, b) => b.score - a.score);
  if (matches.near === null) return byWords.slice(0, limit);

  const rows = new Map([...matches.rows, ...byWords.map(({ row }) => row)].map((row) => [row.n, row]));
  const byMeaning = matches.near
    .flatMap(({ key, z }) => {
      const row = rows.get(key);
      return row === undefined ? [] : { key, z, score: z * freshness(row, now) };
    })
    .sort((a, b) => b.score - a.score);
  const fused = fuseHits(
    byWords.map(({ row, coverage }) => ({ key: row.n, coverage })),
    byMeaning,
  );
  return fused.slice(0, limit).map(({ key, ...hit }) => ({ row: rows.get(key)!, ...hit }));
}

/** Ranks messages by words, and those around the best of them too: they may be the ones that answer. */
function inContext<Row extends PlacedMessage>({
  terms,
  rows,
  unitOf,
  heldBy,
  around,
}: RecallMatches<Row>): Ranked<Candidate<Row>>[] {
  if (terms.length === 0) return [];
  const direct = new Map(
    rows.map((row): [number, Candidate<Row>] => [row.n, { row, ...unitOf(row), length: row.tokens }]),
  );
  const best = rank(terms, [...direct.values()], weights).slice(0, spreadMax);
  const placed = new Map(
    around(neighbourhood(best.map(({ candidate }) => candidate.row))).map((row): [string, Candidate<Row>] => [
      `${row.conversation_n}:${row.seq}`,
      direct.get(row.n) ?? { row, length: row.tokens, own: heldBy(row.n) },
    ]),
  );
  const units = [...placed.values()].map((unit): Candidate<Row> => {
    const { conversation_n, seq } = unit.row;
    const context: Counts[] = [];
    for (let step = -contextMessages; step <= contextMessages; step++) {
      const other = step === 0 ? undefined : placed.get(`${conversation_n}:${seq + step}`);
      if (other !== undefined) context.push(other.own);
    }
    return { ...unit, context };
  });
  return rank(terms, units, weights);
}

/** Where to look around each match. */
function neighbourhood(best: readonly PlacedMessage[]): Stretch[] {
  const matches = best.toSorted((a, b) => a.conversation_n - b.conversation_n || a.seq - b.seq);
  const stretches: Stretch[] = [];
  for (const { conversation_n, seq } of matches) {
    const last = stretches.at(-1);
    if (last?.[0] === conversation_n && seq - neighboursReach <= last[2] + 1) last[2] = seq + neighboursReach;
    else stretches.push([conversation_n, Math.max(1, seq - neighboursReach), seq + neighboursReach]);
  }
  return stretches;
}

function freshness({ created_at }: PlacedMessage, now: number): number {
  const days = Math.max(0, now - created_at) / 86_400;
  return 1 - ageShare * (1 - 0.5 ** (days / halfLifeDays));
}
