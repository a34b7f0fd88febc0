/** Budgets as they are configured: `user 100000 tokens/day, workspace 500 usd/month`. */
import {
  type BudgetLimits,
  type BudgetScope,
  budgetScopes,
  type DefaultBudgets,
} from "../storage/budget-store.ts";
import { formatUsd, parseUsd } from "../usage/money.ts";

const variable = "PARLEY_BUDGETS";

/** Dollars of a budget. More have too many digits in nano-dollars: headers hold whole numbers of fifteen. */
export const budgetUsdPattern = "^\\d{1,6}(\\.\\d{1,9})?$";
const budgetUsd = new RegExp(budgetUsdPattern);
export const tokensMax = 1e12;

export const noLimits: BudgetLimits = {
  tokens_day: null,
  tokens_month: null,
  nano_usd_day: null,
  nano_usd_month: null,
};

const form = /^(\w+)\s+([\d.]+)\s*(tokens|usd)\s*\/\s*(day|month)$/;

/** @param faults gets what is wrong with it, all of it */
export function readBudgets(text: string | null, faults: string[]): DefaultBudgets {
  const budgets: Record<BudgetScope, BudgetLimits> = {
    user: { ...noLimits },
    key: { ...noLimits },
    workspace: { ...noLimits },
  };
  for (const entry of (text ?? "").split(",").map((entry) => entry.trim())) {
    if (entry === "") continue;
    const [, who, amount, unit, period] = form.exec(entry.toLowerCase()) ?? [];
    const scope = budgetScopes.find((scope) => scope === who);
    if (scope === undefined) {
      faults.push(
        `${variable}: "${entry}" must be such as "user 100000 tokens/day" or "workspace 500 usd/month", for a user, a key or the workspace`,
      );
      continue;
    }
    const limit = unit === "usd" ? usdLimit(amount!) : tokensLimit(amount!);
    if (limit === null) {
      const most =
        unit === "usd" ? "dollars below a million, with up to 9 decimals" : `whole tokens up to ${tokensMax}`;
      faults.push(`${variable}: "${entry}" must have ${most}`);
      continue;
    }
    budgets[scope][`${unit === "usd" ? "nano_usd" : "tokens"}_${period as "day" | "month"}`] = limit;
  }
  for (const limits of Object.values(budgets)) Object.freeze(limits);
  return Object.freeze(budgets);
}

/** Dollars of a budget in nano-dollars; null for what is none. */
export const usdLimit = (text: string): number | null => (budgetUsd.test(text) ? parseUsd(text) : null);

const tokensLimit = (text: string): number | null =>
  /^\d{1,13}$/.test(text) && Number(text) <= tokensMax ? Number(text) : null;

/** Budgets as they may be configured; null where there are none. */
export function describeBudgets(budgets: DefaultBudgets): string | null {
  const entries = budgetScopes.flatMap((scope) => {
    const limits = budgets[scope];
    return (["day", "month"] as const).flatMap((period) => {
      const tokens = limits[`tokens_${period}`];
      const nanoUsd = limits[`nano_usd_${period}`];
      return [
        ...(tokens === null ? [] : [`${scope} ${tokens} tokens/${period}`]),
        ...(nanoUsd === null ? [] : [`${scope} ${formatUsd(nanoUsd)} usd/${period}`]),
      ];
    });
  });
  return entries.length === 0 ? null : entries.join(", ");
}

/** Whether any budget of a kind is configured. */
export const hasLimits = (budgets: DefaultBudgets, unit?: "nano_usd"): boolean =>
  Object.values(budgets).some((limits) =>
    Object.entries(limits).some(
      ([name, limit]) => limit !== null && (unit === undefined || name.startsWith(unit)),
    ),
  );
