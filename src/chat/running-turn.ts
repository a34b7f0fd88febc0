/** What a turn is while it runs: what it was started with, what it works with and how it may come out. */
import type { Log } from "../log.ts";
import type { Model, ModelRequest, ModelUsage } from "../models/model.ts";
import type { FinishReason, Store, TurnEnd, TurnEndStatus, TurnRecord } from "../storage/store.ts";
import type { SystemPrompt } from "./context.ts";
import type { Reply } from "./reply.ts";

/** Why a running turn is aborted; the signal's reason. */
export type AbortReason = "stopped" | "shutdown" | "too_slow" | "too_long";

export interface RunningTurn {
  /** As committed at the start. */
  readonly turn: TurnRecord;
  readonly workspace_id: string;
  readonly seq: number;
  readonly message: string;
  readonly message_tokens: number;
  readonly options: Omit<ModelRequest, "messages">;
  readonly reply: Reply;
  readonly signal: AbortSignal;
  readonly abort: (reason: AbortReason) => void;
}

export interface TurnServices {
  readonly store: Store;
  readonly model: Model;
  readonly log: Log;
  readonly instanceId: string;
  readonly systemPrompt: SystemPrompt;
  readonly windowTokens: number;
  readonly replyCharsMax: number;
}

/** How the model's part of a turn went. */
export interface Outcome {
  status: TurnEndStatus;
  finish_reason: FinishReason | null;
  model: string;
  error: TurnEnd["error"];
  /** As the provider reported it; null where it didn't. */
  usage: ModelUsage | null;
  /** Our own count of the prompt. */
  promptTokens: number;
}
