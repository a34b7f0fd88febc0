/** What every adapter must do of the port that keeps documents, but for their search (src/storage/document-store.ts). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type {
  BegunRevision,
  DocumentQuery,
  DocumentScope,
  NewPassage,
  NewRevision,
  RevisionAttempt,
} from "../../src/storage/document-store.ts";
import type { Store } from "../../src/storage/store.ts";
import { type StoreUnderTest, scope, storeDocument } from "./records.ts";

const nowMs = 1_700_000_000_000;
const now = nowMs / 1000;

const ofUser = (user_id: string): DocumentScope => ({ workspace_id: "default", user_id });
const elsewhere: DocumentScope = { workspace_id: "other", user_id: null };

const newRevision = (changes: Partial<NewRevision> = {}): NewRevision => ({
  document_id: newId("document"),
  revision_id: newId("revision"),
  collection: "default",
  name: `${newId("document")}.txt`,
  owner: null,
  media_type: "text/plain",
  metadata: {},
  content_hash: "hash",
  bytes: 3,
  now_ms: nowMs,
  ...changes,
});

const passage = (seq: number, start: number, text: string): NewPassage => ({
  seq,
  start,
  end: start + text.length,
  heading: "",
  text,
  tokens: 1,
});

/** Runs the contract against an adapter. */
export function describeDocumentStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} keeps the contract of the document store`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    const begin = (changes: Partial<NewRevision> = {}, upload: string | Uint8Array = "abc") =>
      store.beginRevision(
        "default",
        newRevision(changes),
        typeof upload === "string" ? Buffer.from(upload) : upload,
      );

    /** A revision of a text, ready. */
    async function stored(text: string, changes: Partial<NewRevision> = {}): Promise<BegunRevision> {
      const revision = newRevision({ content_hash: text, ...changes });
      const begun = await begin(revision);
      const attempt = (await store.beginAttempt(revision.revision_id))!;
      await store.addToRevision(attempt, [{ start: 0, text }], [passage(1, 0, text)], 0.5);
      await store.finishRevision(attempt, "text/plain", text.length, revision.now_ms + 1_000);
      return begun;
    }

    const textOf = async (id: string): Promise<string | null> =>
      (await store.documentText(scope, id, 0))?.text ?? null;
    const isWaiting = async (revision_id: string): Promise<boolean> =>
      (await store.revisionsToProcess()).some((revision) => revision.revision_id === revision_id);
    const list = async (query: Partial<DocumentQuery>, whose = scope) => {
      const asked = { collection: null, user_id: null, limit: 100, after: null, ...query };
      return (await store.documents(whose, asked)).documents.map(({ name }) => name);
    };

    describe("a revision that is begun", () => {
      test("tells its document, which is there from then on and being processed", async () => {
        const revision = newRevision({ metadata: { team: "support", "a b": "“c”" }, owner: "ada" });
        const { document, ...begun } = await begin(revision);
        expect(begun).toEqual({ unchanged: false, created: true });
        expect(document).toEqual({
          id: revision.document_id,
          collection: "default",
          name: revision.name,
          user_id: "ada",
          status: "processing",
          progress: 0,
          error: null,
          version: 1,
          media_type: "text/plain",
          metadata: { team: "support", "a b": "“c”" },
          bytes: 3,
          length: 0,
          passage_count: 0,
          created_at: now,
          updated_at: now,
        });
        expect(await store.document(scope, document.id)).toEqual(document);
        expect(await textOf(document.id)).toBeNull();
      });

      test("keeps its upload, byte by byte, until it has ended", async () => {
        const large = crypto.getRandomValues(new Uint8Array(65_536));
        const upload = Buffer.concat(Array.from({ length: 40 }, () => large)).subarray(7);
        for (const bytes of [upload, new Uint8Array(0)]) {
          const revision = newRevision({ bytes: bytes.byteLength });
          await begin(revision, bytes);
          expect(Buffer.compare((await store.upload(revision.revision_id))!, bytes)).toBe(0);
          const attempt = (await store.beginAttempt(revision.revision_id))!;
          await store.finishRevision(attempt, "text/plain", 0, nowMs);
          expect(await store.upload(revision.revision_id)).toBeNull();
        }
        expect(await store.upload(newId("revision"))).toBeNull();
      });

      test("waits with the others, oldest first, also over a restart", async () => {
        const revisions = [newRevision(), newRevision({ media_type: "text/markdown" })];
        for (const revision of revisions) await begin(revision);
        store = await under.reopen();
        const ids = revisions.map(({ revision_id }) => revision_id);
        const waiting = await store.revisionsToProcess();
        expect(waiting.filter(({ revision_id }) => ids.includes(revision_id))).toEqual(
          revisions.map(({ revision_id, document_id, name, media_type }) => ({
            revision_id,
            document_id,
            name,
            media_type,
          })),
        );
      });

      test("with the same content and metadata is the one that is there, or on its way", async () => {
        const { name } = newRevision();
        const first = await begin({ name, content_hash: "one" });
        const again = await begin({ name, content_hash: "one" });
        expect(again).toEqual({ document: first.document, unchanged: true, created: false });
        const tagged = await begin({ name, content_hash: "one", metadata: { k: "v" } });
        expect(tagged).toMatchObject({ unchanged: false, created: false, document: { version: 2 } });
        expect(tagged.document.id).toBe(first.document.id);
      });

      test("puts aside the one that is still on its way", async () => {
        const early = newRevision({ content_hash: "early" });
        const late = newRevision({ content_hash: "late", name: early.name });
        await begin(early);
        const attempt = (await store.beginAttempt(early.revision_id))!;
        await begin(late);
        expect(await store.addToRevision(attempt, [{ start: 0, text: "early" }], [], 1)).toBe(false);
        expect(await store.finishRevision(attempt, "text/plain", 5, nowMs)).toBeNull();
        expect(await store.beginAttempt(early.revision_id)).toBeNull();
        while (await store.clearWaste());
        expect(await store.upload(early.revision_id)).toBeNull();
        expect([await isWaiting(early.revision_id), await isWaiting(late.revision_id)]).toEqual([
          false,
          true,
        ]);
      });

      test("is one of several under the name that come at once: each its version, of one document", async () => {
        const { name } = newRevision();
        const all = await Promise.all(
          Array.from({ length: 8 }, (_, index) => begin({ name, content_hash: String(index) })),
        );
        expect(new Set(all.map(({ document }) => document.id)).size).toBe(1);
        expect(all.filter(({ created }) => created).length).toBe(1);
        expect(all.map(({ document }) => document.version).toSorted()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
        const waiting = await store.revisionsToProcess();
        expect(waiting.filter((revision) => revision.name === name).length).toBe(1);
      });

      test("is another document for another collection or owner", async () => {
        const { name } = newRevision();
        const all = [
          await begin({ name }),
          await begin({ name, collection: "other" }),
          await begin({ name, owner: "ada" }),
          await begin({ name, owner: "ben" }),
        ];
        expect(all.map(({ created }) => created)).toEqual([true, true, true, true]);
      });
    });

    describe("a revision that is stored", () => {
      test("is seen by nobody until it is finished, and then whole", async () => {
        const revision = newRevision();
        const { document } = await begin(revision);
        const attempt = (await store.beginAttempt(revision.revision_id))!;
        const halves = ["The first 💡 half. ", "The second half."];
        let start = 0;
        for (const [index, text] of halves.entries()) {
          const added = [passage(index + 1, start, text)];
          expect(await store.addToRevision(attempt, [{ start, text }], added, (index + 1) / 4)).toBe(true);
          start += text.length;
        }
        expect(await textOf(document.id)).toBeNull();
        expect(await store.document(scope, document.id)).toMatchObject({
          status: "processing",
          progress: 0.5,
          passage_count: 0,
        });
        const finished = await store.finishRevision(attempt, "text/markdown", start, nowMs + 3_000);
        expect(finished).toEqual({
          ...document,
          status: "ready",
          progress: 1,
          media_type: "text/markdown",
          length: start,
          passage_count: 2,
          updated_at: now + 3,
        });
        expect(await store.document(scope, document.id)).toEqual(finished);
        expect(await store.documentText(scope, document.id, 0)).toEqual({ start: 0, text: halves[0]! });
        const second = { start: halves[0]!.length, text: halves[1]! };
        expect(await store.documentText(scope, document.id, 1)).toEqual(second);
        expect(await store.documentText(scope, document.id, second.start + 1)).toBeNull();
        expect(await isWaiting(revision.revision_id)).toBe(false);
      });

      test("takes the place of the one before in one step", async () => {
        const { name } = newRevision();
        const { document } = await stored("old", { name });
        const next = newRevision({ name, content_hash: "new" });
        expect((await begin(next)).document).toMatchObject({ version: 2, status: "processing" });
        const attempt = (await store.beginAttempt(next.revision_id))!;
        await store.addToRevision(attempt, [{ start: 0, text: "new" }], [], 1);
        expect(await textOf(document.id)).toBe("old");
        await store.finishRevision(attempt, "text/plain", 3, nowMs);
        expect(await textOf(document.id)).toBe("new");
      });

      test("may have the same added again, which changes nothing", async () => {
        const revision = newRevision();
        const { document } = await begin(revision);
        const attempt = (await store.beginAttempt(revision.revision_id))!;
        for (let time = 0; time < 2; time++) {
          await store.addToRevision(attempt, [{ start: 0, text: "once" }], [passage(1, 0, "once")], 0.5);
        }
        const finished = await store.finishRevision(attempt, "text/plain", 4, nowMs);
        expect(finished).toMatchObject({ passage_count: 1, length: 4 });
        expect(await store.document(scope, document.id)).toEqual(finished);
      });

      test("takes what is added at once in the order of the calls", async () => {
        const revision = newRevision();
        const { document } = await begin(revision);
        const attempt = (await store.beginAttempt(revision.revision_id))!;
        const calls = Array.from({ length: 20 }, (_, index) =>
          store.addToRevision(attempt, [], [passage(index + 1, index, "x")], index / 20),
        );
        expect(new Set(await Promise.all(calls))).toEqual(new Set([true]));
        expect(await store.document(scope, document.id)).toMatchObject({ progress: 19 / 20 });
      });

      test("is its last attempt's: whoever was at it before is shut out, and what they stored is gone", async () => {
        const revision = newRevision();
        const { document } = await begin(revision);
        const early = (await store.beginAttempt(revision.revision_id))!;
        const passages = Array.from({ length: 300 }, (_, index) => passage(index + 1, index, "early"));
        const parts = Array.from({ length: 100 }, (_, index) => ({ start: index, text: "early" }));
        expect(await store.addToRevision(early, parts, passages, 0.9)).toBe(true);
        const late = (await store.beginAttempt(revision.revision_id))!;
        const shutOut = async (attempt: RevisionAttempt): Promise<void> => {
          expect(await store.addToRevision(attempt, [{ start: 500, text: "early" }], [], 0.9)).toBe(false);
          expect(await store.finishRevision(attempt, "text/plain", 5, nowMs)).toBeNull();
          await store.failRevision(attempt, { code: "internal", message: "late" }, false, nowMs);
        };
        await shutOut(early);
        expect(await store.upload(revision.revision_id)).not.toBeNull();
        await store.addToRevision(late, [{ start: 0, text: "late" }], [passage(1, 0, "late")], 0.9);
        await shutOut(early);
        expect(await store.finishRevision(late, "text/plain", 4, nowMs)).toMatchObject({ passage_count: 1 });
        await shutOut(early);
        expect(await textOf(document.id)).toBe("late");
        expect(await store.documentText(scope, document.id, 1)).toBeNull();
        expect(await store.beginAttempt(revision.revision_id)).toBeNull();
      });
    });

    describe("a revision that fails", () => {
      const error = { code: "document_unreadable", message: "It holds no text." } as const;

      test("is kept to be read, and the one before stays present; the same content may be tried again", async () => {
        const { name } = newRevision();
        const { document } = await stored("fine", { name });
        const failing = newRevision({ name, content_hash: "broken" });
        await begin(failing);
        await store.failRevision((await store.beginAttempt(failing.revision_id))!, error, true, nowMs);
        expect(await store.document(scope, document.id)).toMatchObject({
          status: "failed",
          version: 2,
          error,
        });
        expect(await textOf(document.id)).toBe("fine");
        expect(await isWaiting(failing.revision_id)).toBe(false);
        expect(await store.upload(failing.revision_id)).toBeNull();
        expect(await begin({ name, content_hash: "broken" })).toMatchObject({ unchanged: false });
      });

      test("or is forgotten, with its document if that has no other", async () => {
        const { name } = newRevision();
        const { document } = await stored("fine", { name });
        for (const revision of [newRevision({ name, content_hash: "broken" }), newRevision()]) {
          await begin(revision);
          await store.failRevision((await store.beginAttempt(revision.revision_id))!, error, false, nowMs);
          expect(await store.upload(revision.revision_id)).toBeNull();
          const left = await store.document(scope, revision.document_id);
          expect(left).toBeNull();
        }
        expect(await store.document(scope, document.id)).toMatchObject({ status: "ready", version: 1 });
      });
    });

    describe("documents", () => {
      test("of a user are theirs alone, and the workspace's are everybody's", async () => {
        const shared = await storeDocument(store, null, { name: "shared.txt", text: "shared" });
        const own = await storeDocument(store, "scoped", { name: "own.txt", text: "own" });
        const seenBy = async (whose: DocumentScope) =>
          Promise.all(
            [shared, own].map(async (id) => [
              (await store.document(whose, id)) !== null,
              (await store.documentText(whose, id, 0)) !== null,
            ]),
          );
        const [all, none] = [
          [true, true],
          [false, false],
        ];
        expect(await seenBy(scope)).toEqual([all, all]);
        expect(await seenBy(ofUser("scoped"))).toEqual([all, all]);
        expect(await seenBy(ofUser("somebody"))).toEqual([all, none]);
        expect(await seenBy(elsewhere)).toEqual([none, none]);
        for (const whose of [ofUser("somebody"), ofUser("scoped"), elsewhere]) {
          expect(await store.deleteDocument(whose, shared)).toBe(false);
        }
        expect(await store.deleteDocument(ofUser("somebody"), own)).toBe(false);
        expect(await store.deleteDocument(ofUser("scoped"), own)).toBe(true);
        expect(await store.deleteDocument(scope, shared)).toBe(true);
      });

      test("are listed last changed first, in pages, by collection and by owner", async () => {
        const collection = "listed";
        const at = (seconds: number, more: Partial<NewRevision> = {}) =>
          stored(`text ${seconds}`, {
            collection,
            name: `${seconds}`,
            now_ms: nowMs + seconds * 1_000,
            ...more,
          });
        for (const seconds of [1, 2, 3]) await at(seconds);
        await at(4, { owner: "lister" });
        await at(5, { collection: "unlisted" });
        expect(await list({ collection })).toEqual(["4", "3", "2", "1"]);
        expect(await list({ collection }, ofUser("lister"))).toEqual(["4", "3", "2", "1"]);
        expect(await list({ collection }, ofUser("somebody"))).toEqual(["3", "2", "1"]);
        expect(await list({ collection, user_id: "lister" })).toEqual(["4"]);
        expect(await list({ user_id: "lister" })).toEqual(["4"]);
        expect(await list({ collection }, elsewhere)).toEqual([]);
        const asked = { collection, user_id: null, limit: 3, after: null };
        const first = await store.documents(scope, asked);
        expect(first.documents.map(({ name }) => name)).toEqual(["4", "3", "2"]);
        const rest = await store.documents(scope, { ...asked, after: first.next });
        expect([rest.documents.map(({ name }) => name), rest.next]).toEqual([["1"], null]);
        await at(1, { content_hash: "changed", now_ms: nowMs + 9_000 });
        expect((await list({ collection }))[0]).toBe("1");
      });

      test("that are deleted are gone at once, with what is on its way; nothing is left when all waste is cleared", async () => {
        const { name } = newRevision();
        const { document } = await stored("here", { name });
        const next = newRevision({ name, content_hash: "next" });
        await begin(next);
        const attempt = (await store.beginAttempt(next.revision_id))!;
        expect(await store.deleteDocument(scope, document.id)).toBe(true);
        expect(await store.deleteDocument(scope, document.id)).toBe(false);
        expect(await store.document(scope, document.id)).toBeNull();
        expect(await textOf(document.id)).toBeNull();
        expect(await isWaiting(next.revision_id)).toBe(false);
        expect(await store.addToRevision(attempt, [], [], 1)).toBe(false);
        expect(await store.finishRevision(attempt, "text/plain", 0, nowMs)).toBeNull();
        expect(await store.clearWaste()).toBe(true);
        while (await store.clearWaste());
        expect(await store.upload(next.revision_id)).toBeNull();
        const anew = await begin({ name });
        expect(anew).toMatchObject({ created: true, document: { version: 1 } });
      });
    });
  });
}
