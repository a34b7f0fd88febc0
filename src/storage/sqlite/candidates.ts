/**
 * From a question's terms to the rows worth ranking, at a cost that is bounded however much text there is: of each
 * term only the newest matches are looked at, and where a term has more than that, those that it shares with another
 * come along. How common a term is follows from how far back its newest matches reach.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { idf, type WeightedTerm } from "../../search/bm25f.ts";
import type { Term } from "../../search/terms.ts";

/** Matches of a term that are looked at. */
const matchesMax = 400;
/** Common terms whose shared matches are looked up, pair by pair. */
const pairedTermsMax = 6;

export interface Candidates {
  /** Rows of the index. */
  rows: number[];
  terms: WeightedTerm[];
}

/**
 * @param table an FTS5 table with a `scope` column
 * @param columns what of it is searched
 */
export function createCandidates(db: Database, table: string, columns: readonly string[]) {
  const newest = db.query<{ rowid: number }, SQLQueryBindings>(
    `select rowid from ${table} where ${table} match $match order by rowid desc limit $limit`,
  );
  const last = db.query<{ rowid: number }, []>(`select rowid from ${table} order by rowid desc limit 1`);
  const searched = `{${columns.join(" ")}}`;

  // Words are letters and digits alone, so that there is no query syntax in them.
  const matching = ({ word, stem }: Term): string =>
    word === stem ? `${searched} : "${word}"` : `${searched} : ("${word}" OR "${stem}")`;

  /** @param scope an FTS5 expression over the scope column, that every match has to fulfil */
  return function candidates(scope: string, terms: readonly Term[]): Candidates {
    const lastRow = last.get()?.rowid ?? 0;
    const matches = (expression: string): number[] =>
      newest.all({ match: `${scope} AND ${expression}`, limit: matchesMax }).map(({ rowid }) => rowid);
    /** How many there are in all, taking them to be spread evenly. */
    const estimated = (rows: number[]): number =>
      rows.length < matchesMax ? rows.length : (rows.length * lastRow) / (lastRow - rows.at(-1)! + 1);

    const total = estimated(newest.all({ match: scope, limit: matchesMax }).map(({ rowid }) => rowid));
    const found = terms.map((term) => ({ term, rows: matches(matching(term)) }));
    const rows = new Set(found.flatMap(({ rows }) => rows));
    const common = found
      .filter(({ rows }) => rows.length === matchesMax)
      .sort((a, b) => estimated(a.rows) - estimated(b.rows))
      .slice(0, pairedTermsMax);
    common.forEach(({ term }, index) => {
      for (const { term: other } of common.slice(index + 1)) {
        for (const row of matches(`${matching(term)} AND ${matching(other)}`)) rows.add(row);
      }
    });
    return {
      rows: [...rows],
      terms: found.map(({ term, rows }) => ({ ...term, idf: idf(estimated(rows), total) })),
    };
  };
}
