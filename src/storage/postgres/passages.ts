/** The search of documents: one look-up, which 0007_searches.sql does; what it finds is ranked here. */
import { TermCounter } from "../../search/bm25f.ts";
import { stemsOf, termsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";
import type { DocumentStore, FoundPassage } from "../document-store.ts";
import { rankPassages } from "../passage-ranking.ts";
import { type Database, toJson } from "./database.ts";
import { asked, countsOf, type Found, matching, nearIn, weightedTerms } from "./found.ts";

interface Row {
  n: number;
  document_id: string;
  name: string;
  heading: string;
  text: string;
  start: number;
  end: number;
  tokens: number;
  /** Whether it was found by words; else its code is near. */
  by_words: boolean;
  /** The terms that the passages before and after it hold, where they hold any: a bit for each. */
  near: number[];
}

export const createPassages = (database: Database): Pick<DocumentStore, "searchPassages"> => ({
  async searchPassages({ workspace_id, user_id, q, vector, collections, filter, limit }) {
    if (collections?.length === 0) return [];
    const terms = termsOf(cutWords(q));
    if (terms.length === 0 && vector === null) return [];
    const found = await database.row<Found<Row>>(
      "select rows, total, holding, near_rows, near_vectors, near_texts from search_passages($question::text::jsonb)",
      {
        question: toJson({ ...asked(terms, vector, limit), workspace_id, user_id, collections, filter }),
      },
    );
    if (!found?.rows) return [];
    const near = nearIn(found, vector);
    const rows = matching(found.rows, near);
    const known = new Map(rows.map((row) => [row.n, row]));
    const weighted = weightedTerms(terms, found);
    const counter = new TermCounter(weighted);
    return rankPassages(
      {
        terms: weighted,
        rows,
        unitOf: (row) => counter.unitOf(fieldsOf(row)),
        around: () => (row) => row.near.map((bits) => countsOf(weighted, bits)),
        near,
      },
      limit,
    ).map(({ key, score, coverage }) => toFound(known.get(key)!, score, coverage));
  },
});

function fieldsOf({ heading, text }: Row) {
  const words = cutWords(text);
  const above = cutWords(heading);
  return { words, stems: stemsOf(words), heading: `${above} ${stemsOf(above)}`.trim() };
}

const toFound = (
  { document_id, name, heading, text, start, end, tokens }: Row,
  score: number,
  coverage: number,
): FoundPassage => ({ document_id, name, heading, quote: text, start, end, tokens, score, coverage });
