/** Turns as clients see them. */
import { AppError } from "../errors.ts";
import type { TurnRecord } from "../storage/store.ts";
import type { WatchedTurn } from "./running-turns.ts";
import type { ChatResponse, Turn } from "./schema.ts";

/** A turn with what its reply holds by now. */
export function toTurn({ turn, reply }: WatchedTurn): Turn {
  const current = reply.ended ?? { ...turn, ...reply.cited, response: reply.text };
  const { usage, response } = current;
  return { object: "turn", ...current, length: response.length, tokens_used: usage.total_tokens };
}

/** The answer of a turn that has ended. @throws the turn's own error where it failed or was interrupted */
export function toChatResponse(turn: TurnRecord): ChatResponse {
  const { id: turn_id, conversation_id, message_id, status, response, usage } = turn;
  if (status === "running" || status === "failed" || status === "interrupted") {
    const { code, message } = turn.error ?? new AppError("internal");
    const members = { turn_id, conversation_id, response };
    throw new AppError(code, { detail: message, members, final: true });
  }
  const { finish_reason, model, sources, citations, memories_used } = turn;
  return {
    response,
    conversation_id,
    turn_id,
    message_id,
    status,
    finish_reason,
    model,
    sources,
    citations,
    memories_used,
    tokens_used: usage.total_tokens,
    usage,
  };
}
