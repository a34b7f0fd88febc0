/** Search in documents: what is looked at for a question. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { type Counts, TermCounter } from "../../search/bm25f.ts";
import { termsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";
import type { FoundPassage, PassageQuery } from "../document-store.ts";
import { rankPassages } from "../passage-ranking.ts";
import { anyOf, type Candidates, createCandidates, type IndexScope, noCandidates } from "./candidates.ts";
import type { Nearest } from "./nearest.ts";
import type { Packed } from "./packed.ts";
import { collectionToken, metadataToken, scopeCode } from "./scope.ts";

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
    if (scopes.length === 0) return [];
    const asked = termsOf(cutWords(query.q));
    const scope = indexScope(scopes.map(scopeCode), query);
    const found: Candidates = asked.length === 0 ? noCandidates : candidates(scope, asked, limit);
    const near = vector === null || nearest === null ? [] : nearest.passages(query, user_n, vector);
    const rows = byRow.all({
      rows: JSON.stringify([...found.rows, ...near.map(({ key }) => key)]),
      scopes: JSON.stringify(scopes),
    });
    const counter = new TermCounter(found.terms, scope.codes);
    const known = new Map(rows.map((row) => [row.n, row]));
    return rankPassages(
      {
        terms: found.terms,
        rows,
        unitOf: (row) => counter.unitOf({ words: row.words, stems: row.stems, heading: row.heading_words }),
        around: (best) => around(best, found),
        near: vector === null ? null : near,
      },
      limit,
    ).map(({ key, score, coverage }) => toFound(known.get(key)!, score, coverage));
  };

  function around(rows: readonly Row[], { heldBy }: Candidates): (row: Row) => Counts[] {
    const places = rows.flatMap(({ revision_n, seq }) => [
      [revision_n, seq - 1],
      [revision_n, seq + 1],
    ]);
    const held = new Map(
      neighbours
        .all({ places: JSON.stringify(places) })
        .map(({ n, revision_n, seq }) => [`${revision_n}:${seq}`, heldBy(n)]),
    );
    return ({ revision_n, seq }) =>
      [seq - 1, seq + 1].flatMap((at) => {
        const counts = held.get(`${revision_n}:${at}`);
        return counts === undefined ? [] : [counts];
      });
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
