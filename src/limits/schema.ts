/** What the budget routes take and give. */
import { type Static, t } from "elysia";
import { pageEnd, pageQuery } from "../http/paging.ts";
import { idParam, integer, nullable, oneOf, strictObject, textOfForm, time } from "../http/strict.ts";
import { budgetScopes } from "../storage/budget-store.ts";
import { usd } from "../usage/schema.ts";
import { budgetCursor } from "./cursors.ts";
import { budgetUsdPattern, tokensMax, usdLimit } from "./settings.ts";

/** Paths name them in the plural. */
const scopeNames = ["users", "keys", "workspaces"] as const;

export const budgetParams = strictObject({
  scope: oneOf([...scopeNames], { description: "Whose budget it is.", examples: ["users"] }),
  id: idParam({ description: "The user, the key or the workspace.", examples: ["ada"] }),
});

const tokens = (period: string) =>
  t.Optional(
    nullable(
      integer({ minimum: 0, maximum: tokensMax, description: `Tokens a ${period}; null is no limit.` }),
    ),
  );

const dollars = (period: string) =>
  t.Optional(
    nullable(
      textOfForm(
        "budget-usd",
        'must be dollars such as "2.50", below a million, with up to 9 decimals',
        (value) => usdLimit(value) !== null,
        {
          maxLength: 16,
          pattern: budgetUsdPattern,
          description: `Dollars a ${period}; null is no limit.`,
          examples: ["2.50"],
        },
      ),
    ),
  );

export const budgetRequest = strictObject(
  {
    tokens_day: tokens("day"),
    tokens_month: tokens("month"),
    usd_day: dollars("day"),
    usd_month: dollars("month"),
  },
  { title: "BudgetRequest" },
);
export type BudgetRequest = Static<typeof budgetRequest>;

const limits = {
  tokens_day: nullable(integer({ minimum: 0 })),
  tokens_month: nullable(integer({ minimum: 0 })),
  usd_day: nullable(usd("Dollars a day.")),
  usd_month: nullable(usd("Dollars a month.")),
};

const amount = (description: string) => t.Union([integer({ minimum: 0 }), usd("Dollars.")], { description });

export const budgetState = strictObject(
  {
    unit: oneOf(["tokens", "usd"]),
    period: oneOf(["day", "month"], { description: "Of UTC." }),
    limit: amount("Tokens as a number, dollars as text."),
    used: amount("By turns that have ended, and in the background."),
    reserved: amount("By turns that run: the most that they may take."),
    remaining: amount("For turns that are still to start."),
    renews_at: time({ description: "When the next period begins." }),
  },
  { title: "BudgetState" },
);

export const budget = strictObject(
  {
    object: t.Literal("budget"),
    scope: oneOf([...budgetScopes], { description: "Whose it is." }),
    id: t.String({ description: "The user, the key or the workspace." }),
    limits: strictObject(limits, { description: "What is in force; null is no limit." }),
    set: nullable(
      strictObject({
        tokens_day: t.Optional(limits.tokens_day),
        tokens_month: t.Optional(limits.tokens_month),
        usd_day: t.Optional(limits.usd_day),
        usd_month: t.Optional(limits.usd_month),
      }),
      { description: "What was set for this one; the rest is as configured. Null where nothing was." },
    ),
    states: t.Array(budgetState, { description: "How each limit in force stands." }),
    created_at: nullable(time()),
    updated_at: nullable(time()),
  },
  { title: "Budget" },
);
export type BudgetView = Static<typeof budget>;

export const budgetsQuery = strictObject({
  ...pageQuery(budgetCursor),
});

export const budgetPage = strictObject(
  {
    budgets: t.Array(budget, { description: "Those that were set, by scope and id." }),
    ...pageEnd(),
  },
  { title: "BudgetPage" },
);

export const deletedBudget = strictObject(
  {
    status: t.Literal("deleted"),
    scope: oneOf([...budgetScopes]),
    id: t.String(),
    object: t.Literal("budget.deleted"),
    deleted: t.Literal(true),
  },
  { title: "DeletedBudget" },
);
