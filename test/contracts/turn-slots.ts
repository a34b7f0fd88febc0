/** What every adapter must do of what only so many turns may hold at once. An adapter's own test file runs it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Store, TurnSlot, TurnStart } from "../../src/storage/store.ts";
import { ada, expectCode, instance, type StoreUnderTest, scope, turnEnd, turnStart } from "./records.ts";

const user = (name: string, quota: number): TurnSlot => ({ what: "user", name: `user ${name}`, quota });

/** Runs the contract against an adapter. */
export function describeTurnSlots(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} counts what turns hold at once`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    const start = (slots: TurnSlot[], more: Partial<TurnStart> = {}) =>
      store.startTurn(scope, turnStart({ slots, ...more }));
    const end = (turn: { id: string }) => store.endTurn(turn.id, instance, turnEnd(), 1_700_000_001_000);

    test("as many turns as may, and one more when one has ended", async () => {
      const slots = [user("two at once", 2)];
      const first = await start(slots);
      const second = await start(slots);
      expect([first.slots, second.slots]).toEqual([[1], [2]]);
      const refused = await expectCode(start(slots), "rate_limited");
      expect(refused.detail).toBe("The user has 2 turns running, which is as many as may.");
      expect(refused.headers).toEqual({ "retry-after": "5" });
      await end(first.turn);
      await end(first.turn);
      expect((await start(slots)).slots).toEqual([2]);
      await expectCode(start(slots), "rate_limited");
    });

    test("each by its own name, and one that is full refuses the whole turn", async () => {
      const [full, free]: TurnSlot[] = [user("full", 1), { what: "key", name: "key of both", quota: 5 }];
      expect((await start([free!, full!])).slots).toEqual([1, 1]);
      const refused = await expectCode(start([free!, full!]), "rate_limited");
      expect(refused.detail).toStartWith("The user has 1 turns running");
      // It took nothing of what had room, and is no turn.
      expect((await start([free!])).slots).toEqual([2]);
      expect((await start([])).slots).toEqual([]);
    });

    test("nothing is held by a turn that was refused for another reason", async () => {
      const slots = [user("elsewhere", 1)];
      const nowhere = "conv_0199aaaa-0000-7000-8000-000000000000";
      await expectCode(start(slots, { conversation_id: nowhere }), "not_found");
      expect((await start(slots)).slots).toEqual([1]);
    });

    test("a retry of what an idempotency key started holds nothing more", async () => {
      const slots = [user("again", 2)];
      const idempotency = { principal_id: "p", operation: "turn" as const, key: "slots", body_hash: "h" };
      const { turn } = await start(slots, { idempotency });
      const again = await start(slots, { idempotency });
      expect([again.replayed, again.turn.id]).toEqual([true, turn.id]);
      expect((await start(slots)).slots).toEqual([2]);
    });

    test("a turn whose user is erased meanwhile gives back what it held", async () => {
      const slots = [{ ...user("leaver", 1), what: "address" as const }];
      const leaver = { ...ada, user_id: "slot leaver" };
      const { turn } = await start(slots, { user_id: leaver.user_id });
      await store.cutOffUser(leaver);
      await end(turn);
      await store.eraseUser(leaver);
      expect((await start(slots)).slots).toEqual([1]);
    });
  });
}
