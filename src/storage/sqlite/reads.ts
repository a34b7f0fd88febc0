/** Every query that only reads. Point and page reads run in the server's thread, `search` in the reader worker. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { AppError } from "../../errors.ts";
import { cutWords } from "../../search/words.ts";
import { pageOf } from "../conversation-page.ts";
import type {
  ConversationPage,
  ConversationQuery,
  ConversationRecord,
  Idempotency,
  MessagePage,
  MessageRecord,
  Orphan,
  Receipt,
  Scope,
  TurnRecord,
} from "../store.ts";
import {
  type ConversationRow,
  conversationColumns,
  type MessageRow,
  messageColumns,
  selectTurn,
  type TurnRow,
  toConversation,
  toMessage,
  toTurn,
} from "./rows.ts";

/** Up to so many matches are collected and sorted; where there are more, the conversations are walked instead. */
const defaultSortedMatchesMax = 100_000;
/** Each comes with its text. */
const orphansAtOnce = 64;

export type Reads = ReturnType<typeof createReads>;

export function createReads(db: Database, sortedMatchesMax = defaultSortedMatchesMax) {
  const inScope = "c.workspace_id = $workspace_id and ($user_id is null or c.user_id = $user_id)";
  const turnById = db.query<TurnRow, SQLQueryBindings>(`${selectTurn} where t.id = $id and ${inScope}`);
  const receiptOf = db.query<{ receipt: string | null }, SQLQueryBindings>(
    `select t.receipt from turns t join messages m on m.n = t.n join conversations c on c.n = m.conversation_n
     where t.id = $id and ${inScope}`,
  );
  const runningElsewhere = db.query<TurnRow, SQLQueryBindings>(
    `${selectTurn} where t.status = 'running' and t.instance_id <> $instance_id limit ${orphansAtOnce}`,
  );
  const contentOf = db.query<{ content: string }, SQLQueryBindings>(
    "select content from messages where n = (select user_message_n from turns where id = $id)",
  );
  const conversationById = db.query<ConversationRow, SQLQueryBindings>(
    `select ${conversationColumns} from conversations c where c.id = $id and ${inScope}`,
  );
  const conversationRow = `(select c.n from conversations c where c.id = $conversation_id and ${inScope})`;
  const newestMessages = db.query<MessageRow, SQLQueryBindings>(
    `select ${messageColumns} from messages m
     where m.conversation_n = ${conversationRow} and m.seq < $before order by m.seq desc limit $limit`,
  );
  const nextMessages = db.query<MessageRow, SQLQueryBindings>(
    `select ${messageColumns} from messages m
     where m.conversation_n = ${conversationRow} and m.seq > $after order by m.seq limit $limit`,
  );
  const madeByKey = db.query<{ body_hash: string; resource_id: string }, SQLQueryBindings>(
    `select body_hash, resource_id from idempotency_keys
     where principal_id = $principal_id and operation = $operation and key = $key`,
  );
  const setting = db.query<{ value: string }, SQLQueryBindings>(
    "select value from settings where name = $name",
  );
  const countMatches = (table: string) =>
    db.query<{ count: number }, SQLQueryBindings>(
      `select count(*) as count from (select 1 from ${table} where ${table} match $match limit $limit)`,
    );
  const countMessageMatches = countMatches("message_index");
  const countTitleMatches = countMatches("title_words");

  /**
   * A page of conversations in the order of activity.
   * @param from what is gone through: all conversations by the index of their order, or matches, which are then sorted
   */
  function page(
    scope: Scope,
    query: ConversationQuery,
    {
      from = "",
      where = "",
      bindings = {},
    }: { from?: string; where?: string; bindings?: Record<string, string> },
  ) {
    const { limit, after } = query;
    const user_id = scope.user_id ?? query.user_id;
    const rows = db
      .query<ConversationRow, SQLQueryBindings>(
        `select ${conversationColumns} from ${from} conversations c where c.workspace_id = $workspace_id
         ${user_id === null ? "" : "and c.user_id = $user_id"}
         ${after === null ? "" : "and (c.last_active_ms, c.id) < ($after_ms, $after_id)"}
         ${where} order by c.last_active_ms desc, c.id desc limit $limit`,
      )
      .all({
        workspace_id: scope.workspace_id,
        limit: limit + 1,
        ...(user_id === null ? {} : { user_id }),
        ...(after === null ? {} : { after_ms: after.last_active_ms, after_id: after.id }),
        ...bindings,
      });
    return pageOf(rows, limit, toConversation);
  }

  return {
    turn(scope: Scope, id: string): TurnRecord | null {
      const row = turnById.get({ ...scope, id });
      return row && toTurn(row);
    },

    orphans(instanceId: string): Orphan[] {
      return runningElsewhere.all({ instance_id: instanceId }).map((row) => ({
        turn: toTurn(row),
        instance_id: row.instance_id,
        message: contentOf.get({ id: row.id })!.content,
      }));
    },

    conversation(scope: Scope, id: string): ConversationRecord | null {
      const row = conversationById.get({ ...scope, id });
      return row && toConversation(row);
    },

    conversations(scope: Scope, query: ConversationQuery): ConversationPage {
      return page(scope, query, {});
    },

    /**
     * Conversations with a title or a message that holds all words of `q`, the last one as a prefix. Few matches
     * are looked up; with many, the conversations are walked in their order until the page is full, because then
     * a match is never far. Words are all that is left of `q`, so there is no query syntax to escape.
     */
    search(scope: Scope, query: ConversationQuery): ConversationPage {
      const words = cutWords(query.q ?? "");
      if (words === "") return { conversations: [], next: null };
      const match = `words : (${words
        .split(" ")
        .map((word) => `"${word}"`)
        .join(" ")}*)`;
      const limit = sortedMatchesMax + 1;
      const count =
        countMessageMatches.get({ match, limit })!.count + countTitleMatches.get({ match, limit })!.count;
      if (count <= sortedMatchesMax) {
        // A cross join is SQLite's word for going through its left side first.
        const from = `(select conversation_n as n from messages where n in (
             select rowid from message_index where message_index match $match)
           union select rowid from title_words where title_words match $match) hits cross join`;
        return page(scope, query, { from, where: "and c.n = hits.n", bindings: { match } });
      }
      const parts = words
        .split(" ")
        .map((word, index, all) => (index < all.length - 1 ? ` ${word} ` : ` ${word}`));
      const holdsAll = parts
        .map((_, index) => `instr(' ' || w.words || ' ', $word${index}) > 0`)
        .join(" and ");
      const where = `and (exists (select 1 from title_words w where w.rowid = c.n and ${holdsAll})
          or exists (select 1 from messages m join message_index w on w.rowid = m.n
                     where m.conversation_n = c.n and ${holdsAll}))`;
      const bindings = Object.fromEntries(parts.map((part, index) => [`word${index}`, part]));
      return page(scope, query, { where, bindings });
    },

    messages(scope: Scope, conversationId: string, limit: number, beforeSeq: number | null): MessagePage {
      const rows = newestMessages.all({
        ...scope,
        conversation_id: conversationId,
        before: beforeSeq ?? Number.MAX_SAFE_INTEGER,
        limit: limit + 1,
      });
      return {
        messages: rows
          .slice(0, limit)
          .reverse()
          .map((row) => toMessage(conversationId, row)),
        has_more: rows.length > limit,
      };
    },

    messagesAfter(scope: Scope, conversationId: string, afterSeq: number, limit: number): MessageRecord[] {
      return nextMessages
        .all({ ...scope, conversation_id: conversationId, after: afterSeq, limit })
        .map((row) => toMessage(conversationId, row));
    },

    receipt(scope: Scope, turnId: string): Receipt | null {
      const row = receiptOf.get({ ...scope, id: turnId });
      return row?.receipt ? JSON.parse(row.receipt) : null;
    },

    resourceOf({ body_hash, ...key }: Idempotency): string | null {
      const made = madeByKey.get({ ...key });
      if (made !== null && made.body_hash !== body_hash) throw new AppError("idempotency_key_reused");
      return made?.resource_id ?? null;
    },

    setting(name: string): string {
      const row = setting.get({ name });
      if (row === null) throw new Error(`the setting ${name} is missing`);
      return row.value;
    },
  };
}
