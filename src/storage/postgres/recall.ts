/**
 * Recall: one look-up, which 0007_searches.sql does; what it finds is ranked here. Only where a very long message is among
 * what is recalled, its whole text takes a second one.
 */
import { TermCounter, type Unit } from "../../search/bm25f.ts";
import { stemmed, termsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";
import type { MemoryStore, RecalledMessage } from "../memory-store.ts";
import { neighboursReach, type PlacedMessage, type RecallHit, rankRecalled } from "../recall-ranking.ts";
import type { MessageRecord } from "../store.ts";
import { type Database, toJson } from "./database.ts";
import { asked, countsOf, type Found, matching, nearIn, weightedTerms } from "./found.ts";

/** In the beginning of a long message words are counted; what lies beyond counts once. */
const matchCharsMax = 8_000;
/** So many of those whose codes are nearest come with the messages around them, as all do that were found by words. */
const nearSpread = 16;
/** Messages around a match come with their text where it isn't longer. */
const neighbourCharsMax = 2_000;

interface Row extends PlacedMessage, MessageRecord {
  /** Whether it was found by words. */
  by_words: boolean;
  /** Whether its code is near, or it was found by words; else it lies around what was. */
  matches: boolean;
  /** The terms that it holds, as far as was looked: a bit for each. */
  bits: number;
  /** Whether `content` is all of it. */
  whole: boolean;
}

export function createRecall(database: Database): Pick<MemoryStore, "recall"> {
  /** With their whole texts; without those that were deleted meanwhile. */
  async function toRecalled(hits: readonly RecallHit<Row>[]): Promise<RecalledMessage[]> {
    const cut = hits.filter(({ row }) => !row.whole).map(({ row }) => row.n);
    const texts = new Map(
      cut.length === 0
        ? []
        : (
            await database.rows<{ n: number; content: string }>(
              "select n::float8, content from messages where n = any($rows::bigint[])",
              { rows: cut },
            )
          ).map(({ n, content }) => [n, content]),
    );
    return hits.flatMap(({ row, score, coverage }) => {
      const content = row.whole ? row.content : texts.get(row.n);
      return content === undefined ? [] : [{ message: toMessage(row, content), score, coverage }];
    });
  }

  return {
    async recall({ workspace_id, user_id, q, vector, conversation_id, shown_from_seq, limit, now }) {
      const terms = termsOf(cutWords(q));
      if (terms.length === 0 && vector === null) return [];
      const question = {
        ...asked(terms, vector, limit),
        workspace_id,
        user_id,
        conversation_id,
        shown_from_seq,
        reach: neighboursReach,
        near_spread: nearSpread,
        match_chars_max: matchCharsMax,
        neighbour_chars_max: neighbourCharsMax,
      };
      const found = await database.row<Found<Row>>(
        "select rows, total, holding, near_rows, near_vectors, near_texts from recall_messages($question::text::jsonb)",
        { question: toJson(question) },
      );
      if (!found?.rows) return [];
      const { rows } = found;
      const near = nearIn(found, vector);
      const weighted = weightedTerms(terms, found);
      const counter = new TermCounter(weighted);
      const unitOf = (row: Row): Unit => {
        const unit = counter.unitOf({ words: stemmed(cutWords(row.content)), stems: "" });
        if (row.whole) return unit;
        const held = countsOf(weighted, row.bits);
        return { ...unit, own: unit.own.map((count, index) => Math.max(count, held[index]!)) };
      };
      const bits = new Map(rows.map((row) => [row.n, row.bits]));
      const isShown = (row: Row): boolean =>
        row.conversation_id === conversation_id && row.seq >= shown_from_seq;
      const hits = rankRecalled(
        {
          terms: weighted,
          rows: matching(
            rows.filter(({ matches }) => matches),
            near,
          ),
          unitOf,
          heldBy: (n) => countsOf(weighted, bits.get(n) ?? 0),
          around: (stretches) =>
            stretches.flatMap(([conversation_n, from, to]) =>
              rows
                .filter((row) => row.conversation_n === conversation_n && row.seq >= from && row.seq <= to)
                .sort((a, b) => a.seq - b.seq),
            ),
          near,
        },
        isShown,
        { now, limit },
      );
      return await toRecalled(hits);
    },
  };
}

const toMessage = (row: Row, content: string): MessageRecord => ({
  id: row.id,
  conversation_id: row.conversation_id,
  turn_id: row.turn_id,
  seq: row.seq,
  role: row.role,
  content,
  status: row.status,
  model: row.model,
  sources: row.sources,
  citations: row.citations,
  tokens: row.tokens,
  created_at: row.created_at,
});
