/** Budgets in front of clients: what a refusal says, and what is left. */
import { AppError } from "../errors.ts";
import type { BudgetState } from "../storage/budget-store.ts";
import { formatUsd } from "../usage/money.ts";
import type { LimitState } from "./headers.ts";

/** Dollars as text, tokens as a number. */
const amountOf = ({ unit }: BudgetState, amount: number): string | number =>
  unit === "tokens" ? amount : formatUsd(amount);

const unitOf = ({ unit }: BudgetState): "tokens" | "usd" => (unit === "tokens" ? "tokens" : "usd");

const left = ({ limit, used, reserved }: BudgetState): number => Math.max(0, limit - used - reserved);

export const toBudgetState = (state: BudgetState) => ({
  unit: unitOf(state),
  period: state.period,
  limit: amountOf(state, state.limit),
  used: amountOf(state, state.used),
  reserved: amountOf(state, state.reserved),
  remaining: amountOf(state, left(state)),
  renews_at: state.renews_at,
});

/** The store's refusal of a turn in public words; any other error as it is. */
export function toBudgetError(error: unknown, nowMs: number): unknown {
  if (!(error instanceof AppError) || error.code !== "budget_exhausted") return error;
  const { state, needed } = error.members as { state: BudgetState; needed: number };
  const { scope, period, renews_at } = state;
  const unit = state.unit === "tokens" ? "tokens" : "dollars";
  const budget = `The ${scope}'s budget of ${amountOf(state, state.limit)} ${unit} a ${period}`;
  const never = needed > state.limit ? " It never has room for that: ask with a smaller max_tokens." : "";
  return new AppError("budget_exhausted", {
    detail: `${budget} has no room for a turn that may take ${amountOf(state, needed)}.${never}`,
    members: { budget: { scope, ...toBudgetState(state), needed: amountOf(state, needed) } },
    headers: { "retry-after": String(secondsUntil(renews_at, nowMs)) },
  });
}

/** What is left of the budgets that limit a turn, for the headers of its answer. */
export const budgetLimits = (states: readonly BudgetState[], nowMs: number): LimitState[] =>
  states.map((state) => ({
    name: `${state.scope}-${unitOf(state)}-${state.period}`,
    quota: state.limit,
    remaining: left(state),
    windowSeconds: state.period === "day" ? 86_400 : daysOfMonthBefore(state.renews_at) * 86_400,
    resetSeconds: secondsUntil(state.renews_at, nowMs),
    unit: state.unit === "tokens" ? "tokens" : "nano-usd",
  }));

const secondsUntil = (at: number, nowMs: number): number => Math.max(1, Math.ceil(at - nowMs / 1000));

/** How many days the month has that ends then. */
const daysOfMonthBefore = (renewsAt: number): number => new Date((renewsAt - 1) * 1000).getUTCDate();
