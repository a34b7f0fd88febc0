/**
 * The part of the storage port that keeps the ledger: a row for each turn, written with the turn's start and settled with
 * its end, in the same commits, and a row for each request to a model in the background.
 *
 * Rows are never deleted: they outlive conversations, and of an erased user's rows only the names are taken out. Money is
 * in nano-dollars, whole numbers of which sums are exact. A row counts in the second, day and month of its start.
 */
import type { Scope } from "./store.ts";

/** What a turn took beside its `Usage`. */
export interface Spent {
  /** The part of the prompt's tokens that the provider had in its cache. */
  cached_tokens: number;
  /** The part of the completion's tokens that was spent on reasoning. */
  reasoning_tokens: number;
  /** Null where the model has no price. */
  cost_nano_usd: number | null;
  /** From the turn's start to the first text of the reply; null where there was none, or nobody knows. */
  first_token_ms: number | null;
  /** Null where nobody knows. */
  duration_ms: number | null;
}

/** A request to a model that no turn waited for. */
export interface BackgroundUsage extends Omit<Spent, "first_token_ms"> {
  kind: "memory" | "summary";
  /** What it was for: user, key and conversation are the turn's. */
  turn_id: string;
  model: string;
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  estimated: boolean;
}

export const usageGroups = ["user", "key", "model", "conversation", "day"] as const;
export type UsageGroup = (typeof usageGroups)[number];

/** What of the ledger is summed up. */
export interface UsageQuery {
  user_id: string | null;
  key_id: string | null;
  model: string | null;
  conversation_id: string | null;
  /** Unix seconds: turns that started then or later. */
  from: number | null;
  /** Unix seconds: turns that started before. */
  to: number | null;
  /** Null sums up everything in one row. */
  group_by: UsageGroup | null;
  limit: number;
  /** The group that the page before ended with. */
  after: UsageCursor | null;
}

/** A group's place in the order of groups: what it is sorted by, which needn't be its name. */
export type UsageCursor = string | number;

export interface UsageSums {
  /** The user, key, model, conversation or day (2026-11-24); null for all in one, and for what nobody knows any more. */
  group: string | null;
  turns: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  reasoning_tokens: number;
  total_tokens: number;
  /** Turns whose tokens Parley counted, because the provider didn't. */
  estimated_turns: number;
  /** Of the turns that have a cost: a whole number in decimal, which may be beyond 2⁵³. */
  cost_nano_usd: string;
  /** Averages over the turns of which they are known; null where there is none. */
  first_token_ms: number | null;
  duration_ms: number | null;
  /** Turns that have ended without a cost, because their model has no price. */
  unpriced_turns: number;
  background_requests: number;
  background_tokens: number;
  background_cost_nano_usd: string;
}

export interface UsagePage {
  /** In the order of what they are grouped by. */
  sums: UsageSums[];
  next: UsageCursor | null;
}

export interface UsageStore {
  /** Sums over the ledger; without a group there is exactly one. */
  usage(scope: Scope, query: UsageQuery): Promise<UsagePage>;
  /**
   * Enters what a request in the background took; where the turn has been deleted, nothing. Goes after what turns wait
   * for.
   */
  recordBackgroundUsage(usage: BackgroundUsage): Promise<void>;
}
