/** The SQLite adapter: the port's contract, and what is its own: files, settings, migrations, the queue. */

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../../src/errors.ts";
import { newId } from "../../src/ids.ts";
import { cutWords } from "../../src/search/words.ts";
import { openForReading, openForWriting } from "../../src/storage/sqlite/database.ts";
import { DataDirInUseError } from "../../src/storage/sqlite/lock.ts";
import { migrations } from "../../src/storage/sqlite/migrations.ts";
import { createReads, type Reads } from "../../src/storage/sqlite/reads.ts";
import { openSqliteStore } from "../../src/storage/sqlite/store.ts";
import type { Scope, Store } from "../../src/storage/store.ts";
import { describeBudgetStore } from "../contracts/budget-store.ts";
import { describeDocumentStore } from "../contracts/document-store.ts";
import { describeKeyStore } from "../contracts/key-store.ts";
import { describeMemories } from "../contracts/memories.ts";
import { describeMemoryStore } from "../contracts/memory-store.ts";
import { noSpending, reopening, type StoreUnderTest } from "../contracts/records.ts";
import { describeRetention } from "../contracts/retention.ts";
import { describeStore } from "../contracts/store.ts";
import { describeTurnSlots } from "../contracts/turn-slots.ts";
import { describeUsageStore } from "../contracts/usage-store.ts";
import { directoriesOfFile } from "../support/directories.ts";
import { runParley, serviceEnv, startService, testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDirectory = directoriesOfFile();

const scope: Scope = { workspace_id: "default", user_id: null };
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

async function openUnderTest(): Promise<StoreUnderTest> {
  const directory = newDirectory();
  return await reopening(() => openSqliteStore(directory));
}

describeStore("SQLite", openUnderTest);
describeMemoryStore("SQLite", openUnderTest);
describeMemories("SQLite", openUnderTest);
describeDocumentStore("SQLite", openUnderTest);
describeKeyStore("SQLite", openUnderTest);
describeUsageStore("SQLite", openUnderTest);
describeBudgetStore("SQLite", openUnderTest);
describeTurnSlots("SQLite", openUnderTest);
describeRetention("SQLite", openUnderTest);

describe("the data directory", () => {
  test("and all files in it are the owner's alone, also where they were wider before", async () => {
    const directory = join(newDirectory(), "deep", "data");
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    chmodSync(directory, 0o755);
    await using service = await startService({ dataDir: directory });
    await service.post("/v1/chat", { user_id: "ada", message: "Hello" });
    expect(modeOf(directory)).toBe("700");
    const files = readdirSync(directory);
    expect(files).toEqual(expect.arrayContaining(["lock.db", "parley.db", "parley.db-wal", "parley.db-shm"]));
    for (const file of files) expect([file, modeOf(join(directory, file))]).toEqual([file, "600"]);
  });

  test("is one store's alone, until that one is closed", async () => {
    const directory = newDirectory();
    const store = await openSqliteStore(directory);
    const { exitCode } = await runParley(["serve"], serviceEnv(directory, {}));
    expect(exitCode).not.toBe(0);
    await store.close();
    await (await openSqliteStore(directory)).close();
  });

  test("that is in use is told by an error of its own", async () => {
    await using service = await startService();
    await expect(openSqliteStore(service.dataDir)).rejects.toBeInstanceOf(DataDirInUseError);
  });
});

describe("the connections", () => {
  const pragma = (db: Database, name: string): unknown =>
    Object.values(db.query<Record<string, unknown>, []>(`pragma ${name}`).get() ?? {})[0];

  test("that write: WAL, every commit synced, foreign keys, deleted content overwritten", () => {
    using db = openForWriting(newDirectory());
    expect(pragma(db, "journal_mode")).toBe("wal");
    expect(pragma(db, "synchronous")).toBe(2);
    expect(pragma(db, "foreign_keys")).toBe(1);
    expect(pragma(db, "secure_delete")).toBe(1);
    expect(pragma(db, "busy_timeout")).toBe(5000);
    for (const table of ["message_index", "passage_index", "title_words"]) {
      const option = db
        .query<{ v: number }, []>(`select v from ${table}_config where k = 'secure-delete'`)
        .get();
      expect(option?.v).toBe(1);
    }
  });

  test("that read wait as long, and can't write", () => {
    const directory = newDirectory();
    openForWriting(directory).close();
    using db = openForReading(directory);
    expect(pragma(db, "busy_timeout")).toBe(5000);
    expect(() => db.run("delete from settings")).toThrow(/readonly/);
  });
});

describe("migrations", () => {
  test("bring an empty database to the newest version, once", () => {
    const directory = newDirectory();
    const first = openForWriting(directory);
    expect(first.query("pragma user_version").get()).toEqual({ user_version: migrations.length });
    const secret = first.query("select value from settings where name = 'ticket_secret'").get();
    first.close();
    using again = openForWriting(directory);
    expect(again.query("select value from settings where name = 'ticket_secret'").get()).toEqual(secret);
    expect(again.query("pragma foreign_key_check").all()).toEqual([]);
    expect(again.query("pragma integrity_check").get()).toEqual({ integrity_check: "ok" });
  });

  test("a database of a newer Parley is refused with a clear message, and left as it is", async () => {
    const directory = newDirectory();
    const db = openForWriting(directory);
    db.run("pragma user_version = 999");
    db.close();
    const { exitCode, stderr } = await runParley(["serve"], serviceEnv(directory, {}));
    expect(exitCode).toBe(1);
    expect(stderr).toBe(
      `parley: ${join(directory, "parley.db")} is of version 999, this Parley knows ${migrations.length}: use a newer one\n`,
    );
    using after = openForReading(directory);
    expect(after.query("pragma user_version").get()).toEqual({ user_version: 999 });
  });

  test("what is no database is refused, and left as it is", async () => {
    const directory = newDirectory();
    const path = join(directory, "parley.db");
    const text = "this is somebody's diary, and no database at all ".repeat(100);
    await Bun.write(path, text);
    const { exitCode, stderr } = await runParley(["serve"], serviceEnv(directory, {}));
    expect(exitCode).toBe(1);
    expect(stderr).toBe(`parley: the database in ${directory} can't be opened: file is not a database\n`);
    expect(await Bun.file(path).text()).toBe(text);
  });
});

describe("deleted", () => {
  test("means overwritten: nothing of a deleted conversation is left in the files", async () => {
    const directory = newDirectory();
    const store = await openSqliteStore(directory);
    const secrets = ["topsecretquestion", "topsecretanswer", "topsecrettitle", "topsecretvalue"] as const;
    const turnId = newId("turn");
    const { turn } = await store.startTurn(scope, {
      turn_id: turnId,
      user_message_id: newId("message"),
      message_id: newId("message"),
      conversation_id: null,
      new_conversation_id: newId("conversation"),
      user_id: "ada",
      message: `the ${secrets[0]} `.repeat(300),
      message_tokens: 1,
      model: "m",
      title: secrets[2],
      metadata: { key: secrets[3] },
      instance_id: "inst",
      lease_seconds: 60,
      use_memory: true,
      idempotency: null,
      key_id: "key_test",
      reservation: null,
      slots: [],
      now_ms: Date.now(),
    });
    await store.endTurn(
      turn.id,
      "inst",
      {
        message: `the ${secrets[0]} `.repeat(300),
        status: "completed",
        response: `the ${secrets[1]} `.repeat(300),
        finish_reason: "stop",
        model: "m",
        sources: [],
        citations: [],
        memories_used: [],
        usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2, estimated: false },
        spent: noSpending,
        response_tokens: 1,
        error: null,
        receipt: null,
        to_remember: false,
        reply_recallable: true,
      },
      Date.now(),
    );
    expect(await store.deleteConversation(scope, turn.conversation_id)).toBe(true);
    await store.close();
    // The last connection that closes moves the WAL into the database.
    using db = new Database(join(directory, "parley.db"));
    await until("the WAL is moved", () => {
      return db.query<{ busy: number }, []>("pragma wal_checkpoint(truncate)").get()?.busy === 0;
    });
    for (const file of readdirSync(directory)) {
      const bytes = Buffer.from(await Bun.file(join(directory, file)).arrayBuffer());
      for (const secret of secrets)
        expect([file, secret, bytes.includes(secret)]).toEqual([file, secret, false]);
    }
  });
});

describe("the queue of writes", () => {
  test("is bounded: what is beyond is refused as overloaded, and the rest is done", async () => {
    const store = await openSqliteStore(newDirectory(), { writesWaitingMax: 3_000 });
    const writes = await Promise.allSettled(Array.from({ length: 4_000 }, () => store.check()));
    const refused = writes.filter((write) => write.status === "rejected");
    expect(refused.length).toBeWithin(900, 1001);
    for (const { reason } of refused) {
      expect(reason).toBeInstanceOf(AppError);
      expect((reason as AppError).code).toBe("overloaded");
    }
    await store.check();
    await store.close();
  });

  test("a refusal in a batch leaves the others of the batch alone", async () => {
    const store = await openSqliteStore(newDirectory());
    const make = (id: string) =>
      store.createConversation(scope, {
        id,
        user_id: "ada",
        title: null,
        metadata: {},
        idempotency: null,
        now_ms: Date.now(),
      });
    const twice = newId("conversation");
    const ids = Array.from({ length: 200 }, (_, index) => (index % 10 === 5 ? twice : newId("conversation")));
    const made = await Promise.allSettled(ids.map(make));
    // The id that comes up again breaks a constraint: an unexpected fault, after which each call stands alone.
    expect(made.filter(({ status }) => status === "rejected").length).toBe(19);
    for (const id of ids) expect((await store.conversation(scope, id))?.id).toBe(id);
    await store.close();
  });
});

describe("closing", () => {
  test("waits for a write that is gathered with others, right after a commit", async () => {
    const store = await openSqliteStore(newDirectory());
    const create = () =>
      store.createConversation(scope, {
        id: newId("conversation"),
        user_id: "ada",
        title: null,
        metadata: {},
        idempotency: null,
        now_ms: 1_700_000_000_000,
      });
    await create();
    const second = create();
    await store.close();
    expect((await second).replayed).toBe(false);
  });
});

describe("a search with very many matches", () => {
  const user_id = "crowd";
  let store: Store;
  let reads: Reads;
  let ids: string[];
  beforeAll(async () => {
    const directory = newDirectory();
    store = await openSqliteStore(directory);
    reads = createReads(openForReading(directory), 1_000);
    const titles = Array.from(
      { length: 1_200 },
      (_, index) => `shared topics ${index % 2 === 0 ? "even" : "odd"}`,
    );
    titles.push("sharedness topic", "unrelated");
    const made = await Promise.all(
      titles.map((title, index) =>
        store.createConversation(scope, {
          id: newId("conversation"),
          user_id,
          title,
          metadata: {},
          idempotency: null,
          now_ms: 1_700_000_000_000 + index,
        }),
      ),
    );
    ids = made.map(({ conversation }) => conversation.id).reverse();
  });
  afterAll(() => store.close());

  const firstPage = (q: string): string[] =>
    reads.search(scope, { user_id, limit: 5, after: null, q }).conversations.map(({ id }) => id);

  test("walks the conversations in their order: whole words, the last one as a prefix", () => {
    // The newest two are "unrelated" and "sharedness topic".
    expect(firstPage("shared topic")).toEqual(ids.slice(2, 7));
    expect(firstPage("topic")).toEqual(ids.slice(1, 6));
    expect(firstPage("shared")).toEqual(ids.slice(1, 6));
  });

  test("pages on by cursor", () => {
    const first = reads.search(scope, { user_id, limit: 100, after: null, q: "shared topic" });
    const second = reads.search(scope, {
      user_id,
      limit: 100,
      after: first.next,
      q: "shared topic",
    });
    expect([...first.conversations, ...second.conversations].map(({ id }) => id)).toEqual(ids.slice(2, 202));
  });

  test("with fewer matches finds the same", () => {
    expect(firstPage("shared topics even")).toEqual(
      ids
        .slice(2)
        .filter((_, index) => index % 2 === 1)
        .slice(0, 5),
    );
  });
});

describe("words", () => {
  test.each([
    ["Hello, World!", "hello world"],
    ["foo_bar-baz 3.14", "foo bar baz 3 14"],
    ["Crème BRÛLÉE", "creme brulee"],
    ["Straße ﬁne", "straße fine"],
    ["我想学习中文", "我想 学习 中文"],
    ['"NEAR(a, 5)" OR *', "near a 5 or"],
    ["🎉🎂 \u0000 \ufeff", ""],
    ["", ""],
  ])("of %j are %j", (text, words) => {
    expect(cutWords(text)).toBe(words);
    expect(cutWords(words)).toBe(words);
  });

  test("are never anything but letters, marks and digits", () => {
    for (const text of ["a\"b'c*d^e:f(g)h{i}j-k+l,m\\n", "ﷺ ½ ① İ 𝒳", "नमस्ते ไทย 한국어"]) {
      expect(cutWords(text)).toMatch(/^[\p{L}\p{M}\p{N} ]*$/u);
    }
  });
});

test("nothing is made where the service is refused", async () => {
  const directory = join(newDirectory(), "absent");
  const { exitCode } = await runParley(["serve"], serviceEnv(directory, { env: { PORT: "x" } }));
  expect(exitCode).toBe(1);
  expect(existsSync(directory)).toBe(false);
});
