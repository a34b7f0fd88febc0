/** Budgets of single users, keys and workspaces, set by admins. */
import { requireAdmin } from "../auth/admin.ts";
import type { Authenticate, Principal } from "../auth/principal.ts";
import { AppError } from "../errors.ts";
import { authenticatedRoutes } from "../http/routes.ts";
import type { BudgetRecord, BudgetSubject, DefaultBudgets } from "../storage/budget-store.ts";
import type { Store } from "../storage/store.ts";
import { budgetCursor } from "./cursors.ts";
import { docs } from "./docs.ts";
import { budget, budgetPage, budgetParams, budgetRequest, budgetsQuery, deletedBudget } from "./schema.ts";
import { toBudget, toLimits } from "./views.ts";

const pageSize = 20;
const idCharsMax = 512;

export interface BudgetServices {
  readonly store: Store;
  readonly authenticate: Authenticate;
  readonly budgets: DefaultBudgets;
}

export function budgetRoutes(prefix: string, { store, authenticate, budgets: defaults }: BudgetServices) {
  async function view(subject: BudgetSubject, record: BudgetRecord | null) {
    const ofScope = defaults[subject.scope];
    return toBudget(subject, ofScope, record, await store.budgetState(subject, ofScope, Date.now()));
  }

  return authenticatedRoutes(prefix, authenticate)
    .onTransform(({ principal }) => requireAdmin(principal))
    .get(
      "/budgets",
      async ({ principal, query }) => {
        const { workspace_id } = principal.scope;
        const after = budgetCursor.read(query.after ?? "");
        const { budgets, next } = await store.budgets(workspace_id, Number(query.limit ?? pageSize), after);
        return {
          budgets: await Promise.all(budgets.map((record) => view(record, record))),
          has_more: next !== null,
          next_after: next && budgetCursor.write(next),
        };
      },
      { query: budgetsQuery, response: { 200: budgetPage }, detail: docs.list },
    )
    .get(
      "/budgets/:scope/:id",
      async ({ principal, params }) => {
        const subject = subjectOf(principal, params);
        return view(subject, await store.budget(subject));
      },
      { params: budgetParams, response: { 200: budget }, detail: docs.read },
    )
    .put(
      "/budgets/:scope/:id",
      async ({ principal, params, body }) => {
        const subject = subjectOf(principal, params);
        return view(subject, await store.setBudget(subject, toLimits(body), Date.now()));
      },
      { params: budgetParams, body: budgetRequest, response: { 200: budget }, detail: docs.set },
    )
    .delete(
      "/budgets/:scope/:id",
      async ({ principal, params }) => {
        const subject = subjectOf(principal, params);
        if (!(await store.deleteBudget(subject))) {
          throw new AppError("not_found", { detail: "No budget was set for it." });
        }
        return {
          status: "deleted" as const,
          scope: subject.scope,
          id: subject.subject,
          object: "budget.deleted" as const,
          deleted: true as const,
        };
      },
      { params: budgetParams, response: { 200: deletedBudget }, detail: docs.delete },
    );
}

const scopes = { users: "user", keys: "key", workspaces: "workspace" } as const;

/** @throws not_found for what can't be one, and for another workspace */
function subjectOf(
  { scope: { workspace_id } }: Principal,
  { scope, id }: { scope: keyof typeof scopes; id: string },
): BudgetSubject {
  const isForeign = scope === "workspaces" && id !== workspace_id;
  if (isForeign || id.length > idCharsMax || !id.isWellFormed() || id.includes("\0")) {
    throw new AppError("not_found", { detail: "There is no such user, key or workspace." });
  }
  return { workspace_id, scope: scopes[scope], subject: id };
}
