/** The end of a turn: what is committed, and committing it whatever the storage does. */
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "../errors.ts";
import { countTokens } from "../models/tokens.ts";
import type { TurnEnd, TurnRecord, Usage } from "../storage/store.ts";
import type { Outcome, RunningTurn, TurnServices } from "./running-turn.ts";

/** Watchers of a turn whose end can't be stored are told after so long; storing it is tried on. */
const unstoredSecondsMax = 10;
const retryMs = 500;
/** A process that was paused for as long as that finds the storage well when it tries again. */
const unstoredTriesMin = 3;

/** The end to commit, with the provider's usage or, where it gave none, our own count. */
export function toEnd(
  { reply, input, turn, startedMs }: RunningTurn,
  outcome: Outcome,
  { model: port, memory, prices }: TurnServices,
): TurnEnd {
  const { status, finish_reason, error, usage: reported, context } = outcome;
  const response = reply.written;
  const response_tokens = reported
    ? Math.max(0, reported.completion_tokens - reported.reasoning_tokens)
    : countTokens(response);
  const usage: Usage = reported
    ? {
        prompt_tokens: reported.prompt_tokens,
        completion_tokens: reported.completion_tokens,
        total_tokens: reported.total_tokens,
        estimated: false,
      }
    : estimatedUsage(context?.tokens ?? 0, response_tokens);
  const { model } = turn;
  const { first } = reply.writtenMs;
  const cached_tokens = reported?.cached_tokens ?? 0;
  return {
    status,
    finish_reason,
    model,
    error,
    response,
    response_tokens,
    usage,
    spent: {
      cached_tokens,
      reasoning_tokens: reported?.reasoning_tokens ?? 0,
      cost_nano_usd: prices.costOf(model, { ...usage, cached_tokens }),
      first_token_ms: first === null ? null : Math.max(0, first - startedMs),
      duration_ms: Date.now() - startedMs,
    },
    sources: context?.sources ?? [],
    citations: context?.citations ?? [],
    memories_used: context?.memories_used ?? [],
    receipt: context?.receipt ?? null,
    to_remember: input.use_memory && status !== "failed" && memory.mayHold(input.message),
    reply_recallable: port.writes,
    message: input.message,
  };
}

/** Usage by our own count. */
export const estimatedUsage = (prompt_tokens: number, completion_tokens: number): Usage => ({
  prompt_tokens,
  completion_tokens,
  total_tokens: prompt_tokens + completion_tokens,
  estimated: true,
});

/**
 * Commits the end, trying on while the storage fails. Watchers are not kept waiting for a broken disk: after a while
 * they are told that the turn was interrupted, and from then on that is what gets stored.
 */
export async function commitEnd(
  running: RunningTurn,
  end: TurnEnd,
  services: TurnServices,
): Promise<TurnRecord> {
  const { turn, reply, signal, input } = running;
  const { store, instanceId, log } = services;
  const giveUpAt = Date.now() + unstoredSecondsMax * 1000;
  let decided = end;
  for (let tries = 1; ; tries++) {
    const now = Date.now();
    try {
      if (await store.endTurn(turn.id, instanceId, decided, now)) return asEnded(turn, decided, now);
      const stored = await store.turn({ workspace_id: input.workspace_id, user_id: null }, turn.id);
      return stored ?? asEnded(turn, decided, now);
    } catch (error) {
      log.error({ turn_id: turn.id, err: error }, "turn end not stored");
      if (decided === end && now >= giveUpAt && tries >= unstoredTriesMin) {
        const { code, detail } = new AppError("storage_unavailable");
        decided = { ...end, status: "interrupted", error: { code, message: detail } };
        reply.end(asEnded(turn, decided, now));
      }
      if (decided !== end && signal.reason === "shutdown") return asEnded(turn, decided, now);
      await sleep(retryMs);
    }
  }
}

function asEnded(turn: TurnRecord, end: TurnEnd, nowMs: number): TurnRecord {
  const { spent, response_tokens, receipt, to_remember, reply_recallable, message, ...told } = end;
  return { ...turn, ...told, ended_at: Math.floor(nowMs / 1000) };
}
