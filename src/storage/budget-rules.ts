/** What all adapters count budgets by: the periods of UTC, the limits that are in force, and whether a turn fits them. */
import { createHash } from "node:crypto";
import type {
  BudgetLimits,
  BudgetPeriod,
  BudgetScope,
  BudgetState,
  BudgetSubject,
  BudgetUnit,
  Reservation,
} from "./budget-store.ts";

/** A day or a month of UTC. */
interface Period {
  /** 2026-11-24 or 2026-11: names sort by time. */
  name: string;
  /** Unix seconds: when the next one begins. */
  renews_at: number;
}

export type Periods = Record<BudgetPeriod, Period>;

/** The periods in which a time lies. */
export function periodsAt(ms: number): Periods {
  const at = new Date(ms);
  const [year, month, day] = [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()];
  const iso = at.toISOString();
  return {
    day: { name: iso.slice(0, 10), renews_at: Date.UTC(year, month, day + 1) / 1000 },
    month: { name: iso.slice(0, 7), renews_at: Date.UTC(year, month + 1) / 1000 },
  };
}

/**
 * What stands for a user, key or workspace among the counters, which hold no names. On PostgreSQL the function of this
 * name does the same: counters are moved from one to the other.
 */
export const counterScope = ({ workspace_id, scope, subject }: BudgetSubject): string =>
  createHash("sha256").update(`${scope}\0${workspace_id}\0${subject}`).digest("base64url").slice(0, 22);

/** What was counted in one period. */
export interface Counted {
  used_tokens: number;
  used_nano_usd: number;
  reserved_tokens: number;
  reserved_nano_usd: number;
}

const units = ["tokens", "nano_usd"] as const satisfies BudgetUnit[];
const periodNames = ["day", "month"] as const satisfies BudgetPeriod[];

/** How the limits of one user, key or workspace stand. */
export function statesOf(
  scope: BudgetScope,
  limits: BudgetLimits,
  periods: Periods,
  counted: (period: BudgetPeriod) => Counted | null,
): BudgetState[] {
  return periodNames.flatMap((period) =>
    units.flatMap((unit): BudgetState[] => {
      const limit = limits[`${unit}_${period}`];
      if (limit === null) return [];
      const row = counted(period);
      const used = row?.[`used_${unit}`] ?? 0;
      const reserved = row?.[`reserved_${unit}`] ?? 0;
      return [{ scope, unit, period, limit, used, reserved, renews_at: periods[period].renews_at }];
    }),
  );
}

/** What a turn may take of a limit; null where nobody knows. */
export const neededFor = ({ unit }: BudgetState, reservation: Reservation): number | null =>
  unit === "tokens" ? reservation.tokens : reservation.nano_usd;

/** The limit that has no room for a turn: of several the one that renews last. Null where it fits. */
export function exhaustedBy(states: readonly BudgetState[], reservation: Reservation): BudgetState | null {
  const full = states.filter((state) => {
    const needed = neededFor(state, reservation);
    return needed !== null && state.used + state.reserved + needed > state.limit;
  });
  return full.toSorted((a, b) => b.renews_at - a.renews_at)[0] ?? null;
}
