/** What every adapter must do of the port that keeps keys (src/storage/key-store.ts). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type { KeyPage, NewKey } from "../../src/storage/key-store.ts";
import type { Store } from "../../src/storage/store.ts";
import { ada, type StoreUnderTest, scope, turnStart } from "./records.ts";

const nowMs = 1_700_000_000_000;
const now = nowMs / 1000;

let made = 0;
const newKey = (changes: Partial<NewKey> = {}): NewKey => ({
  id: newId("key"),
  secret_hash: String(++made).padStart(64, "0"),
  name: "web",
  workspace_id: "default",
  role: "service",
  user_id: null,
  expires_at: null,
  now_ms: nowMs,
  ...changes,
});

/** Runs the contract against an adapter. */
export function describeKeyStore(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name} keeps the contract of the key store`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeAll(async () => {
      under = await open();
      store = under.store;
    });
    afterAll(() => under.close());

    test("has no key at first, and has had one for ever after", async () => {
      expect(await store.hasKeys()).toBe(false);
      const { id } = await store.createKey(newKey());
      expect(await store.hasKeys()).toBe(true);
      await store.revokeKey(null, id, nowMs);
      expect(await store.hasKeys()).toBe(true);
    });

    test("finds a key by the hash of its text, and by nothing near it", async () => {
      const key = newKey({ name: "Ada's", role: "user", user_id: "ada", expires_at: now + 60 });
      const { secret_hash, now_ms, ...told } = key;
      const record = { ...told, created_at: now, last_used_at: null, revoked_at: null };
      expect(await store.createKey(key)).toEqual(record);
      expect(await store.keyOfHash(secret_hash)).toEqual(record);
      for (const other of [
        secret_hash.slice(1),
        `${secret_hash.slice(0, -1)}f`,
        `${secret_hash}0`,
        "",
        "%",
      ]) {
        expect(await store.keyOfHash(other)).toBeNull();
      }
    });

    test("makes a workspace that is named for the first time, and leaves one that is there", async () => {
      expect([await store.hasWorkspace("default"), await store.hasWorkspace("acme")]).toEqual([true, false]);
      for (let count = 0; count < 2; count++) await store.createKey(newKey({ workspace_id: "acme" }));
      expect(await store.hasWorkspace("acme")).toBe(true);
      const there = { workspace_id: "acme", user_id: null };
      const { turn } = await store.startTurn(there, turnStart());
      expect(await store.turn(there, turn.id)).not.toBeNull();
      expect(await store.turn(scope, turn.id)).toBeNull();
    });

    test("lists the keys of a workspace, or of all, newest first, page by page", async () => {
      const ids: string[] = [];
      for (const workspace_id of ["listed", "listed", "other", "listed"]) {
        ids.unshift((await store.createKey(newKey({ workspace_id }))).id);
      }
      const listed = ids.filter((_, index) => index !== 1);
      const first = await store.keys("listed", { limit: 2, after: null });
      expect(first.keys.map(({ id }) => id)).toEqual(listed.slice(0, 2));
      expect(first.next).toBe(listed[1]!);
      const last = await store.keys("listed", { limit: 2, after: first.next });
      expect([last.keys.map(({ id }) => id), last.next]).toEqual([listed.slice(2), null]);
      const all: KeyPage = await store.keys(null, { limit: 4, after: null });
      expect(all.keys.map(({ id }) => id)).toEqual(ids);
      expect(await store.keys("nowhere", { limit: 2, after: null })).toEqual({ keys: [], next: null });
    });

    test("revokes a key once, and in its workspace alone", async () => {
      const key = newKey({ workspace_id: "revoking" });
      await store.createKey(key);
      expect(await store.revokeKey("default", key.id, nowMs)).toBeNull();
      expect(await store.revokeKey(null, newId("key"), nowMs)).toBeNull();
      expect((await store.keyOfHash(key.secret_hash))!.revoked_at).toBeNull();
      expect(await store.revokeKey("revoking", key.id, nowMs + 5_000)).toMatchObject({ revoked_at: now + 5 });
      expect(await store.revokeKey(null, key.id, nowMs + 9_000)).toMatchObject({ revoked_at: now + 5 });
      expect(await store.keysRevokedSince(now + 5)).toEqual([key.id]);
      expect(await store.keysRevokedSince(now + 6)).toEqual([]);
    });

    test("notes the last use of keys, and no earlier one after it", async () => {
      const [one, other] = [newKey(), newKey()];
      for (const key of [one, other]) await store.createKey(key);
      const lastUse = async ({ secret_hash }: NewKey) => (await store.keyOfHash(secret_hash))!.last_used_at;
      await store.noteKeyUses([
        { id: one.id, at: now + 10 },
        { id: newId("key"), at: now },
      ]);
      await store.noteKeyUses([{ id: one.id, at: now + 4 }]);
      expect([await lastUse(one), await lastUse(other)]).toEqual([now + 10, null]);
    });

    test("revokes the keys of a user who is erased, and forgets whose they were", async () => {
      const user = { workspace_id: "default", user_id: "leaver" };
      const theirs = newKey({ name: "Leaver's", role: "user", user_id: "leaver" });
      const namesake = newKey({ workspace_id: "acme", role: "user", user_id: "leaver" });
      const another = newKey({ role: "user", user_id: ada.user_id });
      for (const key of [theirs, namesake, another]) await store.createKey(key);
      await store.cutOffUser(user);
      await store.eraseUser(user);
      expect(await store.keyOfHash(theirs.secret_hash)).toMatchObject({ name: "", user_id: "" });
      expect((await store.keyOfHash(theirs.secret_hash))!.revoked_at).not.toBeNull();
      for (const key of [namesake, another]) {
        expect(await store.keyOfHash(key.secret_hash)).toMatchObject({
          user_id: key.user_id,
          revoked_at: null,
        });
      }
    });

    test("keeps all that over a restart", async () => {
      const key = newKey();
      const record = await store.createKey(key);
      store = await under.reopen();
      expect(await store.keyOfHash(key.secret_hash)).toEqual(record);
      expect(await store.hasKeys()).toBe(true);
    });
  });
}
