/** Where pages of budgets go on. */
import { cursorKind } from "../http/cursor.ts";
import { type BudgetCursor, budgetScopes } from "../storage/budget-store.ts";

/** The last budget of a page: whose it is. */
export const budgetCursor = cursorKind(
  "budget-cursor",
  (value): value is BudgetCursor =>
    Array.isArray(value) &&
    value.length === 2 &&
    budgetScopes.includes(value[0]) &&
    typeof value[1] === "string",
);
