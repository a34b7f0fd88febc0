/** Which memories every adapter must keep, and for how long (src/storage/memory-store.ts). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type { MemoryRecord, NewMemory } from "../../src/storage/memory-store.ts";
import type { ReceiptEntry, Store, TurnEnd, TurnStart } from "../../src/storage/store.ts";
import { instance, type StoreUnderTest, scope, turnEnd, turnStart } from "./records.ts";

const day = 86_400;
/** Unix seconds, and the same day later. */
const at = (days: number): number => 1_700_000_000 + days * day;

const newMemory = (text: string, changes: Partial<NewMemory> = {}): NewMemory => ({
  id: newId("memory"),
  text,
  kind: "fact",
  slot: null,
  tokens: 3,
  source_message_id: null,
  supersedes: [],
  ...changes,
});

/** Runs the contract against an adapter. */
export function describeMemories(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} keeps the contract of memory`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    const user = (user_id: string) => ({ workspace_id: "default", user_id });

    async function turn(start: Partial<TurnStart>, end: Partial<TurnEnd> = {}) {
      const { turn } = await store.startTurn(scope, turnStart(start));
      await store.endTurn(
        turn.id,
        instance,
        turnEnd({ message: start.message ?? "Hello", ...end }),
        start.now_ms ?? 1_700_000_000_500,
      );
      return turn;
    }

    const save = (
      user_id: string,
      memories: NewMemory[],
      seconds = at(0),
      max = 100,
    ): Promise<MemoryRecord[]> => store.saveMemories(user(user_id), memories, null, max, seconds * 1000);
    const held = (user_id: string): Promise<MemoryRecord[]> => store.heldMemories(user(user_id));
    const textsOf = (memories: MemoryRecord[]): string[] => memories.map(({ text }) => text);

    /** A turn whose prompt held these memories. */
    const using = (user_id: string, chosen: { id: string; score: number | null }[], seconds: number) => {
      const entries = chosen.map((entry): ReceiptEntry => ({ ...entry, section: "memories", tokens: 3 }));
      const receipt = {
        tokens: {
          system: 0,
          profile: 0,
          memories: 9,
          recall: 0,
          summary: 0,
          passages: 0,
          window: 0,
          message: 1,
        },
        chosen: entries,
        dropped: [],
      };
      return turn({ user_id, now_ms: seconds * 1000 }, { receipt });
    };

    describe("turns to be remembered", () => {
      test("are those that ended so, oldest first, until their memories are saved", async () => {
        const user_id = "rememberer";
        const first = await turn({ user_id, message: "one" }, { to_remember: true });
        await turn({ user_id, message: "two" }, { to_remember: false });
        await turn({ user_id, message: "three", use_memory: false }, { to_remember: true });
        const last = await turn({ user_id, message: "four" }, { to_remember: true });
        await store.startTurn(scope, turnStart({ user_id, message: "still running" }));
        const waiting = await store.turnsToRemember(instance, 10);
        expect(waiting).toEqual(
          [first, last].map(({ id, user_message_id }, index) => ({
            workspace_id: "default",
            user_id,
            turn_id: id,
            user_message_id,
            message: ["one", "four"][index]!,
            created_at: 1_700_000_000,
          })),
        );
        expect((await store.turnsToRemember(instance, 1)).length).toBe(1);

        const memory = newMemory("The user counts.");
        const saved = await store.saveMemories(user(user_id), [memory], first.id, 10, at(0) * 1000);
        expect(textsOf(saved)).toEqual(["The user counts."]);
        // A second time for the same turn, as after a crash in between, changes nothing.
        const again = [newMemory("The user counts twice.")];
        expect(await store.saveMemories(user(user_id), again, first.id, 10, at(0) * 1000)).toEqual([]);
        expect(textsOf(await held(user_id))).toEqual(["The user counts."]);
        await store.saveMemories(user(user_id), [], last.id, 10, at(0) * 1000);
        expect(await store.turnsToRemember(instance, 10)).toEqual([]);
      });

      test("that were deleted leave nothing to save", async () => {
        const { id, conversation_id } = await turn({ user_id: "gone" }, { to_remember: true });
        await store.deleteConversation(scope, conversation_id);
        expect(await store.saveMemories(user("gone"), [newMemory("A ghost.")], id, 10, 0)).toEqual([]);
        expect([await store.turnsToRemember(instance, 10), await held("gone")]).toEqual([[], []]);
      });
    });

    describe("memories", () => {
      test("are superseded by others of their user, and by nobody else's", async () => {
        const [old, kept] = await save("one", [newMemory("old"), newMemory("kept")]);
        const [foreign] = await save("two", [newMemory("foreign")]);
        const [next] = await save("one", [
          newMemory("new", { supersedes: [old!.id, foreign!.id, newId("memory")] }),
        ]);
        expect(textsOf(await held("one"))).toEqual(["new", "kept"]);
        expect(textsOf(await held("two"))).toEqual(["foreign"]);
        expect((await store.memory(user("one"), old!.id))?.superseded_by).toBe(next!.id);
        expect((await store.memory(user("one"), kept!.id))?.superseded_by).toBeNull();
      });

      test("count as used by turns whose prompt held them because they fit", async () => {
        const [fits, room, other] = await save("uses", [
          newMemory("fits"),
          newMemory("room"),
          newMemory("other"),
        ]);
        const [foreign] = await save("not uses", [newMemory("foreign")]);
        const chosen = [
          { id: fits!.id, score: 0.5 },
          { id: room!.id, score: 0 },
          { id: foreign!.id, score: 0.5 },
        ];
        await using("uses", chosen, at(1));
        await using("uses", chosen, at(2));
        const use = async (user_id: string, id: string) => {
          const { uses, used_at } = (await store.memory(user(user_id), id))!;
          return [uses, used_at];
        };
        expect(await use("uses", fits!.id)).toEqual([2, at(2)]);
        expect(await use("uses", room!.id)).toEqual([0, null]);
        expect(await use("uses", other!.id)).toEqual([0, null]);
        expect(await use("not uses", foreign!.id)).toEqual([0, null]);
      });

      test("beyond the cap go: superseded ones first, then those of least use, and never what has just come", async () => {
        const id = "capped";
        const [often, seldom] = await save(
          id,
          [newMemory("often"), newMemory("seldom"), newMemory("never")],
          at(0),
        );
        const one = (memory: MemoryRecord) => [{ id: memory.id, score: 1 }];
        const texts = async () => textsOf(await held(id)).toSorted();
        for (const days of [1, 2, 3]) await using(id, one(often!), at(days));
        await using(id, one(seldom!), at(3));
        await save(id, [newMemory("after often", { supersedes: [often!.id] })], at(4), 3);
        expect(await texts()).toEqual(["after often", "never", "seldom"]);
        expect(await store.memory(user(id), often!.id)).toBeNull();
        for (const memory of await held(id)) await using(id, one(memory), at(5));
        await save(id, [newMemory("fresh")], at(5), 3);
        expect(await texts()).toEqual(["after often", "fresh", "seldom"]);
        // Each month without use counts.
        await save(id, [newMemory("fresher")], at(200), 3);
        await save(id, [newMemory("freshest")], at(200), 3);
        expect(await texts()).toEqual(["fresher", "freshest", "seldom"]);
      });
    });

    describe("a summary", () => {
      test("is replaced where it still covers what it did, and the window begins after it", async () => {
        const { conversation_id } = await turn(
          { message: "q1", message_tokens: 1 },
          { response: "a1", response_tokens: 1 },
        );
        await turn(
          { conversation_id, message: "q2", message_tokens: 1 },
          { response: "a2", response_tokens: 1 },
        );
        const summary = { text: "They said “q1”.", tokens: 4, through_seq: 2 };
        expect(await store.replaceSummary(user("ada"), conversation_id, 0, summary)).toBe(true);
        expect(
          await store.replaceSummary(user("ada"), conversation_id, 0, { ...summary, text: "late" }),
        ).toBe(false);
        expect(await store.replaceSummary(user("ada"), newId("conversation"), 0, summary)).toBe(false);
        const context = await store.conversationContext(user("ada"), conversation_id, 5, 100);
        expect(context.summary).toEqual(summary);
        expect(context.window.map(({ content }) => content)).toEqual(["q2", "a2"]);
        expect(context.between).toEqual([]);
        const narrow = await store.conversationContext(user("ada"), conversation_id, 5, 1);
        expect([narrow.between, narrow.window].map((part) => part.map(({ content }) => content))).toEqual([
          ["q2"],
          ["a2"],
        ]);
      });
    });
  });
}
