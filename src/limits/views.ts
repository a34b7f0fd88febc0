/** Budgets as clients see them: money in dollars. */
import type { BudgetLimits, BudgetRecord, BudgetState, BudgetSubject } from "../storage/budget-store.ts";
import { formatUsd, parseUsd } from "../usage/money.ts";
import { toBudgetState } from "./budgets.ts";
import type { BudgetRequest, BudgetView } from "./schema.ts";

const dollars = (nanoUsd: number | null): string | null => (nanoUsd === null ? null : formatUsd(nanoUsd));

function inDollars({ nano_usd_day, nano_usd_month, ...tokens }: Partial<BudgetLimits>) {
  return {
    ...tokens,
    ...(nano_usd_day !== undefined && { usd_day: dollars(nano_usd_day) }),
    ...(nano_usd_month !== undefined && { usd_month: dollars(nano_usd_month) }),
  };
}

const nano = (usd: string | null): number | null => (usd === null ? null : parseUsd(usd));

/** What is named in a request; null is no limit. */
export function toLimits({ usd_day, usd_month, ...tokens }: BudgetRequest): Partial<BudgetLimits> {
  return {
    ...tokens,
    ...(usd_day !== undefined && { nano_usd_day: nano(usd_day) }),
    ...(usd_month !== undefined && { nano_usd_month: nano(usd_month) }),
  };
}

export function toBudget(
  { scope, subject }: BudgetSubject,
  defaults: BudgetLimits,
  record: BudgetRecord | null,
  states: readonly BudgetState[],
): BudgetView {
  return {
    object: "budget",
    scope,
    id: subject,
    limits: inDollars({ ...defaults, ...record?.limits }) as BudgetView["limits"],
    set: record && inDollars(record.limits),
    states: states.map(toBudgetState),
    created_at: record?.created_at ?? null,
    updated_at: record?.updated_at ?? null,
  };
}
