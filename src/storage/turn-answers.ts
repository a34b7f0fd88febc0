/** What all adapters answer to who starts a turn. */
import { AppError } from "../errors.ts";
import type { TurnRecord, TurnSlot, TurnStart } from "./store.ts";

/** A turn as it begins. */
export const newTurn = (start: TurnStart, conversation_id: string): TurnRecord => ({
  id: start.turn_id,
  conversation_id,
  user_message_id: start.user_message_id,
  message_id: start.message_id,
  status: "running",
  response: "",
  finish_reason: null,
  model: start.model,
  sources: [],
  citations: [],
  memories_used: [],
  usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true },
  error: null,
  created_at: Math.floor(start.now_ms / 1000),
  ended_at: null,
});

export const unknownConversation = (): AppError =>
  new AppError("not_found", {
    detail: "There is no such conversation. Leave conversation_id out to start a new conversation.",
  });

export const turnInProgress = (turnId: string): AppError =>
  new AppError("turn_in_progress", {
    detail: "Wait for the running turn, watch it or stop it, then try again.",
    members: { turn_id: turnId },
  });

/** When it is worth to ask again: nobody knows how long a turn takes. */
const retryAfterSeconds = 5;

export const slotFull = ({ what, quota }: TurnSlot): AppError =>
  new AppError("rate_limited", {
    detail: `The ${what} has ${quota} turns running, which is as many as may.`,
    headers: { "retry-after": String(retryAfterSeconds) },
  });

/** @param what was made: "turn that this Idempotency-Key started" */
export const madeAndDeleted = (what: string): AppError =>
  new AppError("not_found", { detail: `The ${what} was deleted.` });
