/**
 * Erasing from SQLite's files. Rows of many users lie side by side in pages that were balanced again and again, where
 * SQLite leaves copies of what it moved; and the full-text indexes hold words in more places than one.
 */
import { Database } from "bun:sqlite";
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { newId } from "../../src/ids.ts";
import { createScrubber, type ScrubStep } from "../../src/storage/sqlite/scrub.ts";
import { openSqliteStore } from "../../src/storage/sqlite/store.ts";
import type { Store } from "../../src/storage/store.ts";
import { instance, newConversation, scope, storeDocument, turnEnd, turnStart } from "../contracts/records.ts";
import { temporaryDirectory, testMsMax } from "../support/service.ts";
import { tracesIn } from "../support/traces.ts";
import { seededRandom } from "../support/turns.ts";

setDefaultTimeout(2 * testMsMax);

const directories: string[] = [];
afterAll(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

async function open(): Promise<{ store: Store; directory: string }> {
  const directory = temporaryDirectory();
  directories.push(directory);
  return { store: await openSqliteStore(directory), directory };
}

const user = (user_id: string) => ({ workspace_id: "default", user_id });
const nowMs = 1_700_000_000_000;

/** Users who talk at the same time; all words of theirs begin with a marker of their own. */
class Crowd {
  readonly conversations = new Map<string, string[]>();

  constructor(
    readonly store: Store,
    readonly random: () => number,
  ) {}

  /** The end is no digit, so that no marker is the beginning of another. */
  static marker = (name: string): string => `qz${name}z`;

  text(name: string, wordsMax: number): string {
    const words = Math.ceil(this.random() * wordsMax);
    return Array.from({ length: words }, () =>
      this.random() < 0.3
        ? `${Crowd.marker(name)}${Math.floor(this.random() * 1e6)}`
        : ["the", "garden", "and", "river", "mountain", "cello"][Math.floor(this.random() * 6)],
    ).join(" ");
  }

  /** A turn whose reply grows, and at times what else there is to store. */
  async talk(name: string): Promise<void> {
    const { store, random } = this;
    const user_id = Crowd.marker(name);
    const known = this.conversations.get(name) ?? [];
    const conversation_id =
      known.length > 0 && random() < 0.7 ? known[Math.floor(random() * known.length)]! : null;
    const key = { principal_id: "p", operation: "turn" as const, body_hash: "h" };
    const start = turnStart({
      user_id,
      conversation_id,
      message: this.text(name, 60),
      title: this.text(name, 3),
      metadata: { key: this.text(name, 5) },
      idempotency: { ...key, key: `${Crowd.marker(name)}-${newId("turn")}` },
      now_ms: nowMs,
    });
    const { turn } = await store.startTurn(scope, start);
    if (conversation_id === null) this.conversations.set(name, [...known, turn.conversation_id]);
    let response = "";
    for (let grown = 0; grown < random() * 5; grown++) {
      response += this.text(name, 120);
      await store.checkpointReplies([{ turn_id: turn.id, text: response, model: "m" }]);
    }
    await store.endTurn(turn.id, instance, turnEnd({ message: start.message, response }), nowMs);
    const owner = user(user_id);
    if (random() < 0.3) {
      const memory = {
        kind: "fact" as const,
        slot: null,
        tokens: 3,
        source_message_id: null,
        supersedes: [],
      };
      await store.saveMemories(
        owner,
        [{ ...memory, id: newId("memory"), text: this.text(name, 9) }],
        null,
        50,
        nowMs,
      );
    }
    if (random() < 0.2) {
      const profile = { display_name: this.text(name, 2), instructions: this.text(name, 40) };
      await store.updateProfile(owner, profile, nowMs);
    }
    if (random() < 0.2) {
      await store.updateConversation(scope, turn.conversation_id, { title: this.text(name, 5) }, nowMs);
    }
    if (random() < 0.2) {
      const summary = { text: this.text(name, 40), tokens: 3, through_seq: 2 };
      await store.replaceSummary(owner, turn.conversation_id, 0, summary);
    }
    if (random() < 0.2) {
      const document = { text: this.text(name, 1_500), metadata: { key: this.text(name, 2) } };
      await storeDocument(store, user_id, { name: `${Crowd.marker(name)}${random() < 0.5}`, ...document });
    }
    if (random() < 0.1) {
      const [first, ...others] = this.conversations.get(name)!;
      this.conversations.set(name, others);
      await store.deleteConversation(scope, first!);
    }
  }

  /** All that a user can get to see of theirs. */
  async viewOf(name: string) {
    const owner = user(Crowd.marker(name));
    const { conversations } = await this.store.keptConversations(owner, 1_000, null);
    return {
      profile: await this.store.profile(owner),
      memories: await this.store.memories(owner, { limit: 1_000, after: null, superseded: true }),
      documents: await this.store.documents(owner, {
        collection: null,
        user_id: owner.user_id,
        limit: 1_000,
        after: null,
      }),
      conversations,
      messages: await Promise.all(
        conversations.map(({ id }) => this.store.messagesAfter(owner, id, 0, 1_000)),
      ),
    };
  }
}

describe("scrubbing", () => {
  const marker = "qzscrubbed";

  /** A database from which rows with the marker were deleted, of which SQLite has left something. */
  function churned(directory: string, random: () => number): Database {
    const db = new Database(join(directory, "parley.db"));
    const pragmas = [
      "journal_mode = wal",
      "wal_autocheckpoint = 0",
      "secure_delete = on",
      "cache_size = -100000",
    ];
    for (const pragma of pragmas) db.run(`pragma ${pragma}`);
    db.run("create table t (n integer primary key, text text)");
    // Long keys make for many pages that are no leaves.
    db.run("create table k (key text primary key) without rowid");
    const text = (length: number): string =>
      `${(random() * 1e9).toString(36)} ${random() < 0.05 ? marker : "other"} `.repeat(length / 15);
    const insert = db.query("insert into t (text) values (?)");
    const update = db.query("update t set text = ? where n = ?");
    const insertKey = db.query("insert into k values (?)");
    db.transaction(() => {
      for (let n = 1; n <= 6_000; n++) {
        insert.run(text(random() * 300));
        update.run(text(random() * 900), Math.ceil(random() * n));
        insertKey.run(text(200 + random() * 700));
        if (n % 10 === 0) db.run("delete from k where key in (select key from k order by random() limit 5)");
      }
      db.run("delete from t where text like ?", [`%${marker}%`]);
      db.run("delete from k where key like ?", [`%${marker}%`]);
    })();
    return db;
  }

  /** Of which kinds there are pages with anything between their list of cells and the cells: 2 and 5 have pages below. */
  function dirtyKinds(path: string): number[] {
    const bytes = readFileSync(path);
    const kinds = new Set<number>();
    for (let start = 0; start < bytes.length; start += 4096) {
      const at = start === 0 ? 100 : start;
      const cells = at + (bytes[at]! < 10 ? 12 : 8);
      const gap = bytes.subarray(cells + 2 * bytes.readUInt16BE(at + 3), start + bytes.readUInt16BE(at + 5));
      if ([2, 5, 10, 13].includes(bytes[at]!) && gap.some((byte) => byte !== 0)) kinds.add(bytes[at]!);
    }
    return [...kinds].toSorted((a, b) => a - b);
  }

  const contentOf = (db: Database) => [
    db.query("select * from t").values(),
    db.query("select * from k order by key").values(),
  ];

  test("overwrites what secure_delete has left in leaves and above them, and nothing else", () => {
    const directory = temporaryDirectory();
    directories.push(directory);
    using db = churned(directory, seededRandom());
    db.run("pragma wal_checkpoint(truncate)");
    const before = contentOf(db);
    const path = join(directory, "parley.db");
    expect(tracesIn(directory, [marker])).toEqual([`parley.db: ${marker}`]);
    expect(dirtyKinds(path)).toEqual([2, 5, 10, 13]);
    // All pages are in the connection's cache, as they were.
    expect(db.query("pragma integrity_check").get()).toEqual({ integrity_check: "ok" });
    const scrub = createScrubber(db, path);
    let steps = 0;
    for (let next: ScrubStep = 0; next !== null; steps++) {
      next = scrub(next as number);
      expect(next).not.toBe("busy");
    }
    expect(steps).toBeGreaterThan(1);
    expect(tracesIn(directory, [marker])).toEqual([]);
    expect(dirtyKinds(path)).toEqual([]);
    expect(contentOf(db)).toEqual(before);
    expect(db.query("pragma integrity_check").get()).toEqual({ integrity_check: "ok" });
    expect(db.query("pragma busy_timeout").get()).toEqual({ timeout: 5000 });
    // Nor does it come back with what is written into these pages next.
    db.run("update t set text = substr(text, 2)");
    db.run("delete from k where abs(random()) % 2 = 0");
    db.run("pragma wal_checkpoint(truncate)");
    expect(tracesIn(directory, [marker])).toEqual([]);
  });

  test("does nothing while somebody reads from the log, or writes", () => {
    const directory = temporaryDirectory();
    directories.push(directory);
    using db = churned(directory, seededRandom());
    const scrub = createScrubber(db, join(directory, "parley.db"));
    using reader = new Database(join(directory, "parley.db"), { readonly: true });
    reader.run("begin");
    reader.query("select count(*) from t").get();
    expect(scrub(0)).toBe("busy");
    reader.run("commit");
    expect(scrub(0)).not.toBe("busy");
    using writer = new Database(join(directory, "parley.db"));
    writer.run("begin immediate");
    expect(scrub(0)).toBe("busy");
  });
});

describe("a user among many", () => {
  test("is erased from every page, index and log, and the others stay as they were", async () => {
    const { store, directory } = await open();
    const crowd = new Crowd(store, seededRandom());
    const names = Array.from({ length: 16 }, (_, index) => `user${index}`);
    for (let round = 0; round < 10; round++) await Promise.all(names.map((name) => crowd.talk(name)));
    const staying = new Set(names);
    let erased = 0;
    for (const name of ["user3", "user7", "user12", "user5", "user0", "user9"]) {
      staying.delete(name);
      const others = [...staying];
      const views = await Promise.all(others.map((other) => crowd.viewOf(other)));
      await store.cutOffUser(user(Crowd.marker(name)));
      erased += (await store.eraseUser(user(Crowd.marker(name)))).messages;
      expect(tracesIn(directory, [Crowd.marker(name)])).toEqual([]);
      expect(await Promise.all(others.map((other) => crowd.viewOf(other)))).toEqual(views);
      // The last two are erased one right after the other, when nothing but one segment is left of each index.
      if (name !== "user0") await Promise.all(others.map((other) => crowd.talk(other)));
    }
    expect(erased).toBeGreaterThan(10);
    // What the others write comes into pages that were overwritten, and brings nothing back.
    for (let round = 0; round < 2; round++) await Promise.all([...staying].map((name) => crowd.talk(name)));
    const markers = names.map(Crowd.marker);
    const gone = names.filter((name) => !staying.has(name)).map(Crowd.marker);
    expect(tracesIn(directory, gone)).toEqual([]);
    expect(new Set(tracesIn(directory, markers).map((trace) => trace.split(": ")[1]!)).size).toBe(10);
    await store.close();
    using db = new Database(join(directory, "parley.db"));
    db.run("pragma busy_timeout = 20000");
    expect(db.query("pragma integrity_check").get()).toEqual({ integrity_check: "ok" });
    expect(db.query("pragma foreign_key_check").all()).toEqual([]);
    for (const index of ["message_index", "title_words", "passage_index"]) {
      db.run(`insert into ${index} (${index}) values ('integrity-check')`);
    }
    const strays = "select count(*) as count from message_index where rowid not in (select n from messages)";
    expect(db.query(strays).get()).toEqual({ count: 0 });
    expect(tracesIn(directory, gone)).toEqual([]);
  });

  test("who has much doesn't hold up other writes: they go in between", async () => {
    const { store } = await open();
    const conversations = 40;
    for (let index = 0; index < conversations; index++) {
      const { turn } = await store.startTurn(scope, turnStart({ message: `word${index} `.repeat(50) }));
      await store.endTurn(turn.id, instance, turnEnd(), nowMs);
    }
    await store.cutOffUser(user("ada"));
    let over = false;
    const erasing = store.eraseUser(user("ada")).finally(() => {
      over = true;
    });
    let writes = 0;
    for (; !over; writes++) await store.createConversation(scope, newConversation({ user_id: "ben" }));
    expect((await erasing).conversations).toBe(conversations);
    // Each conversation takes a bit for its messages and one for itself.
    expect(writes).toBeGreaterThan(conversations);
    await store.close();
  });

  test("a long conversation is deleted in bits as well", async () => {
    const { store } = await open();
    let conversation_id: string | null = null;
    for (let round = 0; round < 50; round++) {
      const start = turnStart({ conversation_id, message: `word${round} `.repeat(150) });
      const { turn } = await store.startTurn(scope, start);
      await store.endTurn(turn.id, instance, turnEnd(), nowMs);
      conversation_id = turn.conversation_id;
    }
    let over = false;
    const deleting = store.deleteConversation(scope, conversation_id!).finally(() => {
      over = true;
    });
    let writes = 0;
    for (; !over; writes++) await store.createConversation(scope, newConversation());
    expect(await deleting).toBe(true);
    expect(writes).toBeGreaterThan(5);
    await store.close();
  });
});
