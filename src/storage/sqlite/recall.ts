/**
 * Recall: which of a user's messages, of all their conversations, bear on a question. A message often says nothing by
 * itself ("Yes, on Tuesday"), so the two before and the two after it count as its context. Where the question has a
 * vector, its ranking and that of the words are fused.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { type Counts, type Ranked, rank, TermCounter, type Unit } from "../../search/bm25f.ts";
import { fuseHits } from "../../search/fusion.ts";
import { termsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";
import type { RecalledMessage, RecallQuery } from "../memory-store.ts";
import { type Candidates, createCandidates, noCandidates } from "./candidates.ts";
import type { Nearest } from "./nearest.ts";
import type { Packed } from "./quantize.ts";
import { type MessageRow, messageColumns, toMessage } from "./rows.ts";
import { scopeCode } from "./scope.ts";

const contextMessages = 2;
/** Best matches whose neighbours are looked at: they may be the ones that answer. */
const spreadMax = 20;
const weights = { heading: 0, context: 0.35 };
/** A message of half this age counts as much less as one of this age does against none. */
const halfLifeDays = 180;
/** What age can take from a score at most. */
const ageShare = 0.25;

/** What of a message is ranked. */
interface Row {
  n: number;
  conversation_n: number;
  seq: number;
  created_at: number;
  tokens: number;
  terms: string | null;
}

interface Candidate extends Unit {
  row: Row;
}

interface Hit {
  row: Row;
  score: number;
  coverage: number;
}

/** @param nearest null where there are no vectors */
export function createRecall(db: Database, nearest: Nearest | null) {
  const candidates = createCandidates(db, "message_index", ["terms"]);
  const userOf = db.query<{ n: number }, SQLQueryBindings>(
    "select n from users where workspace_id = $workspace_id and user_id = $user_id",
  );
  const conversationOf = db.query<{ n: number }, SQLQueryBindings>(
    "select n from conversations where id = $conversation_id",
  );
  const byRow = db.query<Row, SQLQueryBindings>(
    `select m.n, m.conversation_n, m.seq, m.created_at, m.tokens, i.terms from json_each($rows) r cross join messages m on m.n = r.value
     join conversations c on c.n = m.conversation_n and c.deleted = 0 and c.user_n = $user_n
       left join message_index i on i.rowid = m.n`,
  );
  const around = db.query<Omit<Row, "terms">, SQLQueryBindings>(
    `select m.n, m.conversation_n, m.seq, m.created_at, m.tokens from json_each($places) p
     cross join messages m on m.conversation_n = p.value ->> 0 and m.seq between p.value ->> 1 and p.value ->> 2
     join message_index i on i.rowid = m.n and i.scope <> ''`,
  );
  const whole = db.query<MessageRow & { n: number; conversation_id: string }, SQLQueryBindings>(
    `select m.n, c.id as conversation_id, ${messageColumns}
     from json_each($rows) r cross join messages m on m.n = r.value join conversations c on c.n = m.conversation_n`,
  );

  return function recall(query: Packed<RecallQuery>): RecalledMessage[] {
    const user = userOf.get({ workspace_id: query.workspace_id, user_id: query.user_id });
    if (user === null) return [];
    const code = scopeCode(user.n);
    const asked = termsOf(cutWords(query.q));
    const scope = { all: `{scope} : "${code}"`, filter: null, codes: [code] };
    const found: Candidates = asked.length === 0 ? noCandidates : candidates(scope, asked, query.limit);
    const near =
      query.vector === null || nearest === null ? [] : nearest.messages(user.n, query.vector, query);
    const rows = new Map(
      byRow
        .all({ rows: JSON.stringify([...found.rows, ...near.map(({ key }) => key)]), user_n: user.n })
        .map((row) => [row.n, row]),
    );
    if (rows.size === 0) return [];
    const shownIn = conversationOf.get({ conversation_id: query.conversation_id })?.n;
    const isShown = ({ conversation_n, seq }: Row): boolean =>
      conversation_n === shownIn && seq >= query.shown_from_seq;
    const byWords = inContext(found, code, [...rows.values()])
      .filter(({ candidate }) => !isShown(candidate.row))
      .map(({ candidate: { row }, score, coverage }) => ({
        row,
        score: score * freshness(row, query.now),
        coverage,
      }))
      .sort((a, b) => b.score - a.score);
    if (query.vector === null) return toRecalled(byWords.slice(0, query.limit));

    for (const { row } of byWords) rows.set(row.n, row);
    const byMeaning = near
      .flatMap(({ key, z }) => {
        const row = rows.get(key);
        return row === undefined ? [] : { key, z, score: z * freshness(row, query.now) };
      })
      .sort((a, b) => b.score - a.score);
    const fused = fuseHits(
      byWords.map(({ row, coverage }) => ({ key: row.n, coverage })),
      byMeaning,
    );
    return toRecalled(
      fused.slice(0, query.limit).map(({ key, ...hit }) => ({ row: rows.get(key)!, ...hit })),
    );
  };

  /** Ranks messages by words, and those around the best of them too: they may be the ones that answer. */
  function inContext({ terms, heldBy }: Candidates, code: string, rows: readonly Row[]): Ranked<Candidate>[] {
    if (terms.length === 0) return [];
    const counter = new TermCounter(terms, [code]);
    const direct = new Map(
      rows.map((row): [number, Candidate] => [
        row.n,
        { row, ...counter.unitOf({ words: row.terms ?? "", stems: "" }), length: row.tokens },
      ]),
    );
    const best = rank(terms, [...direct.values()], weights).slice(0, spreadMax);
    const placed = new Map(
      around
        .all({ places: JSON.stringify(neighbourhood(best)) })
        .map((row): [string, Candidate] => [
          `${row.conversation_n}:${row.seq}`,
          direct.get(row.n) ?? { row: { ...row, terms: null }, length: row.tokens, own: heldBy(row.n) },
        ]),
    );
    const units = [...placed.values()].map((unit): Candidate => {
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

  function toRecalled(hits: readonly Hit[]): RecalledMessage[] {
    const rows = new Map(
      whole.all({ rows: JSON.stringify(hits.map(({ row }) => row.n)) }).map((row) => [row.n, row]),
    );
    return hits.map(({ row: { n }, score, coverage }) => {
      const { n: _, conversation_id, ...message } = rows.get(n)!;
      return { message: toMessage(conversation_id, message), score, coverage };
    });
  }
}

/** Where to look around each match: stretches of conversations that don't overlap. */
function neighbourhood(
  ranked: readonly Ranked<Candidate>[],
): [conversation: number, from: number, to: number][] {
  // A neighbour's own neighbours are part of its context.
  const reach = 2 * contextMessages;
  const matches = ranked
    .map(({ candidate: { row } }) => row)
    .sort((a, b) => a.conversation_n - b.conversation_n || a.seq - b.seq);
  const stretches: [number, number, number][] = [];
  for (const { conversation_n, seq } of matches) {
    const last = stretches.at(-1);
    if (last?.[0] === conversation_n && seq - reach <= last[2] + 1) last[2] = seq + reach;
    else stretches.push([conversation_n, Math.max(1, seq - reach), seq + reach]);
  }
  return stretches;
}

function freshness({ created_at }: Row, now: number): number {
  const days = Math.max(0, now - created_at) / 86_400;
  return 1 - ageShare * (1 - 0.5 ** (days / halfLifeDays));
}
