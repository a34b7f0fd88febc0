/**
 * From a question's terms to the rows worth ranking, at a cost that is bounded however much text there is. Of a rare
 * term all rows are taken. Of common ones, which have too many, those that hold all of them; where that is too few,
 * those that hold all but one, then pairs. How common a term is follows from how far back its newest rows reach.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { idf, type WeightedTerm } from "../../search/bm25f.ts";
import type { Term } from "../../search/terms.ts";

/** A term with fewer rows is rare; of others so many are looked at, the newest. */
const rowsMax = 400;
/** Common terms that are looked up together, the most telling ones. */
const combinedMax = 5;
/** Rows that are enough to choose from. */
const enough = 100;
/** Looser combinations are tried for so long: each goes through long lists. */
const relaxMsMax = 25;

export interface Candidates {
  /** Rows of the index. */
  rows: number[];
  terms: WeightedTerm[];
}

/** Rows that are in the index and must not be found (yet, or any more). */
export interface Hidden {
  /** A query that gives a row where there are any; mostly there are none, and nothing is asked of the others. */
  any: string;
  /** What to join with the index, `i`, so that they are left out. */
  without: string;
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

  // Words are letters and digits alone, so that there is no query syntax in them.
  const matching = ({ word, stem }: Term): string =>
    word === stem ? `${searched} : "${word}"` : `${searched} : ("${word}" OR "${stem}")`;

  /** @param scope an FTS5 expression over the scope column, that every row has to fulfil */
  return function candidates(scope: string, terms: readonly Term[]): Candidates {
    const lastRow = last.get()?.rowid ?? 0;
    const newest = newestShown !== null && anyHidden?.get() != null ? newestShown : newestOfAll;
    const rowsOf = (match: string): number[] => newest.all({ match }).map(({ rowid }) => rowid);
    const holding = (...all: Term[]): number[] => rowsOf([scope, ...all.map(matching)].join(" AND "));
    /** How many there are in all, taking them to be spread evenly. */
    const estimated = (rows: number[]): number =>
      rows.length < rowsMax ? rows.length : (rows.length * lastRow) / (lastRow - rows.at(-1)! + 1);

    const found = terms.map((term) => ({ term, rows: holding(term) }));
    const isCommon = ({ rows }: { rows: number[] }): boolean => rows.length === rowsMax;
    const rows = new Set(found.filter((each) => !isCommon(each)).flatMap(({ rows }) => rows));
    const common = found
      .filter(isCommon)
      .sort((a, b) => estimated(a.rows) - estimated(b.rows))
      .slice(0, combinedMax);
    const giveUpAt = performance.now() + relaxMsMax;
    for (const combination of combinationsOf(common.map(({ term }) => term))) {
      if (rows.size >= enough && performance.now() > giveUpAt) break;
      for (const row of holding(...combination)) rows.add(row);
      if (combination.length === common.length && rows.size >= enough) break;
    }
    // Where there is nothing but common words, and they don't come together.
    if (rows.size < enough) for (const row of common[0]?.rows ?? []) rows.add(row);
    const total = estimated(rowsOf(scope));
    return {
      rows: [...rows],
      terms: found.map(({ term, rows }) => ({ ...term, idf: idf(estimated(rows), total) })),
    };
  };
}

/** All terms, all but one, and pairs, of each kind those of the most telling terms first. */
function* combinationsOf(terms: readonly Term[]): Generator<Term[]> {
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
