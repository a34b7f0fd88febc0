/** Queries about users, memories and what of a conversation goes into a prompt. They run in the server's thread. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import {
  betweenMax,
  type ConversationContext,
  type KeptConversationPage,
  type MemoryPage,
  type MemoryQuery,
  type MemoryRecord,
  type ProfileRecord,
  type PromptQuery,
  type PromptSources,
  type TurnToRemember,
  type UserScope,
} from "../memory-store.ts";
import type { MessageRecord } from "../store.ts";
import {
  type ConversationRow,
  conversationColumns,
  type MessageRow,
  messageColumns,
  toConversation,
  toMessage,
} from "./rows.ts";

interface ProfileRow extends Omit<ProfileRecord, "metadata"> {
  metadata: string;
}

interface KeptRow extends ConversationRow {
  n: number;
  summary: string;
  summary_tokens: number;
  summary_through_seq: number;
}

export const profileColumns =
  "user_id, display_name, language, timezone, instructions, metadata, created_at, updated_at";

export const toProfile = (row: ProfileRow): ProfileRecord => ({ ...row, metadata: JSON.parse(row.metadata) });

export const memoryColumns =
  "id, text, kind, slot, tokens, source_message_id, superseded_by, uses, used_at, created_at, updated_at";

const ofUser = "user_n = (select n from users where workspace_id = $workspace_id and user_id = $user_id)";

export function createMemoryReads(db: Database) {
  const profile = db.query<ProfileRow, SQLQueryBindings>(
    `select ${profileColumns} from users where workspace_id = $workspace_id and user_id = $user_id`,
  );
  const held = db.query<MemoryRecord, SQLQueryBindings>(
    `select ${memoryColumns} from memories where ${ofUser} and superseded_by is null order by n desc`,
  );
  // Ids are in the order of time, and one can be compared with when its memory is gone.
  const page = db.query<MemoryRecord, SQLQueryBindings>(
    `select ${memoryColumns} from memories where ${ofUser} and ($superseded or superseded_by is null)
       and ($after is null or id < $after) order by id desc limit $limit`,
  );
  const memoryById = db.query<MemoryRecord, SQLQueryBindings>(
    `select ${memoryColumns} from memories where id = $id and ${ofUser}`,
  );
  const toRemember = db.query<TurnToRemember, SQLQueryBindings>(
    `select t.id as turn_id, c.workspace_id, c.user_id, u.id as user_message_id, u.content as message, t.created_at
     from turns t join messages u on u.n = t.user_message_n join conversations c on c.n = u.conversation_n
       join users owner on owner.n = c.user_n
     where t.to_remember = 1 and owner.user_id is not null order by t.n limit $limit`,
  );
  const kept = db.query<KeptRow, SQLQueryBindings>(
    `select c.n, ${conversationColumns}, c.summary, c.summary_tokens, c.summary_through_seq from conversations c
     where c.${ofUser} and c.n > $after order by c.n limit $limit`,
  );
  const otherConversation = db.query<{ n: number }, SQLQueryBindings>(
    `select n from conversations where ${ofUser} and id <> $conversation_id and message_count > 0 limit 1`,
  );
  const conversation = db.query<
    { n: number; summary: string; summary_tokens: number; summary_through_seq: number },
    SQLQueryBindings
  >(
    `select n, summary, summary_tokens, summary_through_seq from conversations
     where id = $id and workspace_id = $workspace_id and user_id = $user_id`,
  );
  const newest = db.query<MessageRow, SQLQueryBindings>(
    `select ${messageColumns} from messages m
     where m.conversation_n = $n and m.seq > $after and m.seq < $before order by m.seq desc limit $limit`,
  );

  /** Reads by doubling pages, so that the cost follows the window and not the conversation. */
  function conversationContext(
    user: UserScope,
    conversationId: string,
    beforeSeq: number,
    tokensMax: number,
  ): ConversationContext {
    const found = conversation.get({ ...user, id: conversationId });
    const { n, summary_through_seq: after } = found ?? { n: 0, summary_through_seq: 0 };
    const window: MessageRecord[] = [];
    const context = {
      summary: { text: found?.summary ?? "", tokens: found?.summary_tokens ?? 0, through_seq: after },
      window,
      between: [] as MessageRecord[],
    };
    let tokens = 0;
    let before = beforeSeq;
    for (let limit = 16; before > after + 1; limit *= 2) {
      const rows = newest.all({ n, after, before, limit });
      for (const row of rows) {
        tokens += row.tokens;
        if (tokens > tokensMax) {
          const between = newest.all({ n, after, before, limit: betweenMax });
          context.between = between.reverse().map((row) => toMessage(conversationId, row));
          window.reverse();
          return context;
        }
        window.push(toMessage(conversationId, row));
        before = row.seq;
      }
      if (rows.length < limit) break;
    }
    window.reverse();
    return context;
  }

  return {
    profile(user: UserScope): ProfileRecord | null {
      const row = profile.get({ ...user });
      return row && toProfile(row);
    },

    heldMemories: (user: UserScope): MemoryRecord[] => held.all({ ...user }),

    memories(user: UserScope, { limit, after, superseded }: MemoryQuery): MemoryPage {
      const rows = page.all({ ...user, limit: limit + 1, after, superseded: Number(superseded) });
      const memories = rows.slice(0, limit);
      return { memories, next: rows.length > limit ? memories.at(-1)!.id : null };
    },

    memory: (user: UserScope, id: string): MemoryRecord | null => memoryById.get({ ...user, id }),

    keptConversations(user: UserScope, limit: number, after: number | null): KeptConversationPage {
      const rows = kept.all({ ...user, limit: limit + 1, after: after ?? 0 });
      const conversations = rows.slice(0, limit).map((row) => ({
        ...toConversation(row),
        summary: { text: row.summary, tokens: row.summary_tokens, through_seq: row.summary_through_seq },
      }));
      return { conversations, next: rows.length > limit ? rows[limit - 1]!.n : null };
    },

    turnsToRemember: (limit: number): TurnToRemember[] => toRemember.all({ limit }),

    conversationContext,

    promptSources(query: PromptQuery): Omit<PromptSources, "has_passages"> {
      const { workspace_id, user_id, conversation_id, before_seq, tokens_max, use_memory } = query;
      const user = { workspace_id, user_id };
      const conversation = conversationContext(user, conversation_id, before_seq, tokens_max);
      const profileRow = profile.get(user);
      const shownFrom = (conversation.between[0] ?? conversation.window[0])?.seq ?? before_seq;
      return {
        conversation,
        profile: profileRow && toProfile(profileRow),
        memories: use_memory ? held.all(user) : [],
        has_older:
          use_memory && (shownFrom > 1 || otherConversation.get({ ...user, conversation_id }) !== null),
      };
    },
  };
}
