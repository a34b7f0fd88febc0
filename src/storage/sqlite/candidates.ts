/**
 * From a question's terms to the rows worth ranking, at a cost that is bounded however much text there is. Of a rare
 * term all rows are taken. Of common ones, which have too many, those that hold all of them; where that is too few,
 * those that hold all but one, then pairs. How common a term is follows from how far back its newest rows reach.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { type Counts, idf, type WeightedTerm } from "../../search/bm25f.ts";
import type { Term } from "../../search/terms.ts";

/** A term with fewer rows is rare; of others so many are looked at, the newest. */
const rowsMax = 400;
/** Common terms that are looked up together, the most telling ones. */
const combinedMax = 5;
/** Rows that are enough to choose from. */
const enough = 100;
/** So many rows, those that hold the most telling terms, are candidates where few are to be found. */
const candidatesMin = 60;
/** Looser combinations are tried for so long: each goes through long lists. */
const relaxMsMax = 25;

export interface Candidates {
  /** Rows of the index, those that hold the most telling terms. */
  rows: number[];
  terms: WeightedTerm[];
  /** Which terms any row of the scope holds, as far as was looked; of common terms the newest rows alone are known. */
  heldBy(row: number): Counts;
}

/** Where nothing is looked for. */
export const noCandidates: Candidates = { rows: [], terms: [], heldBy: () => [] };

/** Rows that are in the index and must not be found (yet, or any more). */
export interface Hidden {
  /** A query that gives a row where there are any; mostly there are none, and nothing is asked of the others. */
  any: string;
  /** What to join with the index, `i`, so that they are left out. */
  without: string;
}

/** Where terms are looked for. Expressions are FTS5's, over the `scope` column. */
export interface IndexScope {
  /** What every row of it fulfils. */
  all: string;
  /** What a row has to fulfil that holds one of the words; null where the codes say it all. */
  filter: string | null;
  /** What a word in the index begins with: one for each scope that is searched, an empty one where words are bare. */
  codes: readonly string[];
}

/**
 * @param table an FTS5 table with a `scope` column
 * @param columns what of it is searched
 */
export function createCandidates(
  db: Database,
  table: string,
  columns: readonly string[],
  hidden: Hidden | null = null,
) {
  const newestOf = (join: string) =>
    db.query<{ rowid: number }, SQLQueryBindings>(
      `select i.rowid from ${table} i ${join} where ${table} match $match order by i.rowid desc limit ${rowsMax}`,
    );
  const newestOfAll = newestOf("");
  const newestShown = hidden && newestOf(hidden.without);
  const anyHidden = hidden && db.query<unknown, []>(hidden.any);
  const last = db.query<{ rowid: number }, []>(`select rowid from ${table} order by rowid desc limit 1`);
  const searched = `{${columns.join(" ")}}`;

  /** @param limit how many are to be found: twice as many are candidates, if not more */
  return function candidates(
    { all, filter, codes }: IndexScope,
    terms: readonly Term[],
    limit: number,
  ): Candidates {
    const lastRow = last.get()?.rowid ?? 0;
    const newest = newestShown !== null && anyHidden?.get() != null ? newestShown : newestOfAll;
    const rowsOf = (...parts: string[]): number[] =>
      newest.all({ match: parts.join(" AND ") }).map(({ rowid }) => rowid);
    const matching = ({ word, stem }: Term): string =>
      `${searched} : ${anyOf(codes.flatMap((code) => (word === stem ? [code + word] : [code + word, code + stem])))}`;
    const inScope = filter === null ? [] : [filter];
    const holding = (...terms: Term[]): number[] => rowsOf(...inScope, ...terms.map(matching));
    /** How many there are in all, taking them to be spread evenly. */
    const estimated = (rows: number[]): number =>
      rows.length < rowsMax ? rows.length : (rows.length * lastRow) / (lastRow - rows.at(-1)! + 1);

    const found = terms.map((term, index) => ({ term, bit: 1 << index, rows: holding(term) }));
    const total = estimated(rowsOf(all));
    const weighted = found.map(({ term, rows }) => ({ ...term, idf: idf(estimated(rows), total) }));
    const isCommon = ({ rows }: { rows: number[] }): boolean => rows.length === rowsMax;
    const held = new Map<number, number>();
    const hold = (row: number, bits: number): void => {
      held.set(row, (held.get(row) ?? 0) | bits);
    };
    for (const each of found) if (!isCommon(each)) for (const row of each.rows) hold(row, each.bit);
    const common = found
      .filter(isCommon)
      .sort((a, b) => estimated(a.rows) - estimated(b.rows))
      .slice(0, combinedMax);
    const giveUpAt = performance.now() + relaxMsMax;
    for (const combination of combinationsOf(common)) {
      if (held.size >= enough && performance.now() > giveUpAt) break;
      const bits = combination.reduce((sum, { bit }) => sum | bit, 0);
      for (const row of holding(...combination.map(({ term }) => term))) hold(row, bits);
      if (combination.length === common.length && held.size >= enough) break;
    }
    // Where there is nothing but common words, and they don't come together.
    if (held.size < enough) for (const row of common[0]?.rows ?? []) hold(row, common[0]!.bit);
    for (const { rows, bit } of common) for (const row of rows) if (held.has(row)) hold(row, bit);
    return {
      rows: mostTelling(held, weighted, Math.max(candidatesMin, 2 * limit)),
      terms: weighted,
      heldBy: (row) => found.map(({ rows }) => (isAmong(rows, row) ? 1 : 0)),
    };
  };
}

/** @param rows newest first */
function isAmong(rows: readonly number[], row: number): boolean {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle]! > row) low = middle + 1;
    else high = middle;
  }
  return rows[low] === row;
}

/** An FTS5 expression for one of some words. They are letters and digits alone, so that there is no syntax in them. */
export const anyOf = (words: readonly string[]): string =>
  `(${words.map((word) => `"${word}"`).join(" OR ")})`;

/** The rows whose terms are the most telling ones, the newest of equals. @param held by row, a bit for each term */
function mostTelling(
  held: ReadonlyMap<number, number>,
  terms: readonly WeightedTerm[],
  rowsMax: number,
): number[] {
  if (held.size <= rowsMax) return [...held.keys()];
  const worths = new Map<number, number>();
  const worthOf = (bits: number): number => {
    let worth = worths.get(bits);
    if (worth === undefined) {
      worth = terms.reduce((sum, { idf }, index) => sum + ((bits >> index) & 1 ? idf : 0), 0);
      worths.set(bits, worth);
    }
    return worth;
  };
  return [...held]
    .map(([row, bits]) => ({ row, worth: worthOf(bits) }))
    .sort((a, b) => b.worth - a.worth || b.row - a.row)
    .slice(0, rowsMax)
    .map(({ row }) => row);
}

/** All terms, all but one, and pairs, of each kind those of the most telling terms first. */
function* combinationsOf<T>(terms: readonly T[]): Generator<T[]> {
  if (terms.length < 2) return;
  yield [...terms];
  if (terms.length > 3) {
    for (let left = terms.length - 1; left >= 0; left--) yield terms.filter((_, index) => index !== left);
  }
  if (terms.length < 3) return;
  for (const [index, term] of terms.entries()) {
    for (const other of terms.slice(index + 1)) yield [term, other];
  }
}
