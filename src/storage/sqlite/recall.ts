/** Recall: what of a user's messages, of all their conversations, is looked at for a question. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { TermCounter } from "../../search/bm25f.ts";
import { termsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";
import type { RecalledMessage, RecallQuery } from "../memory-store.ts";
import { type PlacedMessage, type RecallHit, rankRecalled } from "../recall-ranking.ts";
import { type Candidates, createCandidates, noCandidates } from "./candidates.ts";
import type { Nearest } from "./nearest.ts";
import type { Packed } from "./packed.ts";
import { type MessageRow, messageColumns, toMessage } from "./rows.ts";
import { scopeCode } from "./scope.ts";

/** What of a message is ranked. */
interface Row extends PlacedMessage {
  terms: string | null;
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
  const around = db.query<Row, SQLQueryBindings>(
    `select m.n, m.conversation_n, m.seq, m.created_at, m.tokens, null as terms from json_each($places) p
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
    const counter = new TermCounter(found.terms, [code]);
    const hits = rankRecalled(
      {
        terms: found.terms,
        rows: [...rows.values()],
        unitOf: ({ terms }) => counter.unitOf({ words: terms ?? "", stems: "" }),
        heldBy: found.heldBy,
        around: (stretches) => around.all({ places: JSON.stringify(stretches) }),
        near: query.vector === null ? null : near,
      },
      isShown,
      query,
    );
    return toRecalled(hits);
  };

  function toRecalled(hits: readonly RecallHit<Row>[]): RecalledMessage[] {
    const rows = new Map(
      whole.all({ rows: JSON.stringify(hits.map(({ row }) => row.n)) }).map((row) => [row.n, row]),
    );
    return hits.map(({ row: { n }, score, coverage }) => {
      const { n: _, conversation_id, ...message } = rows.get(n)!;
      return { message: toMessage(conversation_id, message), score, coverage };
    });
  }
}
