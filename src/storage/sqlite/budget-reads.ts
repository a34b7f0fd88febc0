/** Queries about budgets: small ones, which run in the server's thread, and in the writer before a turn starts. */

import type { Database, SQLQueryBindings } from "bun:sqlite";
import { type Counted, counterScope, type Periods, periodsAt, statesOf } from "../budget-rules.ts";
import type {
  BudgetCursor,
  BudgetLimits,
  BudgetPeriod,
  BudgetRecord,
  BudgetScope,
  BudgetState,
  BudgetSubject,
} from "../budget-store.ts";

interface BudgetRow extends Omit<BudgetRecord, "limits"> {
  limits: string;
}

type CounterRow = Counted & { period: string; scope: string };

const toRecord = ({ limits, ...row }: BudgetRow): BudgetRecord => ({ ...row, limits: JSON.parse(limits) });

/** Whose counters are looked up without hashing again. */
const knownScopesMax = 4_096;

export function createBudgetReads(db: Database) {
  const knownScopes = new Map<string, string>();

  function knownScope(of: BudgetSubject): string {
    const name = `${of.scope}\0${of.workspace_id}\0${of.subject}`;
    const known = knownScopes.get(name);
    if (known !== undefined) return known;
    const made = counterScope(of);
    if (knownScopes.size >= knownScopesMax) knownScopes.clear();
    knownScopes.set(name, made);
    return made;
  }

  const any = db.query<{ found: number }, SQLQueryBindings>(
    "select exists (select 1 from budgets where workspace_id = $workspace_id) as found",
  );
  const columns = "workspace_id, scope, subject, limits, created_at, updated_at";
  const one = db.query<BudgetRow, SQLQueryBindings>(
    `select ${columns} from budgets where workspace_id = $workspace_id and scope = $scope and subject = $subject`,
  );
  const page = db.query<BudgetRow, SQLQueryBindings>(
    `select ${columns} from budgets where workspace_id = $workspace_id and (scope, subject) > ($scope, $subject)
     order by scope, subject limit $limit`,
  );
  const counters = db.query<CounterRow, SQLQueryBindings>(
    `select period, scope, used_tokens, used_nano_usd, reserved_tokens, reserved_nano_usd from budget_counters
     where period in ($day, $month) and scope = $scope`,
  );

  function budget({ workspace_id, scope, subject }: BudgetSubject): BudgetRecord | null {
    const row = one.get({ workspace_id, scope, subject });
    return row && toRecord(row);
  }

  /** How the limits of one of them stand: those that were set before those that are configured. */
  function statesFor(subject: BudgetSubject, defaults: BudgetLimits, periods: Periods): BudgetState[] {
    const limits = { ...defaults, ...budget(subject)?.limits };
    if (Object.values(limits).every((limit) => limit === null)) return [];
    const { day, month } = periods;
    const rows = counters.all({ day: day.name, month: month.name, scope: knownScope(subject) });
    const counted = (period: BudgetPeriod): Counted | null =>
      rows.find((row) => row.period === periods[period].name) ?? null;
    return statesOf(subject.scope, limits, periods, counted);
  }

  return {
    hasBudgets: (workspace_id: string): boolean => any.get({ workspace_id })!.found === 1,

    budgets(workspace_id: string, limit: number, after: BudgetCursor | null) {
      const [scope, subject]: [BudgetScope | "", string] = after ?? ["", ""];
      const rows = page.all({ workspace_id, scope, subject, limit: limit + 1 });
      const budgets = rows.slice(0, limit).map(toRecord);
      const last = budgets.at(-1);
      const next: BudgetCursor | null = rows.length > limit && last ? [last.scope, last.subject] : null;
      return { budgets, next };
    },

    budget,
    statesFor,
    counterScope: knownScope,

    budgetState: (subject: BudgetSubject, defaults: BudgetLimits, nowMs: number): BudgetState[] =>
      statesFor(subject, defaults, periodsAt(nowMs)),
  };
}
