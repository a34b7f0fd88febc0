/** Rows as PostgreSQL gives them, and the records they become. int8 is cast, because it comes as a string otherwise. */
import type { ErrorCode } from "../../errors.ts";
import type { ConversationRecord, FinishReason, MessageRecord, TurnRecord, TurnStatus } from "../store.ts";

export interface TurnRow
  extends Omit<TurnRecord, "response" | "usage" | "error" | "status" | "finish_reason"> {
  status: TurnStatus;
  finish_reason: FinishReason | null;
  content: string;
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  usage_estimated: boolean;
  error_code: ErrorCode | null;
  error_message: string | null;
  instance_id: string;
}

export function toTurn(row: TurnRow): TurnRecord {
  const {
    content,
    prompt_tokens,
    completion_tokens,
    total_tokens,
    usage_estimated,
    error_code,
    error_message,
    instance_id: _,
    ...turn
  } = row;
  return {
    ...turn,
    response: content,
    usage: { prompt_tokens, completion_tokens, total_tokens, estimated: usage_estimated },
    error: error_code === null ? null : { code: error_code, message: error_message ?? "" },
  };
}

/** A turn with the text of its reply; `c` is its conversation. */
export const selectTurn = `select t.id, c.id as conversation_id, u.id as user_message_id, m.id as message_id, t.status,
    m.content, m.sources, m.citations, t.finish_reason, m.model, t.memories_used, t.prompt_tokens, t.completion_tokens,
    t.total_tokens, t.usage_estimated, t.error_code, t.error_message, t.created_at::float8, t.ended_at::float8, t.instance_id
  from turns t join messages m on m.n = t.n join messages u on u.n = t.user_message_n
    join conversations c on c.n = m.conversation_n`;

export type ConversationRow = Omit<ConversationRecord, "last_message_at"> & { last_active_ms: number };

export const toConversation = ({ last_active_ms, ...row }: ConversationRow): ConversationRecord => ({
  ...row,
  last_message_at: Math.floor(last_active_ms / 1000),
});

export const conversationColumns = `c.id, c.user_id, c.title, c.metadata, c.message_count, c.tokens_used::float8,
  c.active_turn_id, c.created_at::float8, c.updated_at::float8, c.last_active_ms::float8`;

export type MessageRow = Omit<MessageRecord, "conversation_id">;

export const toMessage = (conversation_id: string, row: MessageRow): MessageRecord => ({
  ...row,
  conversation_id,
});

export const messageColumns = `m.id, m.turn_id, m.seq, m.role, m.content, m.status, m.model, m.sources, m.citations,
  m.tokens, m.created_at::float8`;

/** Whether the conversation `c` lies in a scope, by its `$workspace_id` and `$user_id`. */
export const inScope =
  "c.workspace_id = $workspace_id and ($user_id::text is null or c.user_id = $user_id) and not c.deleted";
