/** What every adapter of the budgets' port (src/storage/budget-store.ts) must do. An adapter's own test file runs it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { tokenPrincipalId } from "../../src/ids.ts";
import type { BudgetLimits, BudgetSubject, Reservation } from "../../src/storage/budget-store.ts";
import type { Store, TurnEnd, TurnStart } from "../../src/storage/store.ts";
import {
  expectCode,
  instance,
  noSpending,
  type StoreUnderTest,
  scope,
  turnEnd,
  turnStart,
} from "./records.ts";

const noLimits: BudgetLimits = {
  tokens_day: null,
  tokens_month: null,
  nano_usd_day: null,
  nano_usd_month: null,
};
const at = (time: string): number => Date.parse(`${time}Z`);
const noon = at("2026-11-24T12:00:00");

const of = (scope: BudgetSubject["scope"], subject: string): BudgetSubject => ({
  workspace_id: "default",
  scope,
  subject,
});

/** A reservation under limits of the user; the others have none. */
const reservation = (
  limits: Partial<BudgetLimits>,
  tokens: number,
  nano_usd: number | null = 0,
): Reservation => ({
  tokens,
  nano_usd,
  defaults: { user: { ...noLimits, ...limits }, key: noLimits, workspace: noLimits },
});

const used = (total_tokens: number, cost_nano_usd: number | null = null): Partial<TurnEnd> => ({
  usage: { prompt_tokens: total_tokens, completion_tokens: 0, total_tokens, estimated: false },
  spent: { ...noSpending, cost_nano_usd },
});

/** Runs the contract against an adapter. */
export function describeBudgetStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} keeps the contract of budgets`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    const start = (user_id: string, reservation: Reservation | null, more: Partial<TurnStart> = {}) =>
      store.startTurn(
        scope,
        turnStart({ user_id, key_id: `key of ${user_id}`, reservation, now_ms: noon, ...more }),
      );
    const end = (turn: { id: string }, how: Partial<TurnEnd>, now_ms = noon) =>
      store.endTurn(turn.id, instance, turnEnd(how), now_ms);
    const daily: BudgetLimits = { ...noLimits, tokens_day: 100 };
    const stateOf = async (subject: BudgetSubject, limits = daily, now_ms = noon) => {
      const [state] = await store.budgetState(subject, limits, now_ms);
      return { used: state!.used, reserved: state!.reserved };
    };

    test("a turn reserves at its start, and settles what it used at its end, once", async () => {
      const limits = { tokens_day: 100 };
      const { turn, budgets } = await start("ada", reservation(limits, 40));
      const state = { scope: "user", unit: "tokens", period: "day", limit: 100 };
      const renews_at = at("2026-11-25T00:00:00") / 1000;
      expect(budgets).toEqual([{ ...state, used: 0, reserved: 40, renews_at } as (typeof budgets)[0]]);
      expect(await stateOf(of("user", "ada"))).toEqual({ used: 0, reserved: 40 });
      await end(turn, used(15));
      await end(turn, used(15));
      expect(await stateOf(of("user", "ada"))).toEqual({ used: 15, reserved: 0 });
      expect(await stateOf(of("key", "key of ada"))).toEqual({ used: 15, reserved: 0 });
    });

    test("what doesn't fit is refused with the state that has no room, and changes nothing", async () => {
      const first = await start("bob", reservation({ tokens_day: 100 }, 60));
      const error = await expectCode(start("bob", reservation({ tokens_day: 100 }, 41)), "budget_exhausted");
      expect(error.members).toMatchObject({
        state: { scope: "user", unit: "tokens", period: "day", limit: 100, used: 0, reserved: 60 },
        needed: 41,
      });
      expect(await stateOf(of("user", "bob"))).toEqual({ used: 0, reserved: 60 });
      // What fits to the last token does.
      await start("bob", reservation({ tokens_day: 100 }, 40));
      await end(first.turn, used(0));
    });

    test("of several that have no room, the one that renews last is told", async () => {
      const limits = { tokens_day: 10, tokens_month: 10, nano_usd_month: 1_000 };
      const error = await expectCode(start("cleo", reservation(limits, 11, 5)), "budget_exhausted");
      expect(error.members).toMatchObject({
        state: { unit: "tokens", period: "month", renews_at: at("2026-12-01T00:00:00") / 1000 },
      });
    });

    test("dollars are limited as tokens are; without a price nothing that they limit starts", async () => {
      const limits = { nano_usd_day: 1_000 };
      const { turn } = await start("dora", reservation(limits, 5, 600));
      await expectCode(start("dora", reservation(limits, 5, 401)), "budget_exhausted");
      await end(turn, used(5, 250));
      const { budgets } = await start("dora", reservation(limits, 5, 401));
      expect(budgets[0]).toMatchObject({ unit: "nano_usd", used: 250, reserved: 401 });
      await expectCode(start("dora", reservation(limits, 5, null)), "forbidden");
      await start("dora", reservation({ tokens_day: 100 }, 5, null));
    });

    test("what was used counts without any budget, for one that comes later", async () => {
      const { turn, budgets } = await start("eve", null);
      expect(budgets).toEqual([]);
      await end(turn, used(80));
      await expectCode(start("eve", reservation({ tokens_day: 100 }, 21)), "budget_exhausted");
    });

    test("a day ends at midnight of UTC, a month with its last day, and a turn counts where it started", async () => {
      const late = at("2026-11-30T23:59:59.900");
      const next = at("2026-12-01T00:00:00");
      const limits = { tokens_day: 100, tokens_month: 100 };
      const { turn } = await start("fay", reservation(limits, 100), { now_ms: late });
      await expectCode(start("fay", reservation(limits, 1), { now_ms: late }), "budget_exhausted");
      await start("fay", reservation(limits, 100), { now_ms: next });
      await end(turn, used(70), next);
      expect(await stateOf(of("user", "fay"), daily, late)).toEqual({ used: 70, reserved: 0 });
      expect(await stateOf(of("user", "fay"), daily, next)).toEqual({ used: 0, reserved: 100 });
      const sameMonth = at("2026-11-29T12:00:00");
      await start("fay", reservation(limits, 30), { now_ms: sameMonth });
      await expectCode(start("fay", reservation(limits, 1), { now_ms: sameMonth }), "budget_exhausted");
    });

    test("a retry of the turn that an idempotency key started takes nothing and is not refused", async () => {
      const idempotency = { principal_id: "p", operation: "turn" as const, key: "paid", body_hash: "h" };
      const limits = { tokens_day: 50 };
      const { turn } = await start("gil", reservation(limits, 50), { idempotency });
      await end(turn, used(50));
      const again = await start("gil", reservation(limits, 50), { idempotency });
      expect([again.replayed, again.budgets]).toEqual([true, []]);
      expect(await stateOf(of("user", "gil"))).toEqual({ used: 50, reserved: 0 });
    });

    test("what was set holds before what is configured, by limit; deleted, it doesn't", async () => {
      const subject = of("user", "hal");
      const set = await store.setBudget(subject, { tokens_day: 10, tokens_month: null }, noon);
      expect(set).toEqual({
        ...subject,
        limits: { tokens_day: 10, tokens_month: null },
        created_at: noon / 1000,
        updated_at: noon / 1000,
      });
      const configured = { tokens_day: 1_000, tokens_month: 1, nano_usd_day: 5 };
      await expectCode(start("hal", reservation(configured, 11)), "budget_exhausted");
      const { budgets } = await start("hal", reservation(configured, 10, 5));
      expect(budgets.map(({ unit, period, limit }) => [unit, period, limit])).toEqual([
        ["tokens", "day", 10],
        ["nano_usd", "day", 5],
      ]);
      await store.setBudget(subject, {}, noon + 5_000);
      expect(await store.budget(subject)).toMatchObject({ limits: {}, updated_at: noon / 1000 + 5 });
      expect(await store.deleteBudget(subject)).toBe(true);
      expect(await store.deleteBudget(subject)).toBe(false);
      expect(await store.budget(subject)).toBeNull();
    });

    test("what was set is told in pages, and is one workspace's", async () => {
      expect(await store.hasBudgets("default")).toBe(false);
      const subjects = [of("key", "k"), of("user", "a"), of("user", "z"), of("workspace", "default")];
      for (const subject of subjects.toReversed()) await store.setBudget(subject, { tokens_day: 1 }, noon);
      expect([await store.hasBudgets("default"), await store.hasBudgets("other")]).toEqual([true, false]);
      const first = await store.budgets("default", 3, null);
      const rest = await store.budgets("default", 3, first.next);
      expect([...first.budgets, ...rest.budgets].map(({ scope, subject }) => [scope, subject])).toEqual(
        subjects.map(({ scope, subject }) => [scope, subject]),
      );
      expect([first.budgets.length, rest.next]).toEqual([3, null]);
      expect((await store.budgets("other", 3, null)).budgets).toEqual([]);
      for (const subject of subjects) await store.deleteBudget(subject);
    });

    test("a user who is erased leaves no budget that was set, and gets no new one by it", async () => {
      const user = { workspace_id: "default", user_id: "ida" };
      const { turn } = await start("ida", null);
      await end(turn, used(90));
      const ofTokens = of("key", tokenPrincipalId("default", "ida"));
      await store.setBudget(of("user", "ida"), { tokens_day: 1_000 }, noon);
      await store.setBudget(ofTokens, { tokens_day: 1_000 }, noon);
      await store.cutOffUser(user);
      await store.eraseUser(user);
      expect(await store.budget(of("user", "ida"))).toBeNull();
      expect(await store.budget(ofTokens)).toBeNull();
      expect(await stateOf(of("user", "ida"))).toEqual({ used: 90, reserved: 0 });
    });

    test("a turn that ends while its user is erased gives back what it reserved", async () => {
      const { turn } = await start("jo", reservation({ tokens_day: 100 }, 100));
      await store.cutOffUser({ workspace_id: "default", user_id: "jo" });
      await end(turn, used(60));
      expect(await stateOf(of("user", "jo"))).toEqual({ used: 60, reserved: 0 });
    });

    test("counters of past periods are forgotten, those that may still be needed are not", async () => {
      const { turn } = await start("kim", null);
      await end(turn, used(9));
      const monthly = { ...noLimits, tokens_month: 100 };
      const day = 86_400_000;
      await store.deleteOldBudgetCounters(noon + 2 * day);
      expect(await stateOf(of("user", "kim"))).toEqual({ used: 9, reserved: 0 });
      await store.deleteOldBudgetCounters(noon + 3 * day);
      expect(await stateOf(of("user", "kim"))).toEqual({ used: 0, reserved: 0 });
      expect(await stateOf(of("user", "kim"), monthly)).toEqual({ used: 9, reserved: 0 });
      await store.deleteOldBudgetCounters(at("2026-12-31T12:00:00"));
      expect(await stateOf(of("user", "kim"), monthly)).toEqual({ used: 9, reserved: 0 });
      await store.deleteOldBudgetCounters(at("2027-01-01T12:00:00"));
      expect(await stateOf(of("user", "kim"), monthly)).toEqual({ used: 0, reserved: 0 });
    });
  });
}
