/** Statements that write budgets and count what is taken of them: see writes.ts for how they are run. */

import type { Database, SQLQueryBindings } from "bun:sqlite";
import { AppError } from "../../errors.ts";
import { tokenPrincipalId } from "../../ids.ts";
import { exhaustedBy, neededFor, type Periods, periodsAt } from "../budget-rules.ts";
import type {
  BudgetLimits,
  BudgetRecord,
  BudgetScope,
  BudgetState,
  BudgetSubject,
  Reservation,
} from "../budget-store.ts";
import { createBudgetReads } from "./budget-reads.ts";

/** Whose counters one call looks through for old ones. */
const scopesAtOnce = 1_024;
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
  const counter = (scope: string, period: string): string =>
    `(${scope}, ${period}, $used_tokens, $used_nano_usd, max(0, $reserved_tokens), max(0, $reserved_nano_usd))`;
  const addFor = (scopes: readonly string[]) =>
    statement(`insert into budget_counters values
      ${scopes.flatMap((scope) => [counter(scope, "$day"), counter(scope, "$month")]).join()}
      on conflict do update set used_tokens = used_tokens + $used_tokens, used_nano_usd = used_nano_usd + $used_nano_usd,
        reserved_tokens = max(0, reserved_tokens + $reserved_tokens),
        reserved_nano_usd = max(0, reserved_nano_usd + $reserved_nano_usd)`);
  // All in one statement: each run of one costs as much as a row or two.
  const addForAll = addFor(["$user", "$key", "$workspace"]);
  const addForOne = addFor(["$scope"]);
  const someScopes = db.query<{ scope: string }, SQLQueryBindings>(
    `select distinct scope from budget_counters where scope > $after order by scope limit ${scopesAtOnce}`,
  );
  const dropOld = statement(`delete from budget_counters where scope > $after and scope <= $last
    and period < case length(period) when 7 then $month else $day end`);

  function count(payers: Payers, { day, month }: Periods, taken: Taken): void {
    const bindings = { ...taken, day: day.name, month: month.name };
    const scopes = subjectsOf(payers).map(reads.counterScope);
    const [user, key, workspace] = scopes;
    if (workspace !== undefined) addForAll.run({ ...bindings, user: user!, key: key!, workspace });
    else for (const scope of scopes) addForOne.run({ ...bindings, scope });
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
      const ofTokens = drop.run({
        workspace_id,
        scope: "key",
        subject: tokenPrincipalId(workspace_id, user_id),
      }).changes;
      return ofUser + ofTokens > 0;
    },

    operations: {
      setBudget(subject: BudgetSubject, limits: Partial<BudgetLimits>, nowMs: number): BudgetRecord {
        set.run({ ...subject, limits: JSON.stringify(limits), now: Math.floor(nowMs / 1000) });
        return reads.budget(subject)!;
      },

      deleteBudget: (subject: BudgetSubject): boolean => drop.run({ ...subject }).changes > 0,

      /**
       * Deletes some old counters; turns of the day before may still run.
       * @param after the result of the call before, at first ""
       * @returns null after the last call
       */
      deleteOldBudgetCounters(nowMs: number, after: string): string | null {
        const last = someScopes.all({ after }).at(-1)?.scope;
        if (last === undefined) return null;
        const thisMonth = periodsAt(nowMs).month.name;
        const { month } = periodsAt(Date.parse(`${thisMonth}-01`) - dayMs);
        const { day } = periodsAt(nowMs - 2 * dayMs);
        dropOld.run({ after, last, month: month.name, day: day.name });
        return last;
      },
    },
  };
}
