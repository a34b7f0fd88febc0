/** `parley migrate`: what a real service has kept in SQLite, moved to a real PostgreSQL. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { scope, turnEnd } from "../contracts/records.ts";
import {
  askThere,
  change,
  copyOnly,
  differencesOf,
  done,
  type Filled,
  fillDataDir,
  migrate,
  moveHere,
} from "../support/moving.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { runParley, serviceEnv, startService, temporaryDirectory } from "../support/service.ts";

setDefaultTimeout(60_000);

const newDatabase = databasesOfFile();
const directory = temporaryDirectory();
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const newDirectory = (): string => mkdtempSync(join(directory, "data-"));

let filled: Filled;
beforeAll(async () => {
  filled = await fillDataDir(newDirectory());
});

/** The data of the filled directory in one of its own. */
function copied(from = filled.dataDir): string {
  const copy = newDirectory();
  cpSync(from, copy, { recursive: true });
  return copy;
}

/** All rows of all plain tables, as text. */
function contentOf(dataDir: string): string {
  using db = new Database(join(dataDir, "parley.db"), { readonly: true });
  const tables = db
    .query<{ name: string }, []>("select name from sqlite_schema where type = 'table' order by name")
    .all();
  return JSON.stringify(tables.map(({ name }) => db.query(`select * from "${name}"`).values()));
}

describe("a data directory", () => {
  let url: string;
  let outcome: Awaited<ReturnType<typeof migrate>>;
  let before: string;
  let files: string[];
  beforeAll(async () => {
    url = await newDatabase();
    before = contentOf(filled.dataDir);
    files = readdirSync(filled.dataDir).filter((file) => !/^lock\.db|-wal$|-shm$/.test(file));
    outcome = await migrate(filled.dataDir, url);
  });

  test("is moved whole: all rows of all tables", async () => {
    expect(outcome).toMatchObject({ exitCode: 0, stderr: "" });
    expect(await differencesOf(filled.dataDir, url)).toEqual([]);
    // Nothing is compared with nothing.
    for (const table of [
      "idempotency_keys",
      "keys",
      "budgets",
      "budget_counters",
      "memories",
      "passages",
      "usage",
    ]) {
      const [{ rows }] = (await askThere<{ rows: number }>(
        url,
        `select count(*)::int4 as rows from "${table}"`,
      )) as [{ rows: number }];
      expect([table, rows]).not.toEqual([table, 0]);
    }
  });

  test("is told by table, with the checksums of both sides, before it says that all is done", () => {
    const lines = outcome.stdout.trimEnd().split("\n");
    const [head, ...rest] = lines.slice(0, -1).map((line) => line.split(/\s{2,}/));
    expect(head).toEqual(["table", "SQLite rows", "checksum", "PostgreSQL rows", "checksum"]);
    expect(rest.length).toBeGreaterThan(15);
    for (const [, rows, checksum, rowsThere, checksumThere] of rest) {
      expect([rowsThere, checksumThere]).toEqual([rows!, checksum!]);
      expect(checksum).toMatch(/^[0-9a-f]{16}$/);
    }
    expect(lines.at(-1)).toStartWith(done);
  });

  test("stays as it is", () => {
    expect(contentOf(filled.dataDir)).toBe(before);
    expect(readdirSync(filled.dataDir).filter((file) => !/^lock\.db|-wal$|-shm$/.test(file))).toEqual(files);
  });

  test("goes on in PostgreSQL with the numbers, secrets and conversations that it had", async () => {
    const store = await openPostgresStore(url);
    try {
      using db = new Database(join(filled.dataDir, "parley.db"), { readonly: true });
      const setting = "select value from settings where name = 'ticket_secret'";
      expect(await store.ticketSecret()).toBe(db.query<{ value: string }, []>(setting).get()!.value);
      for (const id of filled.conversations.slice(0, 2)) {
        expect(await store.conversation(scope, id)).toMatchObject({ id, user_id: "ada", message_count: 2 });
      }
      const { last } = db.query<{ last: number }, []>("select max(n) as last from conversations").get()!;
      const id = "conv_01a20eec-c7d5-7010-8bf8-6efaf2326bda";
      await store.createConversation(scope, {
        id,
        user_id: "ada",
        title: null,
        metadata: {},
        idempotency: null,
        now_ms: 1,
      });
      expect(await askThere(url, `select n::int4 as n from conversations where id = '${id}'`)).toEqual([
        { n: last + 1 },
      ]);
    } finally {
      await store.close();
    }
    // Those that search goes through were made again.
    expect(
      await askThere(url, "select count(*)::int4 as gin from pg_indexes where indexdef like '% USING gin %'"),
    ).toEqual([{ gin: 3 }]);
    // What SQLite never gives again, PostgreSQL doesn't either.
    using db = new Database(join(filled.dataDir, "parley.db"), { readonly: true });
    const { seq } = db
      .query<{ seq: number }, []>("select seq from sqlite_sequence where name = 'document_scopes'")
      .get()!;
    expect(await askThere(url, "select last_value::int4 as seq from document_scopes_n_seq")).toEqual([
      { seq },
    ]);
  });

  test("has those texts in its indexes that are to be found", async () => {
    using db = new Database(join(filled.dataDir, "parley.db"), { readonly: true });
    for (const [index, sql] of [
      ["message_index", "select count(*) as rows from message_index"],
      ["title_index", "select count(*) as rows from title_words where words <> ''"],
      // Not those of a document's older text, which are still to be cleared away.
      [
        "passage_index",
        "select count(*) as rows from passages where revision_n in (select n from document_revisions where document_n is not null)",
      ],
    ] as const) {
      const { rows } = db.query<{ rows: number }, []>(sql).get()!;
      expect([index, rows]).not.toEqual([index, 0]);
      const there = await askThere<{ rows: number }>(url, `select count(*)::int4 as rows from ${index}`);
      expect([index, there[0]!.rows]).toEqual([index, rows]);
    }
  });

  test("has its uploads as it had them", async () => {
    const pieces = await askThere<{ bytes: Uint8Array }>(
      url,
      `select u.bytes from uploads u join document_revisions r on r.n = u.revision_n where r.id = '${filled.uploadOf}' order by u.start`,
    );
    expect(pieces.length).toBe(3);
    expect(Buffer.compare(Buffer.concat(pieces.map(({ bytes }) => bytes)), filled.upload)).toBe(0);
  });

  test("leaves a turn that ran to whoever serves next, who ends it", async () => {
    const store = await openPostgresStore(url);
    try {
      const orphans = await store.orphans("inst_of_the_next");
      expect(orphans.map(({ turn }) => [turn.id, turn.response])).toEqual([
        [filled.running.id, filled.running.text],
      ]);
      const [{ turn, instance_id }] = orphans as [(typeof orphans)[number]];
      const end = { ...turnEnd({ status: "interrupted" }), response: turn.response };
      expect(await store.endOrphan(turn.id, instance_id, end, Date.now())).toBe(true);
      expect(await store.turn(scope, turn.id)).toMatchObject({
        status: "interrupted",
        response: filled.running.text,
      });
    } finally {
      await store.close();
    }
  });

  test("moved again is told to be there", async () => {
    expect(await migrate(filled.dataDir, url)).toEqual({
      exitCode: 0,
      stdout: "all of it was moved to this database before: nothing to do\n",
      stderr: "",
    });
  });
});

describe("databases of earlier versions", () => {
  const fixtures = new URL("../fixtures/databases/", import.meta.url).pathname;
  const versions = readdirSync(fixtures).filter((file) => file.endsWith(".db"));
  for (const file of versions) {
    test(`${file} is upgraded as by a start, and moved`, async () => {
      const dataDir = newDirectory();
      cpSync(join(fixtures, file), join(dataDir, "parley.db"));
      const url = await newDatabase();
      const { exitCode, stdout, stderr } = await runParley(
        ["migrate", "--from", `sqlite:${join(dataDir, "parley.db")}`, "--to", url],
        serviceEnv(newDirectory(), {}),
      );
      expect([exitCode, stderr]).toEqual([
        0,
        expect.stringMatching(/^parley: the database was upgraded from version \d to \d first\n$/),
      ]);
      expect(stdout).toContain(done);
      expect(await differencesOf(dataDir, url)).toEqual([]);
      expect(
        readFileSync(join(dataDir, file.replace(".db", ".snapshot.db").replace("v", "parley-v"))).length,
      ).toBeGreaterThan(0);
    });
  }
  test("are there", () => expect(versions.length).toBeGreaterThan(2));
});

test("texts with NUL arrive with U+FFFD in its place, which is told", async () => {
  const dataDir = copied();
  change(
    dataDir,
    "update messages set content = 'a' || char(0) || 'b' where n = 1",
    `update messages set sources = '["a\\u0000b \\ud800"]' where n = 2`,
  );
  const url = await newDatabase();
  const { exitCode, stdout, stderr } = await migrate(dataDir, url);
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining(done)]);
  expect(stderr).toBe(
    "parley: texts with NUL characters, which PostgreSQL can't hold: 2; they have U+FFFD there\n",
  );
  expect(await askThere(url, "select content, sources from messages where n in (1, 2) order by n")).toEqual([
    { content: "a\ufffdb", sources: expect.anything() },
    { content: expect.any(String), sources: ["a\ufffdb \ufffd"] },
  ]);
});

describe("refused", () => {
  const refusal = async (dataDir: string, url: string, ...more: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await migrate(dataDir, url, ...more);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    return stderr;
  };

  test("while a service runs on the directory", async () => {
    await using service = await startService();
    const url = await newDatabase();
    expect(await refusal(service.dataDir, url)).toContain("is in use, by a parley serve");
    expect(await askThere(url, "select 1 from pg_tables where schemaname = 'public'")).toEqual([]);
  });

  test("a directory without a database, which isn't made either", async () => {
    const empty = newDirectory();
    expect(await refusal(empty, await newDatabase())).toContain(`there is no parley.db in ${empty}`);
    expect(readdirSync(empty)).toEqual([]);
  });

  test("a database of another program, and one that Parley has data in", async () => {
    const other = await newDatabase();
    await askThere(other, "create table recipes (name text)");
    expect(await refusal(filled.dataDir, other)).toContain("another program's tables");
    const used = await newDatabase();
    const store = await openPostgresStore(used);
    await store.createConversation(scope, {
      id: "conv_1",
      user_id: "ada",
      title: null,
      metadata: {},
      idempotency: null,
      now_ms: 1,
    });
    expect(await refusal(filled.dataDir, used)).toContain("a parley serve is connected to the database");
    await store.close();
    expect(await refusal(filled.dataDir, used)).toContain("holds data of Parley already (users)");
    expect(await refusal(filled.dataDir, used, "--restart")).toContain(
      "holds data of Parley already (users)",
    );
    expect(await askThere(used, "select user_id from conversations")).toEqual([{ user_id: "ada" }]);
  });

  test("a database of another encoding", async () => {
    const url = await newDatabase();
    await askThere(url, "create database latin template template0 encoding 'SQL_ASCII' locale 'C'");
    const latin = new URL(url);
    latin.pathname = "/latin";
    expect(await refusal(filled.dataDir, latin.href)).toContain("the database's encoding is SQL_ASCII");
  });

  test("an unfinished migration of another directory or of data that has changed, unless it is begun again", async () => {
    const dataDir = copied();
    const url = await newDatabase();
    await copyOnly(dataDir, url);
    const other = newDirectory();
    await (await startService({ dataDir: other })).stop();
    expect(await refusal(other, url)).toContain("a part of another data directory");
    change(
      dataDir,
      "update settings set value = 'other' where name = 'checked_at'",
      "insert into settings values ('new', '1')",
    );
    expect(await refusal(dataDir, url)).toContain("was changed since its migration was begun");
    const { exitCode } = await migrate(dataDir, url, "--restart");
    expect(exitCode).toBe(0);
    expect(await differencesOf(dataDir, url)).toEqual([]);
  });

  test("data that changes while it is moved", async () => {
    const dataDir = copied();
    const url = await newDatabase();
    let isChanged = false;
    const run = moveHere(dataDir, url, {
      onProgress(part) {
        if (part < 0.7 || isChanged) return;
        isChanged = true;
        // As `parley keys` may, which needs nobody's leave.
        change(dataDir, "update keys set revoked_at = 1");
      },
    });
    await expect(run).rejects.toThrow("the data was changed while it was moved");
    expect(await askThere(url, "select count(*)::int4 as there from migration_progress")).toEqual([
      { there: 1 },
    ]);
  });

  test("what another version has begun, unless it is begun again", async () => {
    const dataDir = copied();
    const url = await newDatabase();
    await copyOnly(dataDir, url);
    await askThere(url, "update schema_version set version = version - 1");
    expect(await refusal(dataDir, url)).toContain("another version of Parley has begun this migration");
  });

  test("to serve what isn't there wholly yet", async () => {
    const url = await newDatabase();
    await copyOnly(copied(), url);
    expect(openPostgresStore(url)).rejects.toThrow(
      "only a part of the data was moved to the database of DATABASE_URL so far: run parley migrate again",
    );
  });

  test("what isn't an address, without telling it", async () => {
    const url = new URL(await newDatabase());
    url.password = "s3cret-pass";
    const gone = new URL(url);
    gone.port = "1";
    for (const [address, exitCode, ...more] of [
      [url.href, 1],
      [gone.href, 1],
      ["postgres://parley:s3cret-pass@[/parley", 1],
      [gone.href, 2, "--to", "mysql://parley:s3cret-pass@localhost/parley"],
    ] as const) {
      const outcome = await migrate(filled.dataDir, address, ...more);
      expect([address, outcome.exitCode]).toEqual([address, exitCode]);
      expect(outcome.stderr.trimEnd().split("\n")).toHaveLength(1);
      expect(outcome.stdout + outcome.stderr).not.toContain("s3cret");
    }
    const nowhere = await runParley(["migrate"], serviceEnv(filled.dataDir, {}));
    expect([nowhere.exitCode, nowhere.stderr]).toEqual([2, expect.stringContaining("to which database?")]);
    const wrong = await migrate(filled.dataDir, url.href, "--from", "parley.db");
    expect([wrong.exitCode, wrong.stderr]).toEqual([
      2,
      expect.stringContaining("--from takes sqlite:DIRECTORY"),
    ]);
  });
});
