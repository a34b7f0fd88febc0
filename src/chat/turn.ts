/** The whole story of a turn, from its prompt to its committed end. Connections play no part in it. */
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { ModelFailure } from "../models/model.ts";
import type { FinishReason, TurnEndStatus } from "../storage/store.ts";
import type { Spent } from "../storage/usage-store.ts";
import { buildContext } from "./context.ts";
import type { AbortReason, Outcome, RunningTurn, TurnServices } from "./running-turn.ts";
import { commitEnd, toEnd } from "./turn-end.ts";

/**
 * Runs a turn to its end, whatever happens; resolves when the end is committed and told to the watchers, with what it
 * took. What later turns remember of it is worked out in the background.
 */
export async function runTurn(running: RunningTurn, services: TurnServices): Promise<Spent> {
  const outcome = await streamReply(running, services);
  const end = toEnd(running, outcome, services);
  running.reply.end(await commitEnd(running, end, services));
  const { turn, input } = running;
  services.memory.turnEnded({
    ...input,
    turn_id: turn.id,
    user_message_id: turn.user_message_id,
    created_at: turn.created_at,
    to_remember: end.to_remember,
    fold: outcome.context?.fold ?? null,
  });
  return end.spent;
}

/** Lets the model write the reply. Never throws: a failure is an outcome, and the text before it is kept. */
async function streamReply(running: RunningTurn, services: TurnServices): Promise<Outcome> {
  const { reply, signal, turn, options } = running;
  const { log } = services;
  const { replyCharsMax } = services.limits;
  const outcome: Outcome = {
    status: "completed",
    finish_reason: null,
    error: null,
    usage: null,
    context: null,
  };
  try {
    const context = await buildContext(running.input, services);
    outcome.context = context;
    reply.drawOn(context);
    signal.throwIfAborted();
    const { messages, grounding } = context;
    const request = { ...options, messages, grounding };
    await services.model.reply(request, signal, (piece) => {
      if (piece.model !== undefined) turn.model = piece.model;
      if (piece.usage !== undefined) outcome.usage = piece.usage;
      if (piece.finish_reason !== undefined) outcome.finish_reason = piece.finish_reason;
      if (piece.text === undefined) return;
      if (running.mayBeLost()) reply.withhold();
      if (!reply.append(piece.text, replyCharsMax)) running.abort("too_long");
    });
    outcome.status = statusOfFinish(outcome.finish_reason);
  } catch (error) {
    Object.assign(outcome, signal.aborted ? abortedAs(signal.reason) : failedWith(error, running, log));
  }
  reply.finish(replyCharsMax);
  return outcome;
}

function statusOfFinish(reason: FinishReason | null): TurnEndStatus {
  if (reason === "length") return "truncated";
  return reason === "content_filter" ? "filtered" : "completed";
}

type Ending = Pick<Outcome, "status" | "finish_reason" | "error">;

function abortedAs(reason: AbortReason): Ending {
  if (reason === "stopped") return { status: "stopped", finish_reason: null, error: null };
  if (reason === "too_long") return { status: "truncated", finish_reason: "length", error: null };
  if (reason === "shutdown") {
    const error = {
      code: "shutting_down",
      message: "The service shut down before the reply was complete.",
    } as const;
    return { status: "interrupted", finish_reason: null, error };
  }
  if (reason === "lost") {
    const error = {
      code: "turn_interrupted",
      message: "The instance that wrote the reply was silent for too long.",
    } as const;
    return { status: "interrupted", finish_reason: null, error };
  }
  const error = { code: "model_timeout", message: "The reply took longer than a turn may." } as const;
  return { status: "failed", finish_reason: null, error };
}

function failedWith(error: unknown, { turn }: RunningTurn, log: Log): Ending {
  if (error instanceof ModelFailure) {
    log.warn({ turn_id: turn.id, code: error.code, upstream: error.upstream }, "model failed");
    return { status: "failed", finish_reason: null, error: { code: error.code, message: error.message } };
  }
  log.error({ turn_id: turn.id, err: error }, "turn failed");
  const { code, detail } = error instanceof AppError ? error : new AppError("internal");
  return { status: "failed", finish_reason: null, error: { code, message: detail } };
}
