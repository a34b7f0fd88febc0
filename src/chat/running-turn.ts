/** What a turn is while it runs: what it was started with, what it works with and how it may come out. */
import type { BackgroundMemory } from "../memory/background.ts";
import type { Model, ModelRequest, ModelUsage } from "../models/model.ts";
import type { Relay } from "../storage/relay.ts";
import type { FinishReason, TurnEnd, TurnEndStatus, TurnRecord } from "../storage/store.ts";
import type { Correlation } from "../trace-context.ts";
import type { ContextServices, TurnContext, TurnInput } from "./context.ts";
import type { EndedTurn } from "./ended-turn.ts";
import type { Reply } from "./reply.ts";
import type { ReservationServices } from "./reservation.ts";

/** Why a running turn is aborted; the signal's reason. */
export type AbortReason = "stopped" | "shutdown" | "too_slow" | "too_long" | "lost";

export interface RunningTurn {
  /** As committed at the start; `model` becomes the fallback that answers, if one does. */
  readonly turn: TurnRecord;
  readonly input: TurnInput;
  readonly options: Omit<ModelRequest, "messages" | "grounding">;
  readonly reply: Reply;
  /** Of the request that started it. */
  readonly correlation: Correlation;
  /** By `Date.now()`. */
  readonly startedMs: number;
  readonly signal: AbortSignal;
  readonly abort: (reason: AbortReason) => void;
  /** Whether others may have ended it, because this process was paused: what comes is shown when that is known. */
  readonly mayBeLost: () => boolean;
}

export interface TurnServices extends ContextServices, ReservationServices {
  /** Hears of each turn when its end is committed. */
  readonly onTurnEnd: (ended: EndedTurn) => void;
  readonly model: Model;
  readonly memory: BackgroundMemory;
  readonly instanceId: string;
  /** To other instances; null where none shares the storage. */
  readonly relay: Relay | null;
}

/** How the model's part of a turn went. */
export interface Outcome {
  status: TurnEndStatus;
  finish_reason: FinishReason | null;
  error: TurnEnd["error"];
  /** As the provider reported it; null where it didn't. */
  usage: ModelUsage | null;
  /** Null where the turn ended before there was one. */
  context: TurnContext | null;
}
