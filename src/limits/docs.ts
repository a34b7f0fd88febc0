/** What /docs says about the budget routes. */
import { json, naming, operation, taking } from "../http/docs.ts";

const tag = "Usage";

const budget = {
  object: "budget",
  scope: "user",
  id: "ada",
  limits: { tokens_day: 100_000, tokens_month: null, usd_day: null, usd_month: "2.5" },
  set: { tokens_day: 100_000 },
  states: [
    {
      unit: "tokens",
      period: "day",
      limit: 100_000,
      used: 12_000,
      reserved: 5_000,
      remaining: 83_000,
      renews_at: 1_785_024_000,
    },
    {
      unit: "usd",
      period: "month",
      limit: "2.5",
      used: "0.00612",
      reserved: "0.012",
      remaining: "2.48188",
      renews_at: 1_785_542_400,
    },
  ],
  created_at: 1_785_000_000,
  updated_at: 1_785_000_000,
};

export const docs = {
  list: operation({
    tag,
    id: "listBudgets",
    summary: "List budgets",
    description: "Those that were set for one user, key or workspace, in pages. Needs an admin key.",
    answers: { 200: json("A page of budgets.", { budgets: [budget], has_more: false, next_after: null }) },
    problems: naming,
  }),
  read: operation({
    tag,
    id: "getBudget",
    summary: "Read a budget",
    description:
      "The limits of a user, a key or a workspace, set or configured, and what is left of them. Needs an admin key.",
    answers: { 200: json("The budget.", budget) },
    problems: naming,
  }),
  set: operation({
    tag,
    id: "setBudget",
    summary: "Set a budget",
    description:
      "Sets limits for one user, key or workspace, in place of those that were set before; what is left out is as configured. What was used already in the day and month counts. Needs an admin key.",
    body: {
      user: {
        summary: "A limit of tokens, and none of dollars",
        value: { tokens_day: 100_000, usd_month: null },
      },
    },
    answers: { 200: json("The budget as it is now.", budget) },
    problems: [...naming, ...taking],
  }),
  delete: operation({
    tag,
    id: "deleteBudget",
    summary: "Delete a budget",
    description: "From now on the configured limits hold. Needs an admin key.",
    answers: {
      200: json("It is deleted.", {
        status: "deleted",
        scope: "user",
        id: "ada",
        object: "budget.deleted",
        deleted: true,
      }),
    },
    problems: naming,
  }),
};
