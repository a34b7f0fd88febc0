/** What every adapter of the storage port (src/storage/store.ts) must do. An adapter's own test file runs it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type {
  ConversationCursor,
  ConversationRecord,
  Idempotency,
  Store,
  TurnEnd,
  TurnStart,
} from "../../src/storage/store.ts";
import { promptSections, type Receipt } from "../../src/storage/store.ts";
import {
  ada,
  expectCode,
  instance,
  newConversation,
  noUsage,
  type StoreUnderTest,
  scope,
  turnEnd,
  turnStart,
} from "./records.ts";

/** Runs the contract against an adapter. */
export function describeStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} keeps the contract of the store`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    /** A whole turn. */
    async function turn(start: Partial<TurnStart> = {}, end: Partial<TurnEnd> = {}) {
      const { turn } = await store.startTurn(scope, turnStart(start));
      expect(
        await store.endTurn(
          turn.id,
          instance,
          turnEnd({ message: start.message ?? "Hello", ...end }),
          (start.now_ms ?? 1_700_000_000_500) + 1_000,
        ),
      ).toBe(true);
      return turn;
    }

    describe("turns", () => {
      test("start as committed: conversation, message, empty reply", async () => {
        const start = turnStart({ metadata: { channel: "web" }, title: "A title" });
        const { turn, replayed, seq } = await store.startTurn(scope, start);
        expect([replayed, seq]).toEqual([false, 1]);
        expect(turn).toEqual({
          id: start.turn_id,
          conversation_id: start.new_conversation_id,
          user_message_id: start.user_message_id,
          message_id: start.message_id,
          status: "running",
          response: "",
          finish_reason: null,
          model: "test-model",
          sources: [],
          citations: [],
          memories_used: [],
          usage: noUsage,
          error: null,
          created_at: 1_700_000_000,
          ended_at: null,
        });
        expect(await store.turn(scope, turn.id)).toEqual(turn);
        expect(await store.conversation(scope, turn.conversation_id)).toEqual({
          id: turn.conversation_id,
          user_id: "ada",
          title: "A title",
          metadata: { channel: "web" },
          message_count: 2,
          tokens_used: 0,
          active_turn_id: turn.id,
          created_at: 1_700_000_000,
          updated_at: 1_700_000_000,
          last_message_at: 1_700_000_000,
        });
        const { messages } = await store.messages(scope, turn.conversation_id, 10, null);
        expect(
          messages.map(({ seq, role, content, status, tokens }) => [seq, role, content, status, tokens]),
        ).toEqual([
          [1, "user", "Hello", "completed", 1],
          [2, "assistant", "", "running", 0],
        ]);
      });

      test("end with everything that is told of them", async () => {
        const citations = [
          { document_id: "doc_1", name: "a.md", quote: "“q” 😀", start: 1, end: 5, score: 0.25 },
        ];
        const started = await turn(
          {},
          {
            status: "failed",
            response: "Part 😀 “q” \n",
            finish_reason: null,
            model: "fallback",
            sources: ["a.md", "b.md"],
            citations,
            memories_used: ["mem_1"],
            error: { code: "model_timeout", message: "The model was too slow." },
          },
        );
        const stored = await store.turn(scope, started.id);
        expect(stored).toEqual({
          ...started,
          status: "failed",
          response: "Part 😀 “q” \n",
          model: "fallback",
          sources: ["a.md", "b.md"],
          citations,
          memories_used: ["mem_1"],
          usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7, estimated: false },
          error: { code: "model_timeout", message: "The model was too slow." },
          ended_at: 1_700_000_001,
        });
        const conversation = await store.conversation(scope, started.conversation_id);
        expect(conversation).toMatchObject({
          active_turn_id: null,
          tokens_used: 7,
          message_count: 2,
          updated_at: 1_700_000_001,
        });
        const { messages } = await store.messages(scope, started.conversation_id, 1, null);
        expect(messages[0]).toMatchObject({
          id: started.message_id,
          status: "failed",
          model: "fallback",
          citations,
          tokens: 2,
        });
      });

      test("end once: a second end changes nothing", async () => {
        const started = await turn({}, { response: "first" });
        const before = await store.turn(scope, started.id);
        const again = turnEnd({ response: "second", status: "interrupted" });
        expect(await store.endTurn(started.id, instance, again, 1_800_000_000_000)).toBe(false);
        expect(await store.turn(scope, started.id)).toEqual(before);
        expect((await store.conversation(scope, started.conversation_id))?.tokens_used).toBe(7);
      });

      test("of many ends at once one wins", async () => {
        const { turn } = await store.startTurn(scope, turnStart());
        const ends = await Promise.all(
          Array.from({ length: 20 }, (_, index) =>
            store.endTurn(turn.id, instance, turnEnd({ response: `end ${index}` }), 1_700_000_002_000),
          ),
        );
        expect(ends.filter(Boolean).length).toBe(1);
        expect((await store.turn(scope, turn.id))?.response).toBe(`end ${ends.indexOf(true)}`);
      });

      test("are ended by their own instance alone, and an unknown one by nobody", async () => {
        const { turn } = await store.startTurn(scope, turnStart());
        expect(await store.endTurn(turn.id, "inst_other", turnEnd(), 1_700_000_002_000)).toBe(false);
        expect(await store.endTurn(newId("turn"), instance, turnEnd(), 1_700_000_002_000)).toBe(false);
        expect((await store.turn(scope, turn.id))?.status).toBe("running");
      });

      test("one runs in a conversation: the next is refused and names it", async () => {
        const { turn: running } = await store.startTurn(scope, turnStart());
        const next = turnStart({ conversation_id: running.conversation_id });
        const error = await expectCode(store.startTurn(scope, next), "turn_in_progress");
        expect(error.members).toEqual({ turn_id: running.id });
        expect(await store.turn(scope, next.turn_id)).toBeNull();
        expect((await store.conversation(scope, running.conversation_id))?.message_count).toBe(2);
      });

      test("of many started at once in a conversation one runs", async () => {
        const { conversation_id } = await turn();
        const starts = await Promise.allSettled(
          Array.from({ length: 20 }, () => store.startTurn(scope, turnStart({ conversation_id }))),
        );
        expect(starts.filter(({ status }) => status === "fulfilled").length).toBe(1);
        expect((await store.conversation(scope, conversation_id))?.message_count).toBe(4);
      });

      test("go on with a conversation of their user in their workspace, and with no other", async () => {
        const { conversation_id } = await turn({ user_id: "ada" });
        await expectCode(store.startTurn(scope, turnStart({ conversation_id, user_id: "eve" })), "not_found");
        await expectCode(
          store.startTurn({ workspace_id: "other", user_id: null }, turnStart({ conversation_id })),
          "not_found",
        );
        await expectCode(
          store.startTurn(scope, turnStart({ conversation_id: newId("conversation") })),
          "not_found",
        );
        const { seq } = await store.startTurn(scope, turnStart({ conversation_id }));
        expect(seq).toBe(3);
      });

      test("a title is given where there is none, and kept where there is one", async () => {
        const { conversation } = await store.createConversation(scope, newConversation());
        await turn({ conversation_id: conversation.id, title: "From the first message" });
        await turn({ conversation_id: conversation.id, title: "From the second", metadata: { a: "1" } });
        expect(await store.conversation(scope, conversation.id)).toMatchObject({
          title: "From the first message",
          metadata: { a: "1" },
        });
      });
    });

    describe("checkpoints", () => {
      const model = "fallback";

      test("replace the text of running turns, and say whose it is", async () => {
        const { turn } = await store.startTurn(scope, turnStart());
        await store.checkpointReplies([{ turn_id: turn.id, text: "so ", model }]);
        await store.checkpointReplies([{ turn_id: turn.id, text: "so far 😀", model }]);
        expect(await store.turn(scope, turn.id)).toMatchObject({
          status: "running",
          response: "so far 😀",
          model,
        });
        const { messages } = await store.messages(scope, turn.conversation_id, 1, null);
        expect(messages).toMatchObject([{ content: "so far 😀", model }]);
      });

      test("tell what a reply draws on, and that stays when its turn is ended by others", async () => {
        const instance_id = "inst_dead";
        const { turn } = await store.startTurn(scope, turnStart({ instance_id, lease_seconds: 0 }));
        const tokens = Object.fromEntries(promptSections.map((section) => [section, 1])) as Receipt["tokens"];
        const drawn = {
          sources: ["a.md"],
          citations: [
            { document_id: newId("document"), name: "a.md", quote: "a", start: 0, end: 1, score: 1 },
          ],
          memories_used: [newId("memory")],
          receipt: { tokens, chosen: [], dropped: [] },
        };
        const { receipt, ...told } = drawn;
        await store.checkpointReplies([{ turn_id: turn.id, text: "", model, drawn }]);
        await store.checkpointReplies([{ turn_id: turn.id, text: "half", model }]);
        expect(await store.turn(scope, turn.id)).toMatchObject({ ...told, response: "half" });
        expect(await store.receipt(scope, turn.id)).toEqual(receipt);
        const orphan = (await store.orphans(instance)).find((each) => each.turn.id === turn.id)!;
        expect(orphan.turn).toMatchObject(told);
        const end = turnEnd({ ...told, status: "interrupted", response: "half" });
        await store.endOrphan(turn.id, instance_id, end, 1_700_000_009_000);
        expect(await store.turn(scope, turn.id)).toMatchObject({ ...told, status: "interrupted" });
        expect(await store.receipt(scope, turn.id)).toEqual(receipt);
      });

      test("that come after the end change nothing", async () => {
        const { id } = await turn({}, { response: "the end" });
        const ended = (await store.turn(scope, id))!;
        await store.checkpointReplies([{ turn_id: ended.id, text: "too late", model }]);
        expect(await store.turn(scope, ended.id)).toEqual(ended);
      });

      test("of what was deleted change nothing", async () => {
        const ended = await turn();
        await store.deleteConversation(scope, ended.conversation_id);
        await store.checkpointReplies([{ turn_id: ended.id, text: "a ghost", model }]);
        expect(await store.turn(scope, ended.id)).toBeNull();
      });
    });

    test("a checkpoint that comes with the turn's end changes nothing of it", async () => {
      for (let round = 0; round < 50; round++) {
        const { turn } = await store.startTurn(scope, turnStart());
        const checkpoint = () => store.checkpointReplies([{ turn_id: turn.id, text: "half", model: "m" }]);
        const ended = store.endTurn(turn.id, instance, turnEnd({ response: "whole" }), 1_700_000_002_000);
        await Promise.all([checkpoint(), ended, checkpoint(), checkpoint()]);
        expect((await store.turn(scope, turn.id))?.response).toBe("whole");
      }
    });

    describe("orphans", () => {
      test("are the running turns of other instances, with their last checkpoint", async () => {
        const instance_id = "inst_dead";
        const { turn } = await store.startTurn(scope, turnStart({ instance_id, lease_seconds: 0 }));
        await store.checkpointReplies([{ turn_id: turn.id, text: "half", model: "fallback" }]);
        expect(await store.orphans(instance)).toMatchObject([
          { turn: { id: turn.id, response: "half", model: "fallback" }, instance_id, message: "Hello" },
        ]);
        const end = turnEnd({ status: "interrupted", response: "half" });
        expect(await store.endOrphan(turn.id, instance_id, end, 1_700_000_009_000)).toBe(true);
        expect(await store.endOrphan(turn.id, instance_id, end, 1_700_000_009_000)).toBe(false);
        expect(await store.orphans(instance)).toEqual([]);
      });
    });

    describe("idempotency keys", () => {
      const key = (changes: Partial<Idempotency> = {}): Idempotency => ({
        principal_id: "p1",
        operation: "turn",
        key: newId("turn"),
        body_hash: "hash",
        ...changes,
      });

      test("find the turn again, as it is by now", async () => {
        const idempotency = key();
        const first = await turn({ idempotency }, { response: "once" });
        const { turn: again, replayed } = await store.startTurn(scope, turnStart({ idempotency }));
        expect(replayed).toBe(true);
        expect(again).toEqual((await store.turn(scope, first.id))!);
        expect(again.response).toBe("once");
      });

      test("tell what they made, without making anything", async () => {
        const idempotency = key();
        expect(await store.resourceOf(idempotency)).toBeNull();
        const { id } = await turn({ idempotency });
        expect(await store.resourceOf(idempotency)).toBe(id);
        expect(await store.resourceOf({ ...idempotency, principal_id: "p2" })).toBeNull();
        expect(await store.resourceOf({ ...idempotency, operation: "conversation" })).toBeNull();
        await expectCode(store.resourceOf({ ...idempotency, body_hash: "other" }), "idempotency_key_reused");
      });

      test("of a hundred at once one starts", async () => {
        const idempotency = key();
        const started = await Promise.all(
          Array.from({ length: 100 }, () => store.startTurn(scope, turnStart({ idempotency }))),
        );
        expect(started.filter(({ replayed }) => !replayed).length).toBe(1);
        expect(new Set(started.map(({ turn }) => turn.id)).size).toBe(1);
      });

      test("with another body are refused, and nothing is made", async () => {
        const idempotency = key();
        await turn({ idempotency });
        const other = turnStart({ idempotency: { ...idempotency, body_hash: "other" } });
        await expectCode(store.startTurn(scope, other), "idempotency_key_reused");
        expect(await store.conversation(scope, other.new_conversation_id)).toBeNull();
      });

      test("of another principal or operation are others", async () => {
        const idempotency = key();
        const first = await turn({ idempotency });
        const other = await turn({ idempotency: { ...idempotency, principal_id: "p2" } });
        expect(other.id).not.toBe(first.id);
        const made = await store.createConversation(
          scope,
          newConversation({ idempotency: { ...idempotency, operation: "conversation" } }),
        );
        expect(made.replayed).toBe(false);
      });

      test("of a refused turn stay unused", async () => {
        const idempotency = key();
        const missing = turnStart({ idempotency, conversation_id: newId("conversation") });
        await expectCode(store.startTurn(scope, missing), "not_found");
        expect((await store.startTurn(scope, turnStart({ idempotency }))).replayed).toBe(false);
      });

      test("make a conversation once", async () => {
        const idempotency = key({ operation: "conversation" });
        const first = await store.createConversation(scope, newConversation({ idempotency, title: "Once" }));
        const again = await store.createConversation(scope, newConversation({ idempotency, title: "Once" }));
        expect(again).toEqual({ conversation: first.conversation, replayed: true });
        await expectCode(
          store.createConversation(
            scope,
            newConversation({ idempotency: { ...idempotency, body_hash: "x" } }),
          ),
          "idempotency_key_reused",
        );
      });

      test("that are old are forgotten, the younger ones not", async () => {
        const old = key();
        const young = key();
        await turn({ idempotency: old, now_ms: 1_000_000_000_000 });
        await turn({ idempotency: young, now_ms: 1_600_000_000_000 });
        await store.deleteIdempotencyKeys(1_600_000_000);
        expect((await store.startTurn(scope, turnStart({ idempotency: old }))).replayed).toBe(false);
        expect((await store.startTurn(scope, turnStart({ idempotency: young }))).replayed).toBe(true);
      });
    });

    describe("the window", () => {
      test("is the newest messages before a place, oldest first, while they fit", async () => {
        const { conversation_id } = await turn(
          { message: "q0", message_tokens: 10 },
          { response: "a0", response_tokens: 20 },
        );
        for (let round = 1; round < 30; round++) {
          await turn(
            { conversation_id, message: `q${round}`, message_tokens: 10 },
            { response: `a${round}`, response_tokens: 20 },
          );
        }
        const contents = async (beforeSeq: number, tokensMax: number): Promise<string[]> => {
          const { window } = await store.conversationContext(ada, conversation_id, beforeSeq, tokensMax);
          return window.map(({ content }) => content);
        };
        expect(await contents(61, 60)).toEqual(["q28", "a28", "q29", "a29"]);
        expect(await contents(61, 59)).toEqual(["a28", "q29", "a29"]);
        expect(await contents(61, 19)).toEqual([]);
        expect(await contents(61, 0)).toEqual([]);
        expect(await contents(61, -5)).toEqual([]);
        expect(await contents(5, 1_000)).toEqual(["q0", "a0", "q1", "a1"]);
        expect((await contents(61, 1_000_000)).length).toBe(60);
        expect(await contents(61, 1_000_000)).toEqual(
          Array.from({ length: 60 }, (_, n) => `${"qa"[n % 2]}${n >> 1}`),
        );
      });
    });

    describe("conversations", () => {
      const user_id = "lister";
      const query = { user_id, limit: 10, after: null, q: null };

      test("are listed last active first, and by id within a millisecond", async () => {
        const ids: string[] = [];
        for (let index = 0; index < 9; index++) {
          const now_ms = 1_700_000_000_000 + Math.floor(index / 3);
          ids.unshift(
            (await store.createConversation(scope, newConversation({ user_id, now_ms }))).conversation.id,
          );
        }
        const seen: string[] = [];
        let after: ConversationCursor | null = null;
        do {
          const page: { conversations: ConversationRecord[]; next: ConversationCursor | null } =
            await store.conversations(scope, { ...query, limit: 2, after });
          seen.push(...page.conversations.map(({ id }) => id));
          after = page.next;
        } while (after !== null);
        expect(seen).toEqual(ids);
        expect((await store.conversations(scope, { ...query, limit: 9 })).next).toBeNull();
      });

      test("outside of a scope don't exist", async () => {
        const { conversation } = await store.createConversation(
          scope,
          newConversation({ user_id: "scoped", title: "kumquat" }),
        );
        const ended = await turn({ user_id: "scoped", conversation_id: conversation.id });
        for (const outside of [
          { workspace_id: "other", user_id: null },
          { workspace_id: "default", user_id: "eve" },
        ]) {
          expect(await store.conversation(outside, conversation.id)).toBeNull();
          expect(await store.turn(outside, ended.id)).toBeNull();
          expect(await store.updateConversation(outside, conversation.id, { title: "x" }, 1)).toBeNull();
          expect(await store.deleteConversation(outside, conversation.id)).toBe(false);
          for (const q of [null, "kumquat"]) {
            const page = await store.conversations(outside, { user_id: "scoped", limit: 10, after: null, q });
            expect(page.conversations).toEqual([]);
          }
        }
        const own = { workspace_id: "default", user_id: "scoped" };
        expect((await store.conversation(own, conversation.id))?.title).toBe("kumquat");
        expect(
          (await store.conversations(own, { ...query, user_id: null, q: "kumquat" })).conversations.length,
        ).toBe(1);
      });

      test("are changed member by member", async () => {
        const { conversation } = await store.createConversation(
          scope,
          newConversation({ title: "a", metadata: { k: "v" } }),
        );
        const update = (patch: Parameters<Store["updateConversation"]>[2]) =>
          store.updateConversation(scope, conversation.id, patch, 1_700_000_100_000);
        expect(await update({ title: "b" })).toMatchObject({
          title: "b",
          metadata: { k: "v" },
          updated_at: 1_700_000_100,
        });
        expect(await update({ metadata: {} })).toMatchObject({ title: "b", metadata: {} });
        expect(await update({ title: null })).toMatchObject({ title: null });
        expect(await store.updateConversation(scope, newId("conversation"), { title: "x" }, 1)).toBeNull();
      });

      test("are deleted whole, but not while a turn runs", async () => {
        const ended = await turn({ message: "wombat", title: "wombat" }, { response: "wombats" });
        const { turn: running } = await store.startTurn(
          scope,
          turnStart({ conversation_id: ended.conversation_id }),
        );
        await expectCode(store.deleteConversation(scope, ended.conversation_id), "turn_in_progress");
        await store.endTurn(running.id, instance, turnEnd(), 1_700_000_002_000);
        expect(await store.deleteConversation(scope, ended.conversation_id)).toBe(true);
        expect(await store.deleteConversation(scope, ended.conversation_id)).toBe(false);
        expect(await store.conversation(scope, ended.conversation_id)).toBeNull();
        expect(await store.turn(scope, ended.id)).toBeNull();
        expect((await store.messages(scope, ended.conversation_id, 10, null)).messages).toEqual([]);
        const found = await store.conversations(scope, {
          user_id: null,
          limit: 10,
          after: null,
          q: "wombat",
        });
        expect(found.conversations).toEqual([]);
      });

      test("give their messages in pages, both ways", async () => {
        const { conversation_id } = await turn();
        for (let round = 0; round < 4; round++) await turn({ conversation_id });
        const seqs = (messages: { seq: number }[]) => messages.map(({ seq }) => seq);
        for (const foreign of [
          { ...ada, user_id: "eve" },
          { ...ada, workspace_id: "other" },
        ]) {
          const none = { messages: [], has_more: false };
          expect(await store.messages(foreign, conversation_id, 4, null)).toEqual(none);
          expect(await store.messagesAfter(foreign, conversation_id, 0, 3)).toEqual([]);
        }
        const newest = await store.messages(scope, conversation_id, 4, null);
        expect([seqs(newest.messages), newest.has_more]).toEqual([[7, 8, 9, 10], true]);
        const oldest = await store.messages(scope, conversation_id, 4, 5);
        expect([seqs(oldest.messages), oldest.has_more]).toEqual([[1, 2, 3, 4], false]);
        expect(seqs(await store.messagesAfter(scope, conversation_id, 0, 3))).toEqual([1, 2, 3]);
        expect(seqs(await store.messagesAfter(scope, conversation_id, 8, 3))).toEqual([9, 10]);
      });
    });

    test("all of it is there after the store was closed and opened again", async () => {
      const ended = await turn({ message: "Will it last?" }, { response: "It lasts." });
      const [before, secret] = [await store.turn(scope, ended.id), await store.ticketSecret()];
      store = await under.reopen();
      expect(await store.turn(scope, ended.id)).toEqual(before);
      expect(await store.ticketSecret()).toBe(secret);
      expect(secret.length).toBeGreaterThanOrEqual(32);
      const found = await store.conversations(scope, { user_id: null, limit: 10, after: null, q: "lasts" });
      expect(found.conversations.map(({ id }) => id)).toEqual([ended.conversation_id]);
      await store.check();
    });
  });
}
