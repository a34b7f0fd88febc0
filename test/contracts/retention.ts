/** What every adapter must do about conversations that nobody goes on with. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type { Store } from "../../src/storage/store.ts";
import { instance, newConversation, type StoreUnderTest, scope, turnEnd, turnStart } from "./records.ts";

export function describeRetention(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} deletes inactive conversations`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    const created = async (now_ms: number): Promise<string> =>
      (await store.createConversation(scope, newConversation({ now_ms }))).conversation.id;
    const isThere = async (id: string): Promise<boolean> => (await store.conversation(scope, id)) !== null;

    test("that are older than a time, as many as were asked for, and no others", async () => {
      const old = await Promise.all([1_000, 2_000, 3_000].map(created));
      const young = await created(4_000);
      expect(await store.deleteInactiveConversations(4_000, 2)).toBe(2);
      expect((await Promise.all(old.map(isThere))).filter(Boolean)).toHaveLength(1);
      expect(await store.deleteInactiveConversations(4_000, 2)).toBe(1);
      expect(await store.deleteInactiveConversations(4_000, 2)).toBe(0);
      expect(await Promise.all([...old, young].map(isThere))).toEqual([false, false, false, true]);
    });

    test("by their last message, and never one with a running turn", async () => {
      const conversation_id = await created(5_000);
      const going = { conversation_id, now_ms: 7_000, message: "Is anybody there?" };
      const { turn } = await store.startTurn(scope, turnStart(going));
      expect(await store.deleteInactiveConversations(10_000, 10)).toBe(1);
      expect(await isThere(conversation_id)).toBe(true);
      expect(await store.endTurn(turn.id, instance, turnEnd({}), 8_000)).toBe(true);
      expect(await store.deleteInactiveConversations(7_000, 10)).toBe(0);
      expect(await store.deleteInactiveConversations(7_001, 10)).toBe(1);
      expect(await isThere(conversation_id)).toBe(false);
      expect(await store.turn(scope, turn.id)).toBeNull();
      const query = { user_id: null, limit: 10, after: null, q: "anybody" };
      expect((await store.conversations(scope, query)).conversations).toEqual([]);
      await expect(
        store.startTurn(scope, turnStart({ conversation_id, turn_id: newId("turn") })),
      ).rejects.toThrow("not_found");
    });
  });
}
