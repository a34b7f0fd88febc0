/** Rows as SQLite gives them, and the records they become. */
import type { ErrorCode } from "../../errors.ts";
import type { ConversationRecord, FinishReason, MessageRecord, TurnRecord, TurnStatus } from "../store.ts";

export interface TurnRow {
  id: string;
  conversation_id: string;
  user_message_id: string;
  message_id: string;
  status: TurnStatus;
  content: string;
  sources: string;
  citations: string;
  finish_reason: FinishReason | null;
  model: string;
  memories_used: string;
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  usage_estimated: number;
  error_code: ErrorCode | null;
  error_message: string | null;
  created_at: number;
  ended_at: number | null;
  instance_id: string;
}

export const toTurn = (row: TurnRow): TurnRecord => ({
  id: row.id,
  conversation_id: row.conversation_id,
  user_message_id: row.user_message_id,
  message_id: row.message_id,
  status: row.status,
  response: row.content,
  finish_reason: row.finish_reason,
  model: row.model,
  sources: list(row.sources),
  citations: list(row.citations),
  memories_used: list(row.memories_used),
  usage: {
    prompt_tokens: row.prompt_tokens,
    completion_tokens: row.completion_tokens,
    total_tokens: row.total_tokens,
    estimated: row.usage_estimated === 1,
  },
  error: row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? "" },
  created_at: row.created_at,
  ended_at: row.ended_at,
});

export interface ConversationRow extends Omit<ConversationRecord, "metadata" | "last_message_at"> {
  metadata: string;
  last_active_ms: number;
}

export const toConversation = (row: ConversationRow): ConversationRecord => ({
  id: row.id,
  user_id: row.user_id,
  title: row.title,
  metadata: JSON.parse(row.metadata),
  message_count: row.message_count,
  tokens_used: row.tokens_used,
  active_turn_id: row.active_turn_id,
  created_at: row.created_at,
  updated_at: row.updated_at,
  last_message_at: Math.floor(row.last_active_ms / 1000),
});

export interface MessageRow extends Omit<MessageRecord, "conversation_id" | "sources" | "citations"> {
  sources: string;
  citations: string;
}

export const toMessage = (conversation_id: string, row: MessageRow): MessageRecord => ({
  ...row,
  conversation_id,
  sources: list(row.sources),
  citations: list(row.citations),
});

/** Most lists are empty, and parsing costs. */
export const list = <T>(json: string): T[] => (json === "[]" ? [] : JSON.parse(json));

export const conversationColumns = `c.id, c.user_id, c.title, c.metadata, c.message_count, c.tokens_used,
  c.active_turn_id, c.created_at, c.updated_at, c.last_active_ms`;

export const messageColumns = `m.id, m.turn_id, m.seq, m.role, m.content, m.status, m.model,
  m.sources, m.citations, m.tokens, m.created_at`;

/** A turn with the text of its reply; `c` is its conversation. */
export const selectTurn = `select t.id, c.id as conversation_id, u.id as user_message_id, m.id as message_id, t.status, m.content,
    m.sources, m.citations, t.finish_reason, m.model, t.memories_used, t.prompt_tokens, t.completion_tokens,
    t.total_tokens, t.usage_estimated, t.error_code, t.error_message, t.created_at, t.ended_at, t.instance_id
  from turns t join messages m on m.n = t.n join messages u on u.n = t.user_message_n
    join conversations c on c.n = m.conversation_n`;
