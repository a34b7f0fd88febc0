/** Conversations and their messages, but for the search of them and their deletion. */
import { AppError } from "../../errors.ts";
import { pageOf } from "../conversation-page.ts";
import type { ConversationPage, ConversationQuery, ConversationRecord, Scope, Store } from "../store.ts";
import { madeAndDeleted } from "../turn-answers.ts";
import { type Bindings, type Database, type Queries, toJson } from "./database.ts";
import { titleLexemes } from "./indexed.ts";
import {
  type ConversationRow,
  conversationColumns,
  inScope,
  type MessageRow,
  messageColumns,
  toConversation,
  toMessage,
} from "./rows.ts";

type ConversationMethod =
  | "createConversation"
  | "conversation"
  | "updateConversation"
  | "messages"
  | "messagesAfter";

export function createConversations(database: Database): Pick<Store, ConversationMethod> {
  const ofConversation = `m.conversation_n = (select c.n from conversations c where c.id = $conversation_id and ${inScope})`;

  return {
    createConversation: (scope, { id, user_id, title, metadata, idempotency, now_ms }) =>
      // Its id is new: done a second time it finds what it has made.
      database.transaction(
        async (queries) => {
          if (idempotency !== null) {
            const { rows } = await reserveKey(queries, { ...idempotency }, id, now_ms);
            const known = rows[0]!;
            if (known.body_hash !== idempotency.body_hash) throw new AppError("idempotency_key_reused");
            if (known.resource_id !== id) {
              const made = await find(queries, scope, known.resource_id);
              if (made === null) throw madeAndDeleted("conversation that this Idempotency-Key created");
              return { conversation: made, replayed: true };
            }
          }
          await queries.rows(
            `insert into conversations (id, workspace_id, user_id, user_n, title, metadata, created_at, updated_at, last_active_ms)
             values ($id, $workspace_id, $user_id, user_row($workspace_id, $user_id, $now::int8), $title,
               $metadata::text::json, $now::int8, $now::int8, $now_ms::int8)
             on conflict (id) do nothing returning index_title(n, $title_words)`,
            {
              id,
              workspace_id: scope.workspace_id,
              user_id,
              title,
              title_words: titleLexemes(title),
              metadata: toJson(metadata),
              now: Math.floor(now_ms / 1000),
              now_ms,
            },
          );
          return { conversation: (await find(queries, scope, id))!, replayed: false };
        },
        { repeatable: true },
      ),

    conversation: (scope, id) => find(database, scope, id),

    async updateConversation(scope, id, patch, nowMs) {
      const changed = await database.row<ConversationRow & { indexed: null }>(
        `update conversations c set
           title = case when $sets_title then $title else c.title end,
           metadata = coalesce($metadata::text::json, c.metadata), updated_at = $now::int8
         where c.id = $id and ${inScope} returning ${conversationColumns}, index_title(c.n, $title_words) as indexed`,
        {
          ...scope,
          id,
          sets_title: patch.title !== undefined,
          title: patch.title ?? null,
          title_words: patch.title === undefined ? null : titleLexemes(patch.title),
          metadata: patch.metadata === undefined ? null : toJson(patch.metadata),
          now: Math.floor(nowMs / 1000),
        },
      );
      if (changed === null) return null;
      const { indexed: _, ...row } = changed;
      return toConversation(row);
    },

    async messages(scope, conversationId, limit, beforeSeq) {
      const rows = await database.rows<MessageRow>(
        `select ${messageColumns} from messages m
         where ${ofConversation} and m.seq < $before::int4 order by m.seq desc limit $limit::int4`,
        {
          ...scope,
          conversation_id: conversationId,
          before: beforeSeq === null ? seqMax : Math.min(beforeSeq, seqMax),
          limit: limit + 1,
        },
      );
      return {
        messages: rows
          .slice(0, limit)
          .reverse()
          .map((row) => toMessage(conversationId, row)),
        has_more: rows.length > limit,
      };
    },

    async messagesAfter(scope, conversationId, afterSeq, limit) {
      const rows = await database.rows<MessageRow>(
        `select ${messageColumns} from messages m
         where ${ofConversation} and m.seq > $after::int4 order by m.seq limit $limit::int4`,
        { ...scope, conversation_id: conversationId, after: afterSeq, limit },
      );
      return rows.map((row) => toMessage(conversationId, row));
    },
  };
}

/** The largest seq there can be. */
export const seqMax = 2 ** 31 - 1;

async function find(queries: Queries, scope: Scope, id: string): Promise<ConversationRecord | null> {
  const row = await queries.row<ConversationRow>(
    `select ${conversationColumns} from conversations c where c.id = $id and ${inScope}`,
    { ...scope, id },
  );
  return row && toConversation(row);
}

/** The row of an idempotency key, made for this resource where there is none: who comes at the same time waits for it. */
async function reserveKey(
  queries: Queries,
  key: Bindings,
  resource_id: string,
  now_ms: number,
): Promise<{ rows: { body_hash: string; resource_id: string }[] }> {
  await queries.rows(
    `insert into idempotency_keys values ($principal_id, $operation, $key, $body_hash, $resource_id, $now::int8)
     on conflict do nothing`,
    { ...key, resource_id, now: Math.floor(now_ms / 1000) },
  );
  const rows = await queries.rows<{ body_hash: string; resource_id: string }>(
    `select body_hash, resource_id from idempotency_keys
     where principal_id = $principal_id and operation = $operation and key = $key`,
    key,
  );
  return { rows };
}

/**
 * A page of conversations in the order of activity.
 * @param where further conditions on the conversation `c`, beginning with `and`
 */
export async function pageOfConversations(
  queries: Queries,
  scope: Scope,
  { limit, after, user_id: asked }: ConversationQuery,
  where = "",
  bindings: Bindings = {},
): Promise<ConversationPage> {
  const user_id = scope.user_id ?? asked;
  const rows = await queries.rows<ConversationRow>(
    `select ${conversationColumns} from conversations c where c.workspace_id = $workspace_id and not c.deleted
       ${user_id === null ? "" : "and c.user_id = $user_id"}
       ${after === null ? "" : "and (c.last_active_ms, c.id) < ($after_ms::int8, $after_id)"}
       ${where} order by c.last_active_ms desc, c.id desc limit $limit::int4`,
    {
      workspace_id: scope.workspace_id,
      limit: limit + 1,
      ...(user_id === null ? {} : { user_id }),
      ...(after === null ? {} : { after_ms: after.last_active_ms, after_id: after.id }),
      ...bindings,
    },
  );
  return pageOf(rows, limit, toConversation);
}
