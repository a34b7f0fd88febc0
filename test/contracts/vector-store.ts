/** What every adapter of the storage port promises of vectors: which texts get one, whose are compared with a question, and that they go with their texts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type { Store } from "../../src/storage/store.ts";
import type {
  QuestionVector,
  TextToEmbed,
  VectorSpace,
  WalkPosition,
} from "../../src/storage/vector-store.ts";
import { seededRandom } from "../support/turns.ts";
import { noSpending, type StoreUnderTest } from "./records.ts";

export interface VectorsUnderTest extends StoreUnderTest {
  /** How many rows a table has. */
  rowsOf(table: string): Promise<number>;
}

const dimensions = 256;
const workspace_id = "default";
const scope = { workspace_id, user_id: null };
const ada = { workspace_id, user_id: "ada" };

const random = seededRandom();
const noise = (size = 1): Float32Array =>
  Float32Array.from({ length: dimensions }, () => size * (random() + random() - 1));
const plus = (one: Float32Array, other: Float32Array): Float32Array =>
  one.map((value, index) => value + other[index]!);

const space: VectorSpace = { model: "test", dimensions, center: new Float32Array(dimensions) };

/** A question near to a vector. Random vectors never come as near as three of these deviations. */
const questionLike = (values: Float32Array, changes: Partial<QuestionVector> = {}): QuestionVector => ({
  ...space,
  values: plus(values, noise(0.2)),
  unrelated: { mean: 0, deviation: 0.11 },
  ...changes,
});

export function describeVectorStore(name: string, open: () => Promise<VectorsUnderTest>): void {
  describe(`${name} keeps the contract of vectors`, () => {
    let opened: VectorsUnderTest;
    let store: Store;
    beforeAll(async () => {
      opened = await open();
      store = opened.store;
      // From now on texts are told of.
      expect(await store.newTexts(10)).toEqual([]);
    });
    afterAll(() => opened.close());

    const vectorRows = (): Promise<number[]> =>
      Promise.all(
        ["message_vectors", "memory_vectors", "passage_vectors"].map((table) => opened.rowsOf(table)),
      );

    const begin = (user_id: string, message: string, use_memory = true, at = 1_700_000_000) =>
      store.startTurn(scope, {
        turn_id: newId("turn"),
        user_message_id: newId("message"),
        message_id: newId("message"),
        conversation_id: null,
        new_conversation_id: newId("conversation"),
        user_id,
        message,
        message_tokens: 5,
        model: "test-model",
        title: "A title",
        metadata: null,
        instance_id: "inst_test",
        lease_seconds: 60,
        use_memory,
        idempotency: null,
        key_id: "key_test",
        reservation: null,
        slots: [],
        now_ms: at * 1000,
      });

    const end = (turnId: string, message: string, reply: string, at = 1_700_000_000) =>
      store.endTurn(
        turnId,
        "inst_test",
        {
          message,
          status: "completed",
          response: reply,
          finish_reason: "stop",
          model: "test-model",
          sources: [],
          citations: [],
          memories_used: [],
          usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true },
          spent: noSpending,
          response_tokens: 2,
          error: null,
          receipt: null,
          to_remember: false,
          reply_recallable: reply !== "",
        },
        at * 1000 + 1_000,
      );

    /** A whole turn; gives its conversation. */
    async function turn(
      user_id: string,
      message: string,
      use_memory = true,
      reply = "Noted.",
      at = 1_700_000_000,
    ): Promise<string> {
      const { turn } = await begin(user_id, message, use_memory, at);
      await end(turn.id, message, reply, at);
      return turn.conversation_id;
    }

    interface NewDocument {
      name: string;
      passages: string[];
      collection?: string;
      owner?: string | null;
      metadata?: Record<string, string>;
    }

    async function addDocument(document: NewDocument, finish = true): Promise<string> {
      const { name, passages, collection = "default", owner = null, metadata = {} } = document;
      const revision_id = newId("revision");
      const upload = new TextEncoder().encode(revision_id);
      const begun = await store.beginRevision(
        workspace_id,
        {
          document_id: newId("document"),
          revision_id,
          collection,
          name,
          owner,
          media_type: "text/plain",
          metadata,
          content_hash: revision_id,
          bytes: 1,
          now_ms: 1_700_000_000_000,
        },
        upload,
      );
      let start = 0;
      const attempt = (await store.beginAttempt(revision_id))!;
      await store.addToRevision(
        attempt,
        [{ start: 0, text: passages.join("") }],
        passages.map((text, index) => {
          const passage = {
            seq: index + 1,
            start,
            end: start + text.length,
            heading: "Heading",
            text,
            tokens: 5,
          };
          start = passage.end;
          return passage;
        }),
        1,
      );
      if (finish) await store.finishRevision(attempt, "text/plain", start, 1_700_000_000_000);
      return begun.document.id;
    }

    /** Gives vectors to all new texts, each by its text. */
    async function embedNew(
      vectorOf: (text: TextToEmbed) => Float32Array | null = () => noise(),
      into = space,
    ): Promise<TextToEmbed[]> {
      const all: TextToEmbed[] = [];
      for (;;) {
        const texts = await store.newTexts(100);
        if (texts.length === 0) return all;
        all.push(...texts);
        await store.saveVectors(
          into,
          texts.map((text) => ({ kind: text.kind, n: text.n, mark: text.mark, values: vectorOf(text) })),
        );
      }
    }

    /** All that a walk finds without a vector. */
    async function walk(of = space): Promise<TextToEmbed[]> {
      const all: TextToEmbed[] = [];
      let from: WalkPosition | null = null;
      do {
        const { texts, next } = await store.textsWithoutVector(of, from, 10_000);
        all.push(...texts);
        from = next;
      } while (from !== null);
      return all;
    }

    const recall = async (vector: QuestionVector | null, user_id = "ada", shown: string | null = null) =>
      (
        await store.recall({
          workspace_id,
          user_id,
          q: "zzz",
          vector,
          conversation_id: shown ?? "",
          shown_from_seq: 1,
          limit: 10,
          now: 1_700_000_000,
        })
      ).map(({ message: { content, created_at }, ...hit }) => ({ content, created_at, ...hit }));

    const searchPassages = async (
      vector: QuestionVector | null,
      changes: Partial<Parameters<Store["searchPassages"]>[0]> = {},
    ) =>
      await store.searchPassages({
        workspace_id,
        user_id: null,
        q: "zzz",
        vector,
        collections: null,
        filter: null,
        limit: 10,
        ...changes,
      });

    const memory = (text: string, supersedes: string[] = []) => ({
      id: newId("memory"),
      text,
      kind: "fact" as const,
      slot: null,
      tokens: 3,
      source_message_id: null,
      supersedes,
    });

    describe("texts that get a vector", () => {
      test("are the messages of ended turns, with the end of the message before as context", async () => {
        await turn("ada", "Which ferry?", true, "The one at nine.");
        const texts = await store.newTexts(10);
        expect(texts.map(({ kind, text }) => [kind, text])).toEqual([
          ["message", "Which ferry?"],
          ["message", "Which ferry?\nThe one at nine."],
        ]);
        await embedNew();
        expect(await store.newTexts(10)).toEqual([]);
      });

      test("are those of a turn that ends in the very batch of writes that asks for them", async () => {
        const { turn } = await begin("ada", "At once");
        // The first goes alone, and the others gather meanwhile.
        const writes = [store.check(), end(turn.id, "At once", ""), store.newTexts(10)];
        await Promise.all(writes);
        expect((await embedNew()).map(({ text }) => text)).toEqual(["At once"]);
      });

      test("are not those of turns without memory, nor replies that recall doesn't find", async () => {
        await turn("ada", "SECRET", false);
        await turn("ada", "Who?", true, "");
        expect((await embedNew()).map(({ text }) => text)).toEqual(["Who?"]);
        expect(await walk()).toEqual([]);
      });

      test("are memories, again when they are reworded, and not when they hold no more", async () => {
        const first = memory("Lives in Lyon");
        await store.saveMemories(ada, [first], null, 10, 1);
        await embedNew();
        expect(await opened.rowsOf("memory_vectors")).toBe(1);
        await store.updateMemory(ada, first.id, { text: "Lives in Nice" }, 2);
        expect(await opened.rowsOf("memory_vectors")).toBe(0);
        expect((await embedNew()).map(({ text }) => text)).toEqual(["Lives in Nice"]);
        const second = memory("Lives in Metz", [first.id]);
        await store.saveMemories(ada, [second], null, 10, 3);
        expect((await embedNew()).map(({ text }) => text)).toEqual(["Lives in Metz"]);
        expect(await walk()).toEqual([]);
      });

      test("are passages with their headings, before their document is ready too, and not once it is replaced", async () => {
        const name = "replaced.txt";
        await addDocument({ name, passages: ["One."] });
        expect((await store.newTexts(10)).map(({ text }) => text)).toEqual(["Heading\nOne."]);
        await addDocument({ name, passages: ["Two."] });
        await addDocument({ name: "unfinished.txt", passages: ["Three."] }, false);
        expect((await embedNew()).map(({ text }) => text)).toEqual(["Heading\nTwo.", "Heading\nThree."]);
      });

      test("that are long are given by their beginning, and never half a character", async () => {
        await turn("ada", `a${"🦊".repeat(3000)}`);
        const [long] = await embedNew();
        expect(long!.text.length).toBeLessThanOrEqual(2_000);
        expect(long!.text.isWellFormed()).toBe(true);
      });
    });

    describe("a vector", () => {
      test("is not kept for a text that has changed since, or has gone", async () => {
        const changed = memory("Likes tea");
        const gone = memory("Likes cocoa");
        await store.saveMemories(ada, [changed, gone], null, 10, 1);
        const texts = await store.newTexts(10);
        const before = await opened.rowsOf("memory_vectors");
        await store.updateMemory(ada, changed.id, { text: "Likes coffee" }, 2);
        await store.deleteMemory(ada, gone.id);
        await store.saveVectors(
          space,
          texts.map(({ kind, n, mark }) => ({ kind, n, mark, values: noise() })),
        );
        expect(await opened.rowsOf("memory_vectors")).toBe(before);
        // It waits for its own.
        expect((await embedNew()).map(({ text }) => text)).toEqual(["Likes coffee"]);
      });

      test("that the model refuses is no vector, and isn't asked for again", async () => {
        const conversation = await turn("refused", "Refuse this", true, "");
        await embedNew(() => null);
        expect(await walk()).toEqual([]);
        expect(await recall(questionLike(noise()), "refused")).toEqual([]);
        await store.deleteConversation(scope, conversation);
      });

      test("of another model, or another length, is none", async () => {
        const values = noise();
        await turn("other", "Of the first model", true, "");
        await embedNew(() => values);
        const found = (changes: Partial<VectorSpace>) => recall(questionLike(values, changes), "other");
        expect(await found({})).toHaveLength(1);
        expect(await found({ model: "another" })).toEqual([]);
        const another = { ...space, model: "another" };
        const [text] = (await walk(another)).filter(({ text }) => text === "Of the first model");
        await store.saveVectors(another, [{ kind: "message", n: text!.n, mark: text!.mark, values }]);
        expect(await found({})).toEqual([]);
        expect(await found({ model: "another" })).toHaveLength(1);
      });

      test("goes with its message, memory or passage", async () => {
        const before = await vectorRows();
        const conversation = await turn("leaver", "Goodbye");
        const left = memory("Is leaving");
        await store.saveMemories({ workspace_id, user_id: "leaver" }, [left], null, 10, 1);
        const document = await addDocument({ name: "leaving.txt", passages: ["Gone.", "Away."] });
        await embedNew();
        expect(await vectorRows()).toEqual([before[0]! + 2, before[1]! + 1, before[2]! + 2]);
        await store.deleteConversation(scope, conversation);
        await store.deleteMemory({ workspace_id, user_id: "leaver" }, left.id);
        await store.deleteDocument(scope, document);
        while (await store.clearWaste());
        expect(await vectorRows()).toEqual([
          before[0]!,
          before[1]!,
          // What was replaced above is cleared too, and had none.
          before[2]!,
        ]);
      });
    });

    test("of a user who is erased goes, and nothing of them is given away any more", async () => {
      const before = await vectorRows();
      const gone = { workspace_id, user_id: "gone" };
      await turn("gone", "I am here");
      await store.saveMemories(gone, [memory("Is here")], null, 10, 1);
      await addDocument({ name: "gone.txt", passages: ["Mine."], owner: "gone" });
      await embedNew();
      await turn("gone", "I was here");
      await store.saveMemories(gone, [memory("Was here")], null, 10, 1);
      await addDocument({ name: "gone-too.txt", passages: ["Mine too."], owner: "gone" });
      await store.cutOffUser(gone);
      expect(await store.newTexts(10)).toEqual([]);
      expect(
        await walk({ ...space, model: "any" }).then((texts) => texts.map(({ text }) => text)),
      ).not.toContain("I was here");
      await store.eraseUser(gone);
      while (await store.clearWaste());
      expect(await vectorRows()).toEqual(before);
    });

    describe("a question finds", () => {
      const target = noise();

      test("a user's own messages, those of the shown conversation not among them", async () => {
        const shown = await turn("mia", "The target", true, "");
        await turn("mia", "Something else", true, "");
        await turn("eve", "The target of another", true, "");
        await embedNew(({ text }) => (text.startsWith("The target") ? plus(target, noise(0.1)) : noise()));
        const found = await recall(questionLike(target), "mia");
        expect(found.map(({ content }) => content)).toEqual(["The target"]);
        expect(found[0]!.score).toBeWithin(0.001, 1.001);
        expect(found[0]!.coverage).toBeGreaterThan(0.45);
        expect(await recall(questionLike(target), "mia", shown)).toEqual([]);
        expect(await recall(null, "mia")).toEqual([]);
        expect(await recall(questionLike(target), "nobody")).toEqual([]);
      });

      test("the newer of messages that are equally near first", async () => {
        const [old, recent] = [1_600_000_000, 1_699_990_000];
        for (const at of [old, recent]) await turn("zoe", "Said twice", true, "", at);
        await embedNew(() => target);
        const found = await recall(questionLike(target), "zoe");
        expect(found.map(({ created_at }) => created_at)).toEqual([recent, old]);
      });

      test("a user's memories that hold", async () => {
        const mine = { workspace_id, user_id: "mem" };
        const old = memory("The target, as it was");
        const toTarget = ({ text }: TextToEmbed) =>
          text.startsWith("The target") ? plus(target, noise(0.1)) : noise();
        await store.saveMemories(mine, [old, memory("Something else")], null, 10, 1);
        await embedNew(toTarget);
        await store.saveMemories(mine, [memory("The target", [old.id])], null, 10, 2);
        await store.saveMemories({ workspace_id, user_id: "not-me" }, [memory("The target")], null, 10, 2);
        await embedNew(toTarget);
        const near = await store.nearMemories(mine, questionLike(target));
        const held = await store.heldMemories(mine);
        expect(near.map(({ id }) => held.find((memory) => memory.id === id)?.text)).toEqual(["The target"]);
        expect(near[0]!.z).toBeGreaterThan(4);
      });

      test("passages within workspace, owner, collections and metadata, of newest revisions alone", async () => {
        await addDocument({ name: "old.txt", passages: ["The target, before"] });
        await addDocument({ name: "old.txt", passages: ["Something else"] });
        await addDocument({ name: "one.txt", passages: ["Else", "The target"], collection: "one" });
        await addDocument({
          name: "two.txt",
          passages: ["The target"],
          metadata: { kind: "rule", year: "2025" },
        });
        await addDocument({ name: "mine.txt", passages: ["The target"], owner: "mia" });
        await addDocument({ name: "unfinished.txt", passages: ["The target"] }, false);
        await embedNew(({ text }) => (text.includes("The target") ? plus(target, noise(0.1)) : noise()));
        const namesOf = async (changes: Parameters<typeof searchPassages>[1] = {}): Promise<string[]> =>
          (await searchPassages(questionLike(target), changes)).map(({ name }) => name).toSorted();
        expect(await namesOf()).toEqual(["one.txt", "two.txt"]);
        expect(await namesOf({ user_id: "mia" })).toEqual(["mine.txt", "one.txt", "two.txt"]);
        expect(await namesOf({ user_id: "eve" })).toEqual(["one.txt", "two.txt"]);
        expect(await namesOf({ collections: ["one"] })).toEqual(["one.txt"]);
        expect(await namesOf({ collections: [] })).toEqual([]);
        expect(await namesOf({ filter: { kind: "rule" } })).toEqual(["two.txt"]);
        expect(await namesOf({ filter: { kind: "rule", year: "2025" } })).toEqual(["two.txt"]);
        expect(await namesOf({ filter: { kind: "rule", year: "2024" } })).toEqual([]);
        expect(await namesOf({ workspace_id: "another" })).toEqual([]);
        const [found] = await searchPassages(questionLike(target), { collections: ["one"] });
        expect(found).toMatchObject({ quote: "The target", start: 4, end: 14, heading: "Heading" });
      });

      test("the nearest of many, with a model whose vectors all lean to one side", async () => {
        const lean = Float32Array.from({ length: dimensions }, () => 4);
        const leaning: VectorSpace = { ...space, model: "leaning", center: lean };
        const needle = plus(lean, noise());
        const count = 2_000;
        const passages = Array.from({ length: count }, (_, index) => `Passage ${index}.`);
        await addDocument({ name: "haystack.txt", passages, collection: "hay" });
        await embedNew(({ text }) => (text.endsWith(" 777.") ? needle : plus(lean, noise())), leaning);
        const vector = questionLike(needle, { ...leaning, values: plus(needle, noise(0.3)) });
        // As a cohort of such a model would tell.
        vector.unrelated = { mean: 0.98, deviation: 0.002 };
        const [found] = await searchPassages(vector, { collections: ["hay"] });
        expect(found?.quote).toBe("Passage 777.");
      });
    });

    test("what had no vector when the store was closed is told of again, or found by the next walk, and nothing else", async () => {
      await embedNew();
      const turns = 120;
      await Promise.all(
        Array.from({ length: turns }, (_, index) => turn("later", `Left behind ${index}`, true, "")),
      );
      await store.saveMemories({ workspace_id, user_id: "later" }, [memory("Left behind too")], null, 10, 1);
      await addDocument({ name: "left.txt", passages: ["Left behind as well."] });
      store = await opened.reopen();
      const found = [...(await store.newTexts(1_000)), ...(await walk())];
      const left = [...new Map(found.map((text) => [`${text.kind} ${text.n}`, text])).values()].filter(
        ({ text }) => text.includes("Left behind"),
      );
      const count = (wanted: string): number => left.filter(({ kind }) => kind === wanted).length;
      expect([count("memory"), count("message"), count("passage")]).toEqual([1, turns, 1]);
      await store.saveVectors(
        space,
        left.map(({ kind, n, mark }) => ({ kind, n, mark, values: noise() })),
      );
      const more = [...(await store.newTexts(1_000)), ...(await walk())];
      expect(more.filter(({ text }) => text.includes("Left behind"))).toEqual([]);
    });
  });
}
