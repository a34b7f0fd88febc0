/** Users, their profiles and memories, and what of a conversation goes into a prompt. The longer statements are in 0008_memories.sql. */
import {
  betweenMax,
  type ConversationContext,
  type MemoryRecord,
  type MemoryStore,
  type ProfileRecord,
  type PromptSources,
  rememberEverySeconds,
  type Summary,
  type TurnToRemember,
} from "../memory-store.ts";
import { seqMax } from "./conversations.ts";
import { type Database, toJson } from "./database.ts";
import {
  type ConversationRow,
  conversationColumns,
  type MessageRow,
  toConversation,
  toMessage,
} from "./rows.ts";

/** An instance that hasn't asked for turns to be remembered for so long leaves its own to others. */
const silentSecondsMax = 2 * rememberEverySeconds + 5;

type MemoryMethod =
  | "profile"
  | "updateProfile"
  | "heldMemories"
  | "memories"
  | "memory"
  | "saveMemories"
  | "updateMemory"
  | "deleteMemory"
  | "turnsToRemember"
  | "promptSources"
  | "conversationContext"
  | "replaceSummary"
  | "keptConversations";

/** What `conversation_context` tells; null of a conversation that there isn't. */
interface ContextRow {
  summary: Summary;
  /** The seq that the window begins with; null where there is no message. */
  window_from: number | null;
  messages: MessageRow[];
}

interface SourcesRow extends Omit<PromptSources, "conversation"> {
  context: ContextRow | null;
}

interface KeptRow extends ConversationRow {
  n: number;
  summary: string;
  summary_tokens: number;
  summary_through_seq: number;
}

const profileColumns = `user_id, display_name, language, timezone, instructions, metadata, created_at::float8,
  updated_at::float8`;

const memoryColumns = `id, text, kind, slot, tokens, source_message_id, superseded_by, uses, used_at::float8,
  created_at::float8, updated_at::float8`;

const ofUser = "user_n = (select n from users where workspace_id = $workspace_id and user_id = $user_id)";

/** @param turnDatabase for what every turn waits for */
export function createMemories(database: Database, turnDatabase: Database): Pick<MemoryStore, MemoryMethod> {
  return {
    profile: (user) =>
      database.row<ProfileRecord>(
        `select ${profileColumns} from users where workspace_id = $workspace_id and user_id = $user_id`,
        { ...user },
      ),

    async updateProfile(user, patch, nowMs) {
      const row = await database.row<ProfileRecord>(
        `with patch as (select $patch::text::json as p)
         insert into users as u (workspace_id, user_id, display_name, language, timezone, instructions, metadata,
           created_at, updated_at)
         select $workspace_id, $user_id, p ->> 'display_name', p ->> 'language', p ->> 'timezone', p ->> 'instructions',
           coalesce(p -> 'metadata', '{}'), $now::int8, $now::int8 from patch
         on conflict (workspace_id, user_id) do update set
           ${["display_name", "language", "timezone", "instructions"]
             .map(
               (column) =>
                 `${column} = case when (select p -> '${column}' from patch) is null then u.${column} else excluded.${column} end`,
             )
             .join(", ")},
           metadata = coalesce((select p -> 'metadata' from patch), u.metadata), updated_at = excluded.updated_at
         returning ${profileColumns}`,
        { ...user, patch: toJson(patch), now: Math.floor(nowMs / 1000) },
      );
      return row!;
    },

    heldMemories: (user) =>
      database.rows<MemoryRecord>(
        `select ${memoryColumns} from memories where ${ofUser} and superseded_by is null order by n desc`,
        { ...user },
      ),

    // Ids are in the order of time, and one can be compared with when its memory is gone.
    async memories(user, { limit, after, superseded }) {
      const rows = await database.rows<MemoryRecord>(
        `select ${memoryColumns} from memories where ${ofUser} and ($superseded or superseded_by is null)
           and ($after::text is null or id < $after) order by id desc limit $limit::int4`,
        { ...user, limit: limit + 1, after, superseded },
      );
      const memories = rows.slice(0, limit);
      return { memories, next: rows.length > limit ? memories.at(-1)!.id : null };
    },

    memory: (user, id) =>
      database.row<MemoryRecord>(`select ${memoryColumns} from memories where id = $id and ${ofUser}`, {
        ...user,
        id,
      }),

    async saveMemories(user, memories, turnId, memoriesMax, nowMs) {
      return await database.rows<MemoryRecord>(
        `select ${memoryColumns} from save_memories($workspace_id, $user_id, $memories::text::json, $turn_id::text,
           $memories_max::int4, $now::int8)`,
        {
          ...user,
          memories: toJson(memories),
          turn_id: turnId,
          memories_max: memoriesMax,
          now: Math.floor(nowMs / 1000),
        },
      );
    },

    updateMemory: (user, id, { text, kind, tokens }, nowMs) =>
      database.row<MemoryRecord>(
        `update memories set text = coalesce($text, text), kind = coalesce($kind, kind),
           tokens = coalesce($tokens::int4, tokens), updated_at = $now::int8
         where id = $id and ${ofUser} returning ${memoryColumns}`,
        {
          ...user,
          id,
          text: text ?? null,
          kind: kind ?? null,
          tokens: tokens ?? null,
          now: Math.floor(nowMs / 1000),
        },
      ),

    async deleteMemory(user, id) {
      const gone = await database.rows(`delete from memories where id = $id and ${ofUser} returning n`, {
        ...user,
        id,
      });
      return gone.length > 0;
    },

    turnsToRemember: (instanceId, limit) =>
      database.rows<TurnToRemember>(
        `select turn_id, workspace_id, user_id, user_message_id, message, created_at::float8
         from turns_to_remember($instance_id, $limit::int4, $seconds::float8)`,
        { instance_id: instanceId, limit, seconds: silentSecondsMax },
      ),

    async promptSources({ conversation_id, before_seq, tokens_max, use_memory, ...user }) {
      const { sources } = (await turnDatabase.row<{ sources: SourcesRow }>(
        `select prompt_sources($workspace_id, $user_id, $conversation_id, $before::int4, $tokens_max::float8,
           $between_max::int4, $use_memory) as sources`,
        {
          ...user,
          conversation_id,
          before: before_seq,
          tokens_max,
          between_max: betweenMax,
          use_memory,
        },
      ))!;
      const { context, ...rest } = sources;
      return { conversation: toContext(conversation_id, context), ...rest };
    },

    async conversationContext(user, conversationId, beforeSeq, tokensMax) {
      const { context } = (await database.row<{ context: ContextRow | null }>(
        `select conversation_context($workspace_id, $user_id, $conversation_id, $before::int4, $tokens_max::float8,
           $between_max::int4) as context`,
        {
          ...user,
          conversation_id: conversationId,
          before: Math.min(beforeSeq, seqMax),
          tokens_max: tokensMax,
          between_max: betweenMax,
        },
      ))!;
      return toContext(conversationId, context);
    },

    async replaceSummary(user, conversationId, from, { text, tokens, through_seq }) {
      const replaced = await database.rows(
        `update conversations set summary = $text, summary_tokens = $tokens::int4, summary_through_seq = $through_seq::int4
         where id = $id and workspace_id = $workspace_id and user_id = $user_id and not deleted
           and summary_through_seq = $from::int4
         returning n`,
        { ...user, id: conversationId, from, text, tokens, through_seq },
      );
      return replaced.length > 0;
    },

    async keptConversations(user, limit, after) {
      const rows = await database.rows<KeptRow>(
        `select c.n::float8, ${conversationColumns}, c.summary, c.summary_tokens, c.summary_through_seq from conversations c
         where c.${ofUser} and c.n > $after::int8 and not c.deleted order by c.n limit $limit::int4`,
        { ...user, limit: limit + 1, after: after ?? 0 },
      );
      const conversations = rows
        .slice(0, limit)
        .map(({ n: _, summary: text, summary_tokens: tokens, summary_through_seq: through_seq, ...row }) => ({
          ...toConversation(row),
          summary: { text, tokens, through_seq },
        }));
      return { conversations, next: rows.length > limit ? rows[limit - 1]!.n : null };
    },
  };
}

function toContext(conversationId: string, context: ContextRow | null): ConversationContext {
  if (context === null) {
    return { summary: { text: "", tokens: 0, through_seq: 0 }, window: [], between: [] };
  }
  const messages = context.messages.map((row) => toMessage(conversationId, row));
  const start = messages.findIndex(({ seq }) => seq >= context.window_from!);
  const shown = start < 0 ? messages.length : start;
  return { summary: context.summary, window: messages.slice(shown), between: messages.slice(0, shown) };
}
