/** What every adapter must do of the port that remembers and forgets (src/storage/memory-store.ts). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type {
  Erased,
  MemoryRecord,
  NewMemory,
  PromptQuery,
  RecallQuery,
  UserScope,
} from "../../src/storage/memory-store.ts";
import type { Idempotency, Receipt, Store, TurnEnd, TurnStart } from "../../src/storage/store.ts";
import {
  expectCode,
  instance,
  newConversation,
  type StoreUnderTest,
  scope,
  storeDocument,
  turnEnd,
  turnStart,
} from "./records.ts";

const nowMs = 1_700_000_000_000;
const now = nowMs / 1000;

const user = (user_id: string): UserScope => ({ workspace_id: "default", user_id });
const elsewhere = (user_id: string): UserScope => ({ workspace_id: "other", user_id });

const newMemory = (changes: Partial<NewMemory> = {}): NewMemory => ({
  id: newId("memory"),
  text: "Lives in Lisbon.",
  kind: "fact",
  slot: null,
  tokens: 5,
  source_message_id: null,
  supersedes: [],
  ...changes,
});

const receipt: Receipt = {
  tokens: {
    system: 7,
    profile: 0,
    memories: 12,
    recall: 0,
    summary: 0,
    passages: 0,
    window: 0,
    message: 5,
  },
  chosen: [{ section: "memories", id: "mem_1", tokens: 4, score: 1.5 }],
  dropped: [],
};

const nothing: Erased = {
  conversations: 0,
  messages: 0,
  turns: 0,
  memories: 0,
  documents: 0,
  idempotency_keys: 0,
};

/** Runs the contract against an adapter. */
export function describeMemoryStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} keeps the contract of the memory store`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    /** A whole turn; gives what it was started with, and its conversation. */
    async function turn(start: Partial<TurnStart>, end: Partial<TurnEnd> = {}) {
      const whole = turnStart(start);
      const { turn } = await store.startTurn(scope, whole);
      const ending = turnEnd({ message: whole.message, ...end });
      expect(await store.endTurn(turn.id, instance, ending, whole.now_ms + 1_000)).toBe(true);
      return { ...whole, conversation_id: turn.conversation_id };
    }

    const save = (user: UserScope, memories: NewMemory[], turnId: string | null = null, max = 500) =>
      store.saveMemories(user, memories, turnId, max, nowMs);
    const sources = (query: Omit<PromptQuery, "tokens_max" | "use_memory"> & Partial<PromptQuery>) =>
      store.promptSources({ tokens_max: 1_000, use_memory: true, ...query });
    const texts = (memories: MemoryRecord[]): string[] => memories.map(({ text }) => text);
    const held = async (user: UserScope): Promise<string[]> => texts(await store.heldMemories(user));

    describe("profiles", () => {
      const blank = { display_name: null, language: null, timezone: null, instructions: null, metadata: {} };

      test("of users nobody has heard of are null", async () => {
        expect(await store.profile(user("nobody"))).toBeNull();
      });

      test("are blank from the first conversation on", async () => {
        await store.createConversation(scope, newConversation({ user_id: "profiled" }));
        expect(await store.profile(user("profiled"))).toEqual({
          user_id: "profiled",
          ...blank,
          created_at: now,
          updated_at: now,
        });
      });

      test("are changed member by member, and null clears", async () => {
        const ada = user("profile-ada");
        const set = {
          display_name: "Ada 💡",
          language: "en-GB",
          timezone: "Europe/London",
          instructions: "Briefly.",
          metadata: { plan: "team" },
        };
        const created = { user_id: "profile-ada", created_at: now, updated_at: now };
        expect(await store.updateProfile(ada, set, nowMs)).toEqual({ ...created, ...set });
        const changed = await store.updateProfile(ada, { language: null, metadata: {} }, nowMs + 5_000);
        const expected = { ...created, ...set, language: null, metadata: {}, updated_at: now + 5 };
        expect(changed).toEqual(expected);
        expect(await store.profile(ada)).toEqual(expected);
      });

      test("are a user's own, exactly, in their workspace", async () => {
        await store.updateProfile(user("Émile"), { display_name: "Émile" }, nowMs);
        for (const other of [user("émile"), user("Emile"), user("E\u0301mile"), elsewhere("Émile")]) {
          expect(await store.profile(other)).toBeNull();
        }
      });
    });

    describe("memories", () => {
      test("are saved with all that belongs to them, newest first", async () => {
        const ada = user("memories-ada");
        const source_message_id = newId("message");
        const given = newMemory({ kind: "preference", slot: "diet", source_message_id, text: "No meat. 🥦" });
        const [saved] = await save(ada, [given]);
        expect(saved).toEqual({
          id: given.id,
          text: "No meat. 🥦",
          kind: "preference",
          slot: "diet",
          tokens: 5,
          source_message_id,
          superseded_by: null,
          uses: 0,
          used_at: null,
          created_at: now,
          updated_at: now,
        });
        await save(ada, [newMemory({ text: "second" }), newMemory({ text: "third" })]);
        expect(await held(ada)).toEqual(["third", "second", "No meat. 🥦"]);
        expect(await store.memory(ada, given.id)).toEqual(saved!);
      });

      test("of another user or workspace don't exist", async () => {
        const [saved] = await save(user("owner"), [newMemory()]);
        const { id } = saved!;
        for (const other of [user("eve"), elsewhere("owner")]) {
          expect(await store.memory(other, id)).toBeNull();
          expect(await store.updateMemory(other, id, { text: "x" }, nowMs)).toBeNull();
          expect(await store.deleteMemory(other, id)).toBe(false);
          expect(await store.heldMemories(other)).toEqual([]);
          const page = await store.memories(other, { limit: 10, after: null, superseded: true });
          expect(page).toEqual({ memories: [], next: null });
        }
        expect(await held(user("owner"))).toEqual(["Lives in Lisbon."]);
      });

      test("are changed member by member, and deleted once", async () => {
        const ada = user("changer");
        const { id } = newMemory();
        await save(ada, [newMemory({ id })]);
        expect(
          await store.updateMemory(ada, id, { text: "Lives in Porto.", tokens: 6 }, nowMs + 9_000),
        ).toEqual(
          expect.objectContaining({
            text: "Lives in Porto.",
            tokens: 6,
            kind: "fact",
            created_at: now,
            updated_at: now + 9,
          }),
        );
        expect(await store.updateMemory(ada, id, { kind: "event" }, nowMs)).toMatchObject({
          text: "Lives in Porto.",
          kind: "event",
        });
        expect(await store.updateMemory(ada, newId("memory"), { text: "x" }, nowMs)).toBeNull();
        expect(await store.deleteMemory(ada, id)).toBe(true);
        expect(await store.deleteMemory(ada, id)).toBe(false);
        expect(await store.memory(ada, id)).toBeNull();
      });

      test("supersede those that they name, and those of the same slot", async () => {
        const ada = user("mover");
        const [lisbon, other] = [newMemory({ slot: "home" }), newMemory({ text: "Has a dog.", slot: "pet" })];
        await save(ada, [lisbon, other]);
        const porto = newMemory({ text: "Lives in Porto.", slot: "home" });
        await save(ada, [porto]);
        expect(await held(ada)).toEqual(["Lives in Porto.", "Has a dog."]);
        expect((await store.memory(ada, lisbon.id))?.superseded_by).toBe(porto.id);
        const cat = newMemory({ text: "Has a cat.", supersedes: [other.id, lisbon.id, newId("memory")] });
        await save(ada, [cat]);
        expect(await held(ada)).toEqual(["Has a cat.", "Lives in Porto."]);
        expect((await store.memory(ada, other.id))?.superseded_by).toBe(cat.id);
        // Who was superseded stays so by the first.
        expect((await store.memory(ada, lisbon.id))?.superseded_by).toBe(porto.id);
      });

      test("of another user can't be superseded, by name or by slot", async () => {
        const theirs = newMemory({ slot: "home" });
        await save(user("settled"), [theirs]);
        await save(user("eve"), [newMemory({ slot: "home", supersedes: [theirs.id] })]);
        expect((await store.memory(user("settled"), theirs.id))?.superseded_by).toBeNull();
      });

      test("are capped: the superseded go first, then the oldest, and never the new ones", async () => {
        const ada = user("collector");
        const old = newMemory({ text: "old", slot: "s" });
        await save(ada, [old], null, 3);
        await save(ada, [newMemory({ text: "1" })], null, 3);
        await save(ada, [newMemory({ text: "2", slot: "s" })], null, 3);
        expect(await store.memory(ada, old.id)).not.toBeNull();
        await save(ada, [newMemory({ text: "3" })], null, 3);
        expect(await store.memory(ada, old.id)).toBeNull();
        expect(await held(ada)).toEqual(["3", "2", "1"]);
        const saved = await save(ada, [newMemory({ text: "4" }), newMemory({ text: "5" })], null, 3);
        expect(texts(saved)).toEqual(["4", "5"]);
        expect(await held(ada)).toEqual(["5", "4", "3"]);
        await save(user("other-collector"), [newMemory()], null, 1);
        expect((await held(ada)).length).toBe(3);
      });

      test("come in pages, newest first, whatever is deleted in between", async () => {
        const ada = user("pager");
        const all = Array.from({ length: 11 }, (_, index) => newMemory({ text: `${index}` }));
        for (const memory of all) await save(ada, [memory]);
        const replaced = newMemory({ text: "10 again", supersedes: [all[10]!.id] });
        await save(ada, [replaced]);
        const page = (after: string | null, superseded = false) =>
          store.memories(ada, { limit: 4, after, superseded });
        const first = await page(null);
        expect(texts(first.memories)).toEqual(["10 again", "9", "8", "7"]);
        expect(first.next).toBe(all[7]!.id);
        await store.deleteMemory(ada, first.next!);
        const second = await page(first.next);
        expect(texts(second.memories)).toEqual(["6", "5", "4", "3"]);
        const last = await page(second.next);
        expect([texts(last.memories), last.next]).toEqual([["2", "1", "0"], null]);
        expect(texts((await page(null, true)).memories)).toEqual(["10 again", "10", "9", "8"]);
        const exact = await store.memories(ada, { limit: 11, after: null, superseded: false });
        expect([exact.memories.length, exact.next]).toEqual([10, null]);
      });
    });

    describe("turns to remember", () => {
      const ofUser = async (user_id: string) =>
        (await store.turnsToRemember(instance, 1_000)).filter((entry) => entry.user_id === user_id);

      test("are those that ended so, oldest first, with what the user said", async () => {
        const user_id = "talker";
        const first = await turn({ user_id, message: "I moved to Porto." }, { to_remember: true });
        await turn({ user_id, message: "Fail" }, { to_remember: false });
        await turn({ user_id, message: "Secret", use_memory: false }, { to_remember: true });
        const second = await turn({ user_id, message: "I have a dog." }, { to_remember: true });
        await store.startTurn(scope, turnStart({ user_id }));
        const { turn_id, user_message_id } = first;
        const expected = { ...user(user_id), turn_id, user_message_id, message: "I moved to Porto." };
        const [one, two, ...more] = await ofUser(user_id);
        expect(one).toEqual({ ...expected, created_at: now });
        expect([two?.turn_id, more]).toEqual([second.turn_id, []]);
        expect((await store.turnsToRemember(instance, 1)).length).toBe(1);
      });

      test("are remembered once, with memories or without", async () => {
        const ada = user("once");
        const start = { user_id: "once" };
        const [first, second] = [
          await turn(start, { to_remember: true }),
          await turn(start, { to_remember: true }),
        ];
        expect(texts(await save(ada, [newMemory({ text: "a" })], first.turn_id))).toEqual(["a"]);
        expect(await save(ada, [newMemory({ text: "b" })], first.turn_id)).toEqual([]);
        expect(await save(ada, [], second.turn_id)).toEqual([]);
        expect(await save(ada, [newMemory({ text: "c" })], second.turn_id)).toEqual([]);
        expect(await save(ada, [newMemory({ text: "d" })], newId("turn"))).toEqual([]);
        expect(await held(ada)).toEqual(["a"]);
        expect(await ofUser("once")).toEqual([]);
      });

      test("give no memories to another user", async () => {
        const { turn_id } = await turn({ user_id: "teller" }, { to_remember: true });
        for (const other of ["eve", "somebody new"]) {
          expect(await save(user(other), [newMemory()], turn_id)).toEqual([]);
        }
        expect((await ofUser("teller")).length).toBe(1);
      });
    });

    describe("recall", () => {
      const ask = async (user_id: string, q: string, changes: Partial<RecallQuery> = {}) => {
        const found = await store.recall({
          ...user(user_id),
          q,
          vector: null,
          conversation_id: "conv_none",
          shown_from_seq: 1,
          limit: 20,
          now: now + 100,
          ...changes,
        });
        return found.map(({ message }) => message.content);
      };

      test("finds the user's messages of all conversations, whole and best first", async () => {
        const user_id = "recaller";
        const said = await turn(
          { user_id, message: "My sister Mathilda keeps bees in Graz." },
          { response: "How many hives?" },
        );
        await turn({ user_id, message: "What shall I cook?" }, { response: "Soup." });
        const [best] = await store.recall({
          ...user(user_id),
          q: "Where does my sister keep her bees?",
          vector: null,
          conversation_id: "conv_none",
          shown_from_seq: 1,
          limit: 5,
          now,
        });
        expect(best?.message).toMatchObject({
          id: said.user_message_id,
          conversation_id: said.conversation_id,
          role: "user",
          content: "My sister Mathilda keeps bees in Graz.",
          created_at: now,
        });
        expect(best!.score).toBeGreaterThan(0);
        expect(best!.coverage).toBeWithin(0.5, 1.01);
        expect(await ask(user_id, "zeppelin")).toEqual([]);
        for (const q of ["", " ?! ", '"NEAR(', "\u0000"]) expect(await ask(user_id, q)).toEqual([]);
        expect((await ask(user_id, "sister bees", { limit: 1 })).length).toBe(1);
      });

      test("takes what stands next to a match for its context", async () => {
        const user_id = "contextual";
        await turn(
          { user_id, message: "When does the zeppelin leave?" },
          { response: "On Tuesday at nine, from hangar four." },
        );
        await turn({ user_id, message: "Thanks" }, { response: "On Tuesday then." });
        const found = await ask(user_id, "zeppelin leave");
        expect(found).toContain("On Tuesday at nine, from hangar four.");
        expect(found).not.toContain("On Tuesday then.");
      });

      test("finds what holds all that is asked among many that hold a part of it", async () => {
        const user_id = "talker";
        await turn({ user_id, message: "The walrus plays the trombone." }, { response: "-" });
        await Promise.all(
          Array.from({ length: 100 }, (_, index) => {
            const part = index % 2 === 0 ? "walrus" : "trombone";
            return turn({ user_id, message: `A ${part} again, number ${index}` }, { response: "-" });
          }),
        );
        const [best] = await ask(user_id, "walrus trombone");
        expect(best).toBe("The walrus plays the trombone.");
      });

      test("finds nothing of other users, nor of the user in another workspace", async () => {
        await turn({ user_id: "keeper", message: "The password is xylophone." });
        expect(await ask("eve", "password xylophone")).toEqual([]);
        expect(await ask("keeper", "xylophone", { workspace_id: "other" })).toEqual([]);
        expect((await ask("keeper", "xylophone")).length).toBeGreaterThan(0);
      });

      test("leaves out what is before the model already", async () => {
        const user_id = "reader";
        const first = await turn({ user_id, message: "quokka one" }, { response: "quokka two" });
        const { conversation_id } = first;
        await turn({ user_id, conversation_id, message: "quokka three" }, { response: "quokka four" });
        await turn({ user_id, message: "quokka elsewhere" }, { response: "-" });
        const found = await ask(user_id, "quokka", { conversation_id, shown_from_seq: 3 });
        expect(found.toSorted().filter((text) => text.startsWith("quokka"))).toEqual([
          "quokka elsewhere",
          "quokka one",
          "quokka two",
        ]);
      });

      test("never finds turns that were not to be remembered, nor replies that quote what is stored", async () => {
        const user_id = "careful";
        const { conversation_id } = await turn(
          { user_id, message: "okapi secret", use_memory: false },
          { response: "okapi confidential" },
        );
        await turn(
          { user_id, conversation_id, message: "okapi open" },
          { response: "okapi quoted", reply_recallable: false },
        );
        expect(await ask(user_id, "okapi")).toEqual(["okapi open"]);
      });

      test("finds nothing that was deleted", async () => {
        const { conversation_id } = await turn({ user_id: "deleter", message: "narwhal" });
        await store.deleteConversation(scope, conversation_id);
        expect(await ask("deleter", "narwhal")).toEqual([]);
      });

      test("is worth a search only where there are other messages", async () => {
        const beginner = user("beginner");
        const { conversation_id } = await turn({ user_id: "beginner" });
        const older = async (changes: Partial<PromptQuery> = {}) =>
          (await sources({ ...beginner, conversation_id, before_seq: 3, ...changes })).has_older;
        expect(await older()).toBe(false);
        await store.replaceSummary(beginner, conversation_id, 0, { text: "s", tokens: 1, through_seq: 1 });
        expect(await older()).toBe(true);
        expect(await older({ use_memory: false })).toBe(false);
        await store.replaceSummary(beginner, conversation_id, 1, { text: "", tokens: 0, through_seq: 0 });
        await store.createConversation(scope, newConversation({ user_id: "beginner" }));
        expect(await older()).toBe(false);
        await turn({ user_id: "beginner" });
        expect(await older()).toBe(true);
        expect(await older({ before_seq: 1 })).toBe(true);
        expect(await older({ user_id: "eve", before_seq: 1 })).toBe(false);
      });
    });

    describe("the sources of a prompt", () => {
      test("are the conversation's context, the profile, and the memories that hold", async () => {
        const reader = user("reader");
        const { conversation_id } = await turn({ user_id: "reader" });
        await store.updateProfile(reader, { display_name: "R" }, nowMs);
        const memory = newMemory({ text: "Reads." });
        await save(reader, [memory]);
        const query = { ...reader, conversation_id, before_seq: 3, tokens_max: 100 };
        const found = await sources(query);
        expect(found.conversation).toEqual(await store.conversationContext(reader, conversation_id, 3, 100));
        expect(found.conversation.window.map(({ content }) => content)).toEqual(["Hello", "Hi!"]);
        expect(found.profile).toEqual(await store.profile(reader));
        expect(found.memories).toEqual(await store.heldMemories(reader));
        expect(found.memories.map(({ id }) => id)).toEqual([memory.id]);
        expect((await sources({ ...query, use_memory: false })).memories).toEqual([]);
      });

      test("of a user nobody has heard of, and of a conversation that begins, are empty", async () => {
        const query = { ...user("nobody yet"), conversation_id: "conv_none", before_seq: 1 };
        expect(await sources(query)).toMatchObject({
          conversation: { summary: { text: "", tokens: 0, through_seq: 0 }, window: [], between: [] },
          profile: null,
          memories: [],
          has_older: false,
        });
      });

      test("tell whether there are documents to search, in their workspace alone", async () => {
        const asked = async (workspace_id: string) =>
          (await sources({ workspace_id, user_id: "asks", conversation_id: "conv_none", before_seq: 1 }))
            .has_passages;
        await storeDocument(store, null, { name: "shown.txt", text: "shown" });
        expect(await asked("default")).toBe(true);
        expect(await asked("other")).toBe(false);
      });
    });

    describe("a conversation's context", () => {
      const summary = (through_seq: number, text = `up to ${through_seq}`) => ({
        text,
        tokens: 3,
        through_seq,
      });

      /** Five turns of 10 and 20 tokens. */
      async function long(): Promise<string> {
        let id: string | null = null;
        for (let round = 0; round < 5; round++) {
          const { conversation_id } = await turn(
            { user_id: "long", conversation_id: id, message: `q${round}`, message_tokens: 10 },
            { response: `a${round}`, response_tokens: 20 },
          );
          id = conversation_id;
        }
        return id!;
      }
      const contents = (messages: { content: string }[]) => messages.map(({ content }) => content);

      test("tells what neither summary nor window holds", async () => {
        const id = await long();
        const whole = await store.conversationContext(user("long"), id, 11, 1_000);
        expect(whole).toMatchObject({ summary: { text: "", tokens: 0, through_seq: 0 }, between: [] });
        expect(whole.window.length).toBe(10);
        const part = await store.conversationContext(user("long"), id, 11, 60);
        expect(contents(part.window)).toEqual(["q3", "a3", "q4", "a4"]);
        expect(contents(part.between)).toEqual(["q0", "a0", "q1", "a1", "q2", "a2"]);
        expect(await store.replaceSummary(user("long"), id, 0, summary(4))).toBe(true);
        for (const foreign of [user("eve"), elsewhere("long")]) {
          expect(await store.conversationContext(foreign, id, 11, 1_000)).toEqual({
            summary: { text: "", tokens: 0, through_seq: 0 },
            window: [],
            between: [],
          });
          expect(await store.replaceSummary(foreign, id, 4, summary(6))).toBe(false);
        }
        const folded = await store.conversationContext(user("long"), id, 11, 60);
        expect(folded.summary).toEqual(summary(4));
        expect(contents(folded.between)).toEqual(["q2", "a2"]);
        expect(contents(folded.window)).toEqual(["q3", "a3", "q4", "a4"]);
      });

      test("doesn't repeat in the window what the summary covers", async () => {
        const id = await long();
        await store.replaceSummary(user("long"), id, 0, summary(8));
        const context = await store.conversationContext(user("long"), id, 11, 1_000);
        expect(contents(context.window)).toEqual(["q4", "a4"]);
        expect(context.between).toEqual([]);
        await store.replaceSummary(user("long"), id, 8, summary(10));
        expect((await store.conversationContext(user("long"), id, 11, 1_000)).window).toEqual([]);
      });

      test("has all between, oldest first, where nothing fits the window", async () => {
        let id: string | null = null;
        for (let round = 0; round < 40; round++) {
          const start: Partial<TurnStart> = { user_id: "long", conversation_id: id, message: `q${round}` };
          id = (await turn({ ...start, message_tokens: 100 })).conversation_id;
        }
        const { between, window } = await store.conversationContext(user("long"), id!, 81, 1);
        expect(window).toEqual([]);
        expect(between.map(({ seq }) => seq)).toEqual(Array.from({ length: 80 }, (_, index) => index + 1));
      });

      test("of an unknown conversation is empty", async () => {
        expect(await store.conversationContext(user("long"), newId("conversation"), 5, 100)).toEqual({
          summary: { text: "", tokens: 0, through_seq: 0 },
          window: [],
          between: [],
        });
      });

      test("has its summary replaced by one alone of those who saw the same", async () => {
        const id = await long();
        const replaced = await Promise.all([
          store.replaceSummary(user("long"), id, 0, summary(2, "one")),
          store.replaceSummary(user("long"), id, 0, summary(4, "two")),
        ]);
        expect(replaced.toSorted()).toEqual([false, true]);
        expect(await store.replaceSummary(user("long"), id, 0, summary(6, "three"))).toBe(false);
        const { text } = (await store.conversationContext(user("long"), id, 11, 0)).summary;
        expect(text).toBe(replaced[0] ? "one" : "two");
        expect(await store.replaceSummary(user("long"), newId("conversation"), 0, summary(2))).toBe(false);
      });
    });

    describe("receipts", () => {
      test("are there after the end, as they were given, in scope alone", async () => {
        const { turn_id } = await turn({ user_id: "receiver" }, { receipt });
        expect(await store.receipt(scope, turn_id)).toEqual(receipt);
        expect(await store.receipt(user("receiver"), turn_id)).toEqual(receipt);
        for (const other of [user("eve"), elsewhere("receiver"), { workspace_id: "other", user_id: null }]) {
          expect(await store.receipt(other, turn_id)).toBeNull();
        }
        expect(await store.receipt(scope, newId("turn"))).toBeNull();
        const without = await turn({ user_id: "receiver" });
        expect(await store.receipt(scope, without.turn_id)).toBeNull();
      });
    });

    describe("what is kept of a user", () => {
      test("is gone through in the order in which conversations were made, however they go on", async () => {
        const ids: string[] = [];
        for (let index = 0; index < 5; index++) {
          ids.push((await turn({ user_id: "kept", now_ms: nowMs - index * 1000 })).conversation_id);
        }
        await store.replaceSummary(user("kept"), ids[1]!, 0, {
          text: "A digest.",
          tokens: 3,
          through_seq: 2,
        });
        const first = await store.keptConversations(user("kept"), 2, null);
        expect(first.conversations.map(({ id }) => id)).toEqual(ids.slice(0, 2));
        expect(first.conversations[1]).toEqual({
          ...(await store.conversation(scope, ids[1]!))!,
          summary: { text: "A digest.", tokens: 3, through_seq: 2 },
        });
        await turn({ user_id: "kept", conversation_id: ids[4]! });
        await store.deleteConversation(scope, ids[1]!);
        const second = await store.keptConversations(user("kept"), 3, first.next);
        expect([second.conversations.map(({ id }) => id), second.next]).toEqual([ids.slice(2), null]);
        for (const other of [user("nobody"), elsewhere("kept")]) {
          const none = { conversations: [], next: null };
          expect(await store.keptConversations(other, 2, null)).toEqual(none);
        }
      });
    });

    describe("a conversation that is deleted", () => {
      test("leaves the memories drawn from it, without their source", async () => {
        const ada = user("unsourced");
        const [gone, kept] = [await turn({ user_id: "unsourced" }), await turn({ user_id: "unsourced" })];
        await save(ada, [
          newMemory({ text: "of the kept", source_message_id: kept.user_message_id }),
          newMemory({ text: "of the deleted", source_message_id: gone.user_message_id }),
        ]);
        expect(await store.deleteConversation(scope, gone.conversation_id)).toBe(true);
        const sources = (await store.heldMemories(ada)).map(({ source_message_id }) => source_message_id);
        expect(sources).toEqual([null, kept.user_message_id]);
      });

      test("leaves nothing of its turns, receipts and summary, and no turn to remember", async () => {
        const { conversation_id, turn_id } = await turn(
          { user_id: "leaver" },
          { receipt, to_remember: true },
        );
        await store.replaceSummary(user("leaver"), conversation_id, 0, {
          text: "x",
          tokens: 1,
          through_seq: 2,
        });
        await store.deleteConversation(scope, conversation_id);
        expect(await store.receipt(scope, turn_id)).toBeNull();
        expect((await store.conversationContext(user("leaver"), conversation_id, 9, 9)).summary.text).toBe(
          "",
        );
        const left = await store.turnsToRemember(instance, 1_000);
        expect(left.filter(({ user_id }) => user_id === "leaver")).toEqual([]);
      });
    });

    describe("a user who is erased", () => {
      const keyOf = (key: string, changes: Partial<Idempotency> = {}): Idempotency => ({
        principal_id: "p1",
        operation: "turn",
        key,
        body_hash: "hash",
        ...changes,
      });

      /** Somebody with some of everything. */
      async function livedIn(user_id: string) {
        const ada = user(user_id);
        await store.updateProfile(ada, { display_name: "Ada", instructions: "Briefly." }, nowMs);
        const first = await turn(
          { user_id, message: "walrus", idempotency: keyOf(`${user_id}-1`) },
          { receipt, to_remember: true },
        );
        const { conversation_id } = first;
        await turn({ user_id, conversation_id, message: "walrus too" });
        await turn({ user_id, message: "another walrus" });
        await store.createConversation(
          scope,
          newConversation({
            user_id,
            title: "walrus",
            idempotency: keyOf(`${user_id}-2`, { operation: "conversation" }),
          }),
        );
        await save(ada, [newMemory({ slot: "home" }), newMemory({ slot: "home" })]);
        const document_id = await storeDocument(store, user_id, { name: "walrus.txt", text: "A walrus." });
        return { ada, document_id, ...first };
      }
      const all: Erased = {
        ...nothing,
        conversations: 3,
        messages: 6,
        turns: 3,
        memories: 2,
        documents: 1,
        idempotency_keys: 2,
      };
      const search = async (user_id: string | null) => {
        const query = { workspace_id: "default", user_id, q: "walrus", vector: null };
        const found = await store.searchPassages({ ...query, collections: null, filter: null, limit: 99 });
        return found.map(({ document_id }) => document_id);
      };

      const erase = async (ada: UserScope): Promise<Erased> => {
        expect(await store.cutOffUser(ada)).toEqual([]);
        return await store.eraseUser(ada);
      };
      const find = async (user_id: string, q: string) =>
        (await store.conversations(scope, { user_id, limit: 10, after: null, q })).conversations.length;

      test("is erased whole, with counts, and nobody has heard of them then", async () => {
        const { ada, conversation_id, turn_id, document_id } = await livedIn("erased");
        expect(await search("erased")).toEqual([document_id]);
        expect(await erase(ada)).toEqual(all);
        expect(await store.document(scope, document_id)).toBeNull();
        expect(await store.documentText(scope, document_id, 0)).toBeNull();
        expect(await store.clearWaste()).toBe(false);
        expect(await store.profile(ada)).toBeNull();
        expect(await store.memories(ada, { limit: 9, after: null, superseded: true })).toEqual({
          memories: [],
          next: null,
        });
        expect(await store.conversation(scope, conversation_id)).toBeNull();
        expect((await store.messages(scope, conversation_id, 9, null)).messages).toEqual([]);
        expect(await store.turn(scope, turn_id)).toBeNull();
        expect(await store.receipt(scope, turn_id)).toBeNull();
        expect(await find("erased", "walrus")).toBe(0);
        expect((await store.keptConversations(ada, 9, null)).conversations).toEqual([]);
        const left = await store.turnsToRemember(instance, 1_000);
        expect(left.filter(({ user_id }) => user_id === "erased")).toEqual([]);
      });

      test("leaves everybody else as they were", async () => {
        const { ada } = await livedIn("leaving");
        const other = await livedIn("staying");
        await erase(ada);
        expect((await store.profile(other.ada))?.display_name).toBe("Ada");
        expect(await find("staying", "walrus")).toBe(3);
        expect((await store.turn(scope, other.turn_id))?.status).toBe("completed");
        expect(await held(other.ada)).toEqual(["Lives in Lisbon."]);
        expect(await search("staying")).toEqual([other.document_id]);
        const replay = turnStart({ user_id: "staying", idempotency: keyOf("staying-1") });
        expect((await store.startTurn(scope, replay)).replayed).toBe(true);
      });

      test("is counted once, and may be erased again, also when unknown", async () => {
        const { ada } = await livedIn("twice");
        expect(await erase(ada)).toEqual(all);
        expect(await erase(ada)).toEqual(nothing);
        expect(await erase(user("never-seen"))).toEqual(nothing);
        expect(await erase(elsewhere("twice"))).toEqual(nothing);
      });

      test("may be erased by several at once: together they count everything once", async () => {
        const { ada } = await livedIn("crowded");
        await store.cutOffUser(ada);
        const counts = await Promise.all([store.eraseUser(ada), store.eraseUser(ada), store.eraseUser(ada)]);
        const sum = { ...nothing };
        for (const count of counts) {
          for (const [what, number] of Object.entries(count)) sum[what as keyof Erased] += number;
        }
        expect(sum).toEqual(all);
      });

      test("is a new user from the cut on, who keeps what they do meanwhile and draws on nothing of before", async () => {
        const { ada, conversation_id, turn_id, document_id } = await livedIn("reborn");
        await store.cutOffUser(ada);
        // Nor are their documents everybody's now.
        for (const whose of [scope, ada, user("eve")]) {
          expect(await store.document(whose, document_id)).toBeNull();
          expect(await store.documentText(whose, document_id, 0)).toBeNull();
          const query = { collection: null, user_id: null, limit: 99, after: null };
          const { documents } = await store.documents(whose, query);
          expect(documents.map(({ id }) => id)).not.toContain(document_id);
        }
        expect(await search("reborn")).toEqual([]);
        expect(await search(null)).toEqual([]);
        expect(await store.profile(ada)).toBeNull();
        expect(await held(ada)).toEqual([]);
        const next = turnStart({ user_id: "reborn", conversation_id });
        await expectCode(store.startTurn(scope, next), "not_found");
        const prompt = { ...ada, conversation_id: "conv_none", before_seq: 1 };
        expect(await sources(prompt)).toMatchObject({ has_older: false, profile: null, memories: [] });
        const query = { vector: null, conversation_id: "conv_none", shown_from_seq: 1, limit: 9, now };
        expect(await store.recall({ ...ada, ...query, q: "walrus" })).toEqual([]);
        // A memory that is still being drawn comes too late, whoever has the name by now.
        const anew = await turn({ user_id: "reborn", message: "a new walrus" });
        expect(await save(ada, [newMemory()], turn_id)).toEqual([]);
        await save(ada, [newMemory({ text: "new" })]);
        expect(await store.eraseUser(ada)).toEqual(all);
        expect((await store.turn(scope, anew.turn_id))?.status).toBe("completed");
        expect(await held(ada)).toEqual(["new"]);
        expect(await find("reborn", "walrus")).toBe(1);
        const found = await store.recall({ ...ada, ...query, q: "walrus" });
        expect(found.map(({ message }) => message.content)).toContain("a new walrus");
        expect(await erase(ada)).toEqual({
          ...nothing,
          conversations: 1,
          messages: 2,
          turns: 1,
          memories: 1,
        });
      });

      test("has running turns named at the cut; their end finds nothing to end", async () => {
        const { ada, conversation_id } = await livedIn("running");
        const start = turnStart({ user_id: "running", conversation_id, message: "run" });
        await store.startTurn(scope, start);
        expect(await store.cutOffUser(ada)).toEqual([start.turn_id]);
        expect(await store.cutOffUser(ada)).toEqual([]);
        await store.eraseUser(ada);
        expect(await store.endTurn(start.turn_id, instance, turnEnd(), nowMs)).toBe(false);
        await store.checkpointReplies([{ turn_id: start.turn_id, text: "a ghost", model: "m" }]);
        expect(await store.turn(scope, start.turn_id)).toBeNull();
        expect(await find("running", "run")).toBe(0);
      });

      test("is erased with what a turn stores that ends between the cut and its erasure", async () => {
        const ada = user("ending");
        const start = turnStart({ user_id: "ending", message: "manatee" });
        await store.startTurn(scope, start);
        await store.cutOffUser(ada);
        const end = turnEnd({ response: "manatees", to_remember: true });
        const [, erased] = await Promise.all([
          store.endTurn(start.turn_id, instance, end, nowMs),
          store.eraseUser(ada),
        ]);
        expect(erased.turns).toBe(1);
        expect(await find("ending", "manatees")).toBe(0);
        expect(
          (await store.conversations(scope, { user_id: null, limit: 9, after: null, q: "manatee" }))
            .conversations,
        ).toEqual([]);
      });

      test("frees their idempotency keys, those of what was deleted before too", async () => {
        const { ada, conversation_id } = await livedIn("keyed");
        await store.deleteConversation(scope, conversation_id);
        const again = turnStart({ user_id: "keyed", idempotency: keyOf("keyed-1") });
        await expectCode(store.startTurn(scope, again), "not_found");
        expect((await erase(ada)).idempotency_keys).toBe(2);
        expect((await store.startTurn(scope, again)).replayed).toBe(false);
      });

      test("is erased to the end where a process died in the middle", async () => {
        const { ada, conversation_id } = await livedIn("interrupted");
        await store.cutOffUser(ada);
        store = await under.reopen();
        expect(await store.conversation(scope, conversation_id)).not.toBeNull();
        await store.resumeErasures();
        expect(await store.conversation(scope, conversation_id)).toBeNull();
        expect(await store.eraseUser(ada)).toEqual(nothing);
        await store.resumeErasures();
      });
    });
  });
}
