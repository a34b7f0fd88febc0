/**
 * Search in documents. A passage's headings and its neighbours count too: the words that a question uses often stand
 * above the answer, or right before it. Where the question has a vector, its ranking and that of the words are fused.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { type Ranked, rank, TermCounter, type Unit } from "../../search/bm25f.ts";
import { fuseHits } from "../../search/fusion.ts";
import { termsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";
import type { FoundPassage, PassageQuery } from "../document-store.ts";
import { anyOf, type Candidates, createCandidates, type IndexScope, noCandidates } from "./candidates.ts";
import type { Nearest } from "./nearest.ts";
import type { Packed } from "./quantize.ts";
import { collectionToken, metadataToken, scopeCode } from "./scope.ts";

const weights = { heading: 1.2, context: 0.3 };
/** Passages that are ranked with their neighbours, if not more are to be found: those that are best without them. */
const rankedMin = 32;

/** Passages of revisions that are still being stored, and of those that are replaced or deleted. */
const hiddenRevisions = `select n from document_revisions where status = 'processing'
  union all select n from document_revisions where document_n is null`;
const hiddenPassages = {
  any: `${hiddenRevisions} limit 1`,
  without: `cross join passages p on p.n = i.rowid and p.revision_n not in (${hiddenRevisions})`,
};

interface Row {
  n: number;
  revision_n: number;
  seq: number;
  document_id: string;
  name: string;
  heading: string;
  text: string;
  start: number;
  end: number;
  tokens: number;
  heading_words: string;
  words: string;
  stems: string;
}

interface Candidate extends Unit {
  row: Row;
}

/** @param nearest null where there are no vectors */
export function createPassageSearch(db: Database, nearest: Nearest | null) {
  const candidates = createCandidates(db, "passage_index", ["heading", "words", "stems"], hiddenPassages);
  const userOf = db.query<{ n: number }, SQLQueryBindings>(
    "select n from users where workspace_id = $workspace_id and user_id = $user_id",
  );
  const scopesOf = db.query<{ n: number }, SQLQueryBindings>(
    "select n from document_scopes where workspace_id = $workspace_id and coalesce(user_n, 0) in (0, $user_n)",
  );
  // Only passages of the revision that its document has now: none that is still being stored, none that was replaced.
  const byRow = db.query<Row, SQLQueryBindings>(
    `select p.n, p.revision_n, p.seq, d.id as document_id, d.name, p.heading, p.text, p.start, p.end, p.tokens,
       i.heading as heading_words, i.words, i.stems
     from passages p join document_revisions r on r.n = p.revision_n
       join documents d on d.n = r.document_n and d.revision_n = r.n join passage_index i on i.rowid = p.n
     where p.n in (select value from json_each($rows)) and d.scope_n in (select value from json_each($scopes))`,
  );
  const neighbours = db.query<{ n: number; revision_n: number; seq: number }, SQLQueryBindings>(
    `select p.n, p.revision_n, p.seq from json_each($places) place
     cross join passages p on p.revision_n = place.value ->> 0 and p.seq = place.value ->> 1`,
  );

  return function searchPassages(query: Packed<PassageQuery>): FoundPassage[] {
    const { workspace_id, user_id, collections, vector, limit } = query;
    if (collections?.length === 0) return [];
    const user_n = user_id === null ? null : (userOf.get({ workspace_id, user_id })?.n ?? null);
    const scopes = scopesOf.all({ workspace_id, user_n: user_n ?? 0 }).map(({ n }) => n);
    const asked = termsOf(cutWords(query.q));
    const scope = indexScope(scopes.map(scopeCode), query);
    const found: Candidates =
      asked.length === 0 || scopes.length === 0 ? noCandidates : candidates(scope, asked, limit);
    const near = vector === null || nearest === null ? [] : nearest.passages(query, user_n, vector);
    const rows = byRow.all({
      rows: JSON.stringify([...found.rows, ...near.map(({ key }) => key)]),
      scopes: JSON.stringify(scopes),
    });
    const byWords = inContext(found, scope, rows, limit);
    if (vector === null) {
      return byWords
        .slice(0, limit)
        .map(({ candidate: { row }, score, coverage }) => toFound(row, score, coverage));
    }
    const known = new Map(rows.map((row) => [row.n, row]));
    return fuseHits(
      byWords.map(({ candidate: { row }, coverage }) => ({ key: row.n, coverage })),
      near.filter(({ key }) => known.has(key)),
    )
      .slice(0, limit)
      .map(({ key, score, coverage }) => toFound(known.get(key)!, score, coverage));
  };

  /** The best passages by words, ranked with their neighbours. */
  function inContext(
    { terms, heldBy }: Candidates,
    { codes }: IndexScope,
    rows: readonly Row[],
    limit: number,
  ): Ranked<Candidate>[] {
    if (terms.length === 0) return [];
    const counter = new TermCounter(terms, codes);
    const alone = rows.map(
      (row): Candidate => ({
        row,
        ...counter.unitOf({ words: row.words, stems: row.stems, heading: row.heading_words }),
      }),
    );
    const best = rank(terms, alone, weights).slice(0, Math.max(rankedMin, limit));
    const places = best.flatMap(({ candidate: { row } }) => [
      [row.revision_n, row.seq - 1],
      [row.revision_n, row.seq + 1],
    ]);
    const near = new Map(
      neighbours
        .all({ places: JSON.stringify(places) })
        .map(({ n, revision_n, seq }) => [`${revision_n}:${seq}`, heldBy(n)]),
    );
    const units = best.map(({ candidate }): Candidate => {
      const { revision_n, seq } = candidate.row;
      const context = [seq - 1, seq + 1].flatMap((at) => {
        const counts = near.get(`${revision_n}:${at}`);
        return counts === undefined ? [] : [counts];
      });
      return { ...candidate, context };
    });
    return rank(terms, units, weights);
  }
}

function indexScope(codes: string[], { collections, filter }: Packed<PassageQuery>): IndexScope {
  const filters = [
    ...(collections === null ? [] : [anyOf(collections.map(collectionToken))]),
    ...Object.entries(filter ?? {}).map(([key, value]) => anyOf([metadataToken(key, value)])),
  ].map((tokens) => `{scope} : ${tokens}`);
  return {
    all: [`{scope} : ${anyOf(codes)}`, ...filters].join(" AND "),
    filter: filters.length === 0 ? null : filters.join(" AND "),
    codes,
  };
}

const toFound = (row: Row, score: number, coverage: number): FoundPassage => ({
  document_id: row.document_id,
  name: row.name,
  heading: row.heading,
  quote: row.text,
  start: row.start,
  end: row.end,
  tokens: row.tokens,
  score,
  coverage,
});
