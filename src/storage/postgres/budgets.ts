/** Budgets, and what is counted of them. */
import { type Counted, type Periods, statesOf } from "../budget-rules.ts";
import type { BudgetLimits, BudgetScope, BudgetState, BudgetStore } from "../budget-store.ts";
import type { Database } from "./database.ts";

/** The limits of one of a turn's payers, and what is counted of them by period. */
export interface CountedLimits {
  scope: BudgetScope;
  limits: BudgetLimits;
  counted: Record<string, Counted>;
}

const scopeOrder: readonly BudgetScope[] = ["user", "key", "workspace"];

/** How limits stand, those of the user first. */
export const statesOfCounted = (all: readonly CountedLimits[], periods: Periods): BudgetState[] =>
  all
    .toSorted((a, b) => scopeOrder.indexOf(a.scope) - scopeOrder.indexOf(b.scope))
    .flatMap(({ scope, limits, counted }) =>
      statesOf(scope, limits, periods, (period) => counted[periods[period].name] ?? null),
    );

export function createBudgets(_database: Database): BudgetStore {
  return {} as never;
}
