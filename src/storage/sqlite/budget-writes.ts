/** Statements that write budgets and count what is taken of them: see writes.ts for how they are run. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { AppError } from "../../errors.ts";
import { exhaustedBy, neededFor, type Periods, periodsAt } from "../budget-rules.ts";
import type {
  BudgetLimits,
  BudgetRecord,
  BudgetScope,
  BudgetState,
  BudgetSubject,
  Reservation,
} from "../budget-store.ts";
import { counterScope, createBudgetReads } from "./budget-reads.ts";

const oldCountersMax = 512;
const dayMs = 86_400_000;

/** Who pays for a turn; null for who isn't known any more. */
export interface Payers {
  workspace_id: string;
  user_id: string | null;
  key_id: string | null;
}

/** What to count: used up, and reserved or, where negative, given back. */
interface Taken {
  used_tokens: number;
  used_nano_usd: number;
  reserved_tokens: number;
  reserved_nano_usd: number;
}

/** What a turn has reserved, and how the budgets that limit it stand then; nothing where none does. */
export interface Booking {
  reserved_tokens: number;
  reserved_nano_usd: number;
  states: BudgetState[];
}

const nothing: Booking = { reserved_tokens: 0, reserved_nano_usd: 0, states: [] };

const subjectsOf = ({ workspace_id, user_id, key_id }: Payers): BudgetSubject[] => {
  const subject = (scope: BudgetScope, subject: string | null): BudgetSubject[] =>
    subject === null ? [] : [{ workspace_id, scope, subject }];
  return [...subject("user", user_id), ...subject("key", key_id), ...subject("workspace", workspace_id)];
};

export function createBudgetWrites(db: Database) {
  const reads = createBudgetReads(db);
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);

  const set = statement(`insert into budgets values ($workspace_id, $scope, $subject, $limits, $now, $now)
    on conflict do update set limits = excluded.limits, updated_at = excluded.updated_at`);
  const drop = statement(
    "delete from budgets where workspace_id = $workspace_id and scope = $scope and subject = $subject",
  );
  const add = statement(`insert into budget_counters
    select p.value, s.value, $used_tokens, $used_nano_usd, max(0, $reserved_tokens), max(0, $reserved_nano_usd)
    from json_each($periods) p join json_each($scopes) s where true
    on conflict do update set used_tokens = used_tokens + $used_tokens, used_nano_usd = used_nano_usd + $used_nano_usd,
      reserved_tokens = max(0, reserved_tokens + $reserved_tokens),
      reserved_nano_usd = max(0, reserved_nano_usd + $reserved_nano_usd)`);
  // A period's name sorts before those of its days; "." is what follows "-".
  const dropOld = statement(`delete from budget_counters where (period, scope) in (select period, scope
    from budget_counters where period < $month_before or period between $month_before || '-' and $month_before || '.'
      and period < $day or period between $month || '-' and $month || '.' and period < $day limit ${oldCountersMax})`);

  function count(payers: Payers, { day, month }: Periods, taken: Taken): void {
    const scopes = JSON.stringify(subjectsOf(payers).map(counterScope));
    add.run({ ...taken, scopes, periods: JSON.stringify([day.name, month.name]) });
  }

  return {
    /**
     * Finds out what a turn is to reserve; changes nothing.
     * @throws budget_exhausted, with the `state` that has no room and what is `needed`; forbidden where dollars are
     * limited and nobody knows what the turn may cost
     */
    book(payers: Payers, reservation: Reservation | null, nowMs: number): Booking {
      if (reservation === null) return nothing;
      const periods = periodsAt(nowMs);
      const states = subjectsOf(payers).flatMap((subject) =>
        reads.statesFor(subject, reservation.defaults[subject.scope], periods),
      );
      if (states.length === 0) return nothing;
      const state = exhaustedBy(states, reservation);
      if (state !== null) {
        throw new AppError("budget_exhausted", { members: { state, needed: neededFor(state, reservation) } });
      }
      if (states.some((state) => neededFor(state, reservation) === null)) {
        throw new AppError("forbidden", {
          detail: "A budget in dollars limits this turn, and a model that may answer it has no price.",
        });
      }
      const { tokens: reserved_tokens, nano_usd } = reservation;
      const reserved_nano_usd = nano_usd ?? 0;
      const reserved = states.map((state) => {
        const needed = state.unit === "tokens" ? reserved_tokens : reserved_nano_usd;
        return { ...state, reserved: state.reserved + needed };
      });
      return { reserved_tokens, reserved_nano_usd, states: reserved };
    },

    /** Reserves what was booked. */
    reserve(payers: Payers, { reserved_tokens, reserved_nano_usd }: Booking, nowMs: number): void {
      if (reserved_tokens === 0 && reserved_nano_usd === 0) return;
      const taken = { used_tokens: 0, used_nano_usd: 0, reserved_tokens, reserved_nano_usd };
      count(payers, periodsAt(nowMs), taken);
    },

    /** Counts what was used in the periods of a time, and gives back what was reserved then. */
    settle(
      payers: Payers,
      startedAt: number,
      used: { tokens: number; nano_usd: number | null },
      reserved: { tokens: number; nano_usd: number },
    ): void {
      count(payers, periodsAt(startedAt * 1000), {
        used_tokens: used.tokens,
        used_nano_usd: used.nano_usd ?? 0,
        reserved_tokens: -reserved.tokens,
        reserved_nano_usd: -reserved.nano_usd,
      });
    },

    /** Takes away what was set for a user; what they spent stays, under no name. False where nothing was set. */
    forgetUser(workspace_id: string, user_id: string): boolean {
      const ofUser = drop.run({ workspace_id, scope: "user", subject: user_id }).changes;
      const ofTokens = drop.run({ workspace_id, scope: "key", subject: `token:${user_id}` }).changes;
      return ofUser + ofTokens > 0;
    },

    operations: {
      setBudget(subject: BudgetSubject, limits: Partial<BudgetLimits>, nowMs: number): BudgetRecord {
        set.run({ ...subject, limits: JSON.stringify(limits), now: Math.floor(nowMs / 1000) });
        return reads.budget(subject)!;
      },

      deleteBudget: (subject: BudgetSubject): boolean => drop.run({ ...subject }).changes > 0,

      /** False where there is none left. Turns of the day before may still run. */
      deleteOldBudgetCounters(nowMs: number): boolean {
        const { month } = periodsAt(nowMs);
        const monthBefore = periodsAt(Date.parse(`${month.name}-01`) - dayMs).month;
        const day = periodsAt(nowMs - 2 * dayMs).day;
        return dropOld.run({ month_before: monthBefore.name, month: month.name, day: day.name }).changes > 0;
      },
    },
  };
}
