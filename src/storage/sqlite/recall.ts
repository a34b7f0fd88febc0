/**
 * Recall: which of a user's messages, of all their conversations, bear on a question. A message often says nothing by
 * itself ("Yes, on Tuesday"), so the two before and the two after it count as its context. Where the question has a
 * vector, its ranking and that of the words are fused.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { enclosed, type Ranked, rank, type Unit, type WeightedTerm } from "../../search/bm25f.ts";
import { fuseHits } from "../../search/fusion.ts";
import { termsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";
import type { RecalledMessage, RecallQuery } from "../memory-store.ts";
import { type Candidates, createCandidates } from "./candidates.ts";
import type { Nearest } from "./nearest.ts";
import type { Packed } from "./quantize.ts";
import { type MessageRow, messageColumns, toMessage } from "./rows.ts";
import { userToken } from "./scope.ts";

const contextMessages = 2;
/** Best matches whose neighbours are looked at: they may be the ones that answer. */
const spreadMax = 40;
const weights = { heading: 0, context: 0.35 };
/** A message of half this age counts as much less as one of this age does against none. */
const halfLifeDays = 180;
/** What age can take from a score at most. */
const ageShare = 0.25;

interface Row extends MessageRow {
  n: number;
  conversation_n: number;
  conversation_id: string;
  words: string | null;
  stems: string | null;
}

interface Candidate extends Unit {
  row: Row;
}

/** @param nearest null where there are no vectors */
export function createRecall(db: Database, nearest: Nearest | null) {
  const candidates = createCandidates(db, "message_index", ["words", "stems"]);
  const userOf = db.query<{ n: number }, SQLQueryBindings>(
    "select n from users where workspace_id = $workspace_id and user_id = $user_id",
  );
  const byRow = db.query<Row, SQLQueryBindings>(
    `select m.n, m.conversation_n, c.id as conversation_id, i.words, i.stems, ${messageColumns}
     from messages m join conversations c on c.n = m.conversation_n and c.deleted = 0
       left join message_index i on i.rowid = m.n
     where m.n in (select value from json_each($rows))`,
  );
  const around = db.query<Row, SQLQueryBindings>(
    `select m.n, m.conversation_n, c.id as conversation_id, i.words, i.stems, ${messageColumns}
     from json_each($places) p
     cross join messages m on m.conversation_n = p.value ->> 0 and m.seq between p.value ->> 1 and p.value ->> 2
     join conversations c on c.n = m.conversation_n and c.deleted = 0
     join message_index i on i.rowid = m.n and i.scope <> ''`,
  );

  return function recall(query: Packed<RecallQuery>): RecalledMessage[] {
    const user = userOf.get({ workspace_id: query.workspace_id, user_id: query.user_id });
    if (user === null) return [];
    const asked = termsOf(cutWords(query.q));
    const found: Candidates =
      asked.length === 0 ? { rows: [], terms: [] } : candidates(`{scope} : "${userToken(user.n)}"`, asked);
    const near =
      query.vector === null || nearest === null ? [] : nearest.messages(user.n, query.vector, query);
    const rows = new Map(
      byRow
        .all({ rows: JSON.stringify([...found.rows, ...near.map(({ key }) => key)]) })
        .map((row) => [row.n, row]),
    );
    if (rows.size === 0) return [];
    const isShown = ({ conversation_id, seq }: Row): boolean =>
      conversation_id === query.conversation_id && seq >= query.shown_from_seq;
    const byWords = inContext(found.terms, [...rows.values()])
      .filter(({ candidate }) => !isShown(candidate.row))
      .map(({ candidate: { row }, score, coverage }) => ({
        row,
        score: score * freshness(row, query.now),
        coverage,
      }))
      .sort((a, b) => b.score - a.score);
    if (query.vector === null) return byWords.slice(0, query.limit).map(toRecalled);

    for (const { row } of byWords) rows.set(row.n, row);
    const byMeaning = near
      .flatMap(({ key, z }) => {
        const row = rows.get(key);
        return row === undefined ? [] : { key, z, score: z * freshness(row, query.now) };
      })
      .sort((a, b) => b.score - a.score);
    return fuseHits(
      byWords.map(({ row, coverage }) => ({ key: row.n, coverage })),
      byMeaning,
    )
      .slice(0, query.limit)
      .map(({ key, ...hit }) => toRecalled({ row: rows.get(key)!, ...hit }));
  };

  /** Ranks messages by words, and those around the best of them too: they may be the ones that answer. */
  function inContext(terms: readonly WeightedTerm[], rows: readonly Row[]): Ranked<Candidate>[] {
    if (terms.length === 0) return [];
    const direct = rows.map(
      (row): Candidate => ({ row, words: enclosed(row.words ?? ""), stems: enclosed(row.stems ?? "") }),
    );
    const near = neighbourhood(rank(terms, direct, weights).slice(0, spreadMax));
    const placed = new Map(
      around.all({ places: JSON.stringify(near) }).map((row) => [`${row.conversation_n}:${row.seq}`, row]),
    );
    const fieldsOf = ({ words, stems }: Row): string => `${words ?? ""} ${stems ?? ""}`;
    const units = [...placed.values()].map((row): Candidate => {
      const neighbours: string[] = [];
      for (let step = -contextMessages; step <= contextMessages; step++) {
        const other = step === 0 ? undefined : placed.get(`${row.conversation_n}:${row.seq + step}`);
        if (other !== undefined) neighbours.push(fieldsOf(other));
      }
      return {
        row,
        words: enclosed(row.words ?? ""),
        stems: enclosed(row.stems ?? ""),
        context: enclosed(neighbours.join(" ")),
      };
    });
    return rank(terms, units, weights);
  }
}

function toRecalled({
  row,
  score,
  coverage,
}: {
  row: Row;
  score: number;
  coverage: number;
}): RecalledMessage {
  const { n: _, conversation_n: __, conversation_id, words: ___, stems: ____, ...message } = row;
  return { message: toMessage(conversation_id, message), score, coverage };
}

/** Where to look around each match, one stretch a conversation and place. */
function neighbourhood(
  ranked: readonly Ranked<Candidate>[],
): [conversation: number, from: number, to: number][] {
  const seen = new Set<string>();
  const places: [number, number, number][] = [];
  for (const { candidate } of ranked) {
    const { conversation_n, seq } = candidate.row;
    // A neighbour's own neighbours are part of its context.
    for (let at = seq - 2 * contextMessages; at <= seq + 2 * contextMessages; at++) {
      const key = `${conversation_n}:${at}`;
      if (at < 1 || seen.has(key)) continue;
      seen.add(key);
      places.push([conversation_n, at, at]);
    }
  }
  return places;
}

function freshness({ created_at }: Row, now: number): number {
  const days = Math.max(0, now - created_at) / 86_400;
  return 1 - ageShare * (1 - 0.5 ** (days / halfLifeDays));
}
