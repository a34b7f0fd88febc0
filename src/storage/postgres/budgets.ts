/** Budgets, and what is counted of them. Turns are checked against them in 0002_turns.sql. */
import { type Counted, type Periods, periodsAt, statesOf } from "../budget-rules.ts";
import type {
  BudgetCursor,
  BudgetLimits,
  BudgetRecord,
  BudgetScope,
  BudgetState,
  BudgetStore,
} from "../budget-store.ts";
import { type Database, toJson } from "./database.ts";

const dayMs = 86_400_000;

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

const columns = "workspace_id, scope, subject, limits, created_at::float8, updated_at::float8";
const ofSubject = "workspace_id = $workspace_id and scope = $scope and subject = $subject";

export function createBudgets(database: Database): BudgetStore {
  return {
    async hasBudgets(workspace_id) {
      const row = await database.row<{ found: boolean }>(
        "select exists (select from budgets where workspace_id = $workspace_id) as found",
        { workspace_id },
      );
      return row!.found;
    },

    async budgets(workspace_id, limit, after) {
      const [scope, subject] = after ?? ["", ""];
      const rows = await database.rows<BudgetRecord>(
        `select ${columns} from budgets where workspace_id = $workspace_id and (scope, subject) > ($scope, $subject)
         order by scope, subject limit $limit::int4`,
        { workspace_id, scope, subject, limit: limit + 1 },
      );
      const budgets = rows.slice(0, limit);
      const last = budgets.at(-1);
      const next: BudgetCursor | null = rows.length > limit && last ? [last.scope, last.subject] : null;
      return { budgets, next };
    },

    budget: ({ workspace_id, scope, subject }) =>
      database.row<BudgetRecord>(`select ${columns} from budgets where ${ofSubject}`, {
        workspace_id,
        scope,
        subject,
      }),

    async setBudget({ workspace_id, scope, subject }, limits, nowMs) {
      const record = await database.row<BudgetRecord>(
        `insert into budgets values ($workspace_id, $scope, $subject, $limits::text::json, $now::int8, $now::int8)
           on conflict (workspace_id, scope, subject) do update set limits = excluded.limits,
             updated_at = excluded.updated_at
           returning ${columns}`,
        { workspace_id, scope, subject, limits: toJson(limits), now: Math.floor(nowMs / 1000) },
      );
      return record!;
    },

    async deleteBudget({ workspace_id, scope, subject }) {
      const deleted = await database.change(`delete from budgets where ${ofSubject} returning 1`, {
        workspace_id,
        scope,
        subject,
      });
      return deleted.length > 0;
    },

    async budgetState({ workspace_id, scope, subject }, defaults, nowMs) {
      const periods = periodsAt(nowMs);
      const row = await database.row<{
        limits: Partial<BudgetLimits> | null;
        counted: Record<string, Counted>;
      }>(
        `select (select limits from budgets where ${ofSubject}) as limits, (
           select coalesce(json_object_agg(c.period, to_json(c)), '{}') from budget_counters c
           where c.scope = counter_scope($workspace_id, $scope, $subject) and c.period in ($day, $month)) as counted`,
        { workspace_id, scope, subject, day: periods.day.name, month: periods.month.name },
      );
      const { limits, counted } = row!;
      return statesOfCounted([{ scope, limits: { ...defaults, ...limits }, counted }], periods);
    },

    async deleteOldBudgetCounters(nowMs) {
      // Turns of the day before may still run.
      const thisMonth = periodsAt(nowMs).month.name;
      const { month } = periodsAt(Date.parse(`${thisMonth}-01`) - dayMs);
      const { day } = periodsAt(nowMs - 2 * dayMs);
      await database.rows(
        "delete from budget_counters where period < case length(period) when 7 then $month else $day end",
        { month: month.name, day: day.name },
      );
    },
  };
}
