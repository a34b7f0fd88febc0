/** A turn that has ended, for who logs and counts: everything is measured once, here, and nothing at a token. */
import type { Log } from "../log.ts";
import type { TurnRecord } from "../storage/store.ts";
import type { Spent } from "../storage/usage-store.ts";
import type { Correlation } from "../trace-context.ts";
import type { RunningTurn } from "./running-turn.ts";

export interface EndedTurn {
  /** As its watchers were told. */
  readonly turn: TurnRecord;
  readonly workspace_id: string;
  readonly user_id: string;
  readonly message: string;
  /** Of the request that started it. */
  readonly correlation: Correlation;
  /** From its start to its committed end. */
  readonly seconds: number;
  /** From its start to the first text of the reply; null where none came. */
  readonly firstTokenSeconds: number | null;
  /** From the first text of the reply to its end; null where none came. */
  readonly writingSeconds: number | null;
  /** By kind. */
  readonly tokens: Readonly<Record<string, number>>;
  /** In dollars; null where the model has no price. */
  readonly cost: number | null;
}

/** More of a message or a reply isn't logged: a line has its bounds. */
const contentCharsMax = 32_000;

/** @param running a turn whose end has been told, with what it took */
export function endedTurn(
  { reply, input, correlation, startedMs }: RunningTurn,
  { cached_tokens, reasoning_tokens, cost_nano_usd }: Spent,
): EndedTurn {
  const turn = reply.ended!;
  const { first, finished } = reply.writtenMs;
  const { prompt_tokens, completion_tokens } = turn.usage;
  return {
    turn,
    workspace_id: input.workspace_id,
    user_id: input.user_id,
    message: input.message,
    correlation,
    seconds: secondsFrom(startedMs, Date.now()),
    firstTokenSeconds: first === null ? null : secondsFrom(startedMs, first),
    writingSeconds: first === null || finished === null ? null : secondsFrom(first, finished),
    tokens: {
      prompt: prompt_tokens,
      cached: cached_tokens,
      completion: completion_tokens,
      reasoning: reasoning_tokens,
    },
    cost: cost_nano_usd === null ? null : cost_nano_usd / 1e9,
  };
}

/** Clocks are set back now and then. */
const secondsFrom = (startMs: number, endMs: number): number => Math.max(0, endMs - startMs) / 1000;

/** The line of a turn. @param withContent whether it says what was said */
export function logTurn(log: Log, ended: EndedTurn, withContent: boolean): void {
  const { turn, workspace_id, user_id, message, correlation, seconds, firstTokenSeconds } = ended;
  const { id, conversation_id, status, model, usage, error, response } = turn;
  const { request_id, trace } = correlation;
  log.info(
    {
      event: "turn_ended",
      turn_id: id,
      request_id,
      ...(trace && { trace_id: trace.trace_id }),
      workspace_id,
      user_id,
      conversation_id,
      model,
      status,
      ...(error && { code: error.code }),
      prompt_tokens: usage.prompt_tokens,
      completion_tokens: usage.completion_tokens,
      tokens_used: usage.total_tokens,
      estimated: usage.estimated,
      ...(firstTokenSeconds !== null && { first_token_ms: Math.round(firstTokenSeconds * 1000) }),
      duration_ms: Math.round(seconds * 1000),
      ...(withContent && {
        message: message.slice(0, contentCharsMax),
        reply: response.slice(0, contentCharsMax),
      }),
    },
    "turn ended",
  );
}
