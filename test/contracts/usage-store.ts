/** What every adapter of the ledger's port (src/storage/usage-store.ts) must do. An adapter's own test file runs it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type { Store, TurnEnd, TurnStart } from "../../src/storage/store.ts";
import type { UsageQuery, UsageSums } from "../../src/storage/usage-store.ts";
import { instance, noSpending, type StoreUnderTest, scope, turnEnd, turnStart } from "./records.ts";

const everything: UsageQuery = {
  user_id: null,
  key_id: null,
  model: null,
  conversation_id: null,
  from: null,
  to: null,
  group_by: null,
  limit: 10,
  after: null,
};

/** Runs the contract against an adapter. */
export function describeUsageStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} keeps the contract of the ledger`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    /** The sum of all rows of a key; each test has its own. */
    const sumOf = async (key_id: string, query: Partial<UsageQuery> = {}): Promise<UsageSums> =>
      (await store.usage(scope, { ...everything, key_id, ...query })).sums[0]!;

    async function turn(start: Partial<TurnStart>, end: Partial<TurnEnd> | null = {}) {
      const { turn } = await store.startTurn(scope, turnStart(start));
      const now_ms = start.now_ms ?? 1_700_000_000_500;
      if (end !== null) await store.endTurn(turn.id, instance, turnEnd(end), now_ms + 1_000);
      return turn;
    }

    test("a row is there from the turn's start on, and settled with its end, once", async () => {
      const key_id = "settled";
      const { id } = await turn({ key_id }, null);
      expect(await sumOf(key_id)).toMatchObject({ turns: 1, total_tokens: 0, duration_ms: null });
      const spent = {
        cached_tokens: 3,
        reasoning_tokens: 1,
        cost_nano_usd: 12,
        first_token_ms: 5,
        duration_ms: 9,
      };
      expect(
        await store.endTurn(id, instance, turnEnd({ spent, model: "fallback" }), 1_700_000_003_000),
      ).toBe(true);
      const settled = {
        group: null,
        turns: 1,
        prompt_tokens: 5,
        cached_tokens: 3,
        completion_tokens: 2,
        reasoning_tokens: 1,
        total_tokens: 7,
        estimated_turns: 0,
        cost_nano_usd: "12",
        first_token_ms: 5,
        duration_ms: 9,
        unpriced_turns: 0,
        background_requests: 0,
        background_tokens: 0,
        background_cost_nano_usd: "0",
      };
      expect(await sumOf(key_id)).toEqual(settled);
      expect(await sumOf(key_id, { model: "fallback" })).toEqual(settled);
      expect(await store.endTurn(id, instance, turnEnd(), 1_700_000_004_000)).toBe(false);
      expect(await sumOf(key_id)).toEqual(settled);
    });

    test("a turn that an idempotency key had started has one row", async () => {
      const key_id = "retried";
      const idempotency = { principal_id: key_id, operation: "turn" as const, key: "once", body_hash: "h" };
      await turn({ key_id, idempotency });
      const { replayed } = await store.startTurn(scope, turnStart({ key_id, idempotency }));
      expect([replayed, (await sumOf(key_id)).turns]).toEqual([true, 1]);
    });

    test("a refused turn has none", async () => {
      const key_id = "refused";
      const conversation_id = newId("conversation");
      await expect(store.startTurn(scope, turnStart({ key_id, conversation_id }))).rejects.toThrow(
        "not_found",
      );
      expect((await sumOf(key_id)).turns).toBe(0);
    });

    test("sums are exact beyond what a number holds", async () => {
      const key_id = "rich";
      const cost_nano_usd = Number.MAX_SAFE_INTEGER;
      for (let count = 0; count < 3; count++)
        await turn({ key_id }, { spent: { ...noSpending, cost_nano_usd } });
      expect((await sumOf(key_id)).cost_nano_usd).toBe(String(3n * BigInt(cost_nano_usd)));
    });

    test("groups are in order, and go on after each", async () => {
      const key_id = "grouped";
      const day = 86_400_000;
      for (const at of [3, 1, 1, 2]) await turn({ key_id, now_ms: at * day });
      const days: unknown[] = [];
      let after: UsageQuery["after"] = null;
      do {
        const { sums, next }: Awaited<ReturnType<Store["usage"]>> = await store.usage(scope, {
          ...everything,
          key_id,
          group_by: "day",
          limit: 1,
          after,
        });
        days.push(...sums.map(({ group, turns }) => [group, turns]));
        after = next;
      } while (after !== null);
      expect(days).toEqual([
        ["1970-01-02", 2],
        ["1970-01-03", 1],
        ["1970-01-04", 1],
      ]);
    });

    test("a time belongs to the sums from it on, and not to those up to it", async () => {
      const key_id = "timed";
      await turn({ key_id, now_ms: 5_000_500 });
      const turns = async (query: Partial<UsageQuery>) => (await sumOf(key_id, query)).turns;
      expect(await turns({ from: 5_000 })).toBe(1);
      expect(await turns({ from: 5_001 })).toBe(0);
      expect(await turns({ to: 5_000 })).toBe(0);
      expect(await turns({ to: 5_001 })).toBe(1);
    });

    test("what was done in the background stands beside the turns, as their user's and key's", async () => {
      const key_id = "background";
      const { id } = await turn({ key_id, user_id: "thoughtful" });
      const usage = {
        kind: "memory" as const,
        model: "small",
        prompt_tokens: 30,
        completion_tokens: 3,
        total_tokens: 33,
        estimated: false,
        ...{ cached_tokens: 0, reasoning_tokens: 0, cost_nano_usd: 99, duration_ms: 4 },
      };
      await store.recordBackgroundUsage({ ...usage, turn_id: id });
      await store.recordBackgroundUsage({ ...usage, turn_id: newId("turn") });
      expect(await sumOf(key_id, { user_id: "thoughtful" })).toMatchObject({
        turns: 1,
        total_tokens: 7,
        cost_nano_usd: "0",
        background_requests: 1,
        background_tokens: 33,
        background_cost_nano_usd: "99",
      });
    });

    test("another workspace's and another user's rows are in no sum", async () => {
      const key_id = "scoped";
      await turn({ key_id, user_id: "one" });
      const seen = async (workspace_id: string, user_id: string | null) =>
        (await store.usage({ workspace_id, user_id }, { ...everything, key_id })).sums[0]!.turns;
      expect(await seen("default", "one")).toBe(1);
      expect(await seen("default", "two")).toBe(0);
      expect(await seen("elsewhere", null)).toBe(0);
    });

    test("rows of an erased user stay, without names", async () => {
      const key_id = "erased";
      const start = { key_id, user_id: "leaver" };
      for (let count = 0; count < 3; count++) await turn(start);
      const byToken = await turn({ ...start, key_id: "token:leaver" });
      await store.cutOffUser({ workspace_id: "default", user_id: "leaver" });
      await store.eraseUser({ workspace_id: "default", user_id: "leaver" });
      expect(await sumOf(key_id)).toMatchObject({ turns: 3, total_tokens: 21 });
      expect((await sumOf("token:leaver")).turns).toBe(0);
      const { conversation_id } = byToken;
      expect((await store.usage(scope, { ...everything, conversation_id })).sums[0]!.turns).toBe(0);
    });
  });
}
