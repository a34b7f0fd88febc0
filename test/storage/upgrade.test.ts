/** Databases of earlier versions, with rows in them: upgraded in place after a snapshot, or left as they were. */
import { Database } from "bun:sqlite";
import { afterAll, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { migrations } from "../../src/storage/sqlite/migrations.ts";
import { snapshotsOf, upgrade } from "../../src/storage/sqlite/upgrade.ts";
import { StorageUnusableError } from "../../src/storage/unusable.ts";
import type { Recording } from "../fixtures/databases/record.ts";
import { runParley, serviceEnv, startService, temporaryDirectory } from "../support/service.ts";
import { skipsSmallDisk, smallDisk } from "../support/small-disk.ts";
import { readTranscript } from "../support/sse.ts";
import { resume, seededRandom } from "../support/turns.ts";

const fixtures = new URL("../fixtures/databases/", import.meta.url).pathname;
const recorded = readdirSync(fixtures)
  .map((file) => /^v(\d+)\.db$/.exec(file)?.[1])
  .filter((version) => version !== undefined)
  .map(Number)
  .toSorted((a, b) => a - b);

const root = temporaryDirectory();
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A data directory with a database of an earlier version. */
function dataDirOf(version: number): string {
  const directory = mkdtempSync(join(root, "data-"));
  copyFileSync(join(fixtures, `v${version}.db`), join(directory, "parley.db"));
  return directory;
}

const versionIn = (path: string): number => {
  using db = new Database(path, { readonly: true });
  return db.query<{ user_version: number }, []>("pragma user_version").get()!.user_version;
};

/** All rows of all plain tables, as text. */
function contentOf(path: string): string {
  using db = new Database(path, { readonly: true });
  const tables = db
    .query<{ name: string }, []>(
      "select name from sqlite_schema where type = 'table' and sql not like '%virtual%' order by name",
    )
    .all();
  return JSON.stringify(tables.map(({ name }) => [name, db.query(`select * from "${name}"`).values()]));
}

/** Members that an answer has gained since a recording are fine; what was there must be the same. */
const asRecorded = (body: unknown): unknown => {
  if (Array.isArray(body)) return body.map(asRecorded);
  if (typeof body !== "object" || body === null) return body;
  const members = Object.entries(body).map(([key, value]) => [key, asRecorded(value)]);
  return expect.objectContaining(Object.fromEntries(members));
};

test("there is a recorded database for every version before the newest", () => {
  expect(recorded.filter((version) => version < migrations.length)).toEqual(
    migrations.slice(0, -1).map((_, index) => index + 1),
  );
  expect(recorded.length).toBeGreaterThan(0);
});

for (const version of recorded) {
  test(`a database of version ${version} is read as it was written`, async () => {
    const dataDir = dataDirOf(version);
    const before = contentOf(join(dataDir, "parley.db"));
    await using service = await startService({ dataDir });
    const recordings = (await Bun.file(join(fixtures, `v${version}.json`)).json()) as Recording[];
    expect(recordings.length).toBeGreaterThan(10);
    for (const { path, body } of recordings) {
      const answer = await service.get(path);
      expect([path, answer.status, answer.body]).toEqual([path, 200, asRecorded(body)]);
    }
    const turns = recordings.filter(({ path }) => path.startsWith("/v1/turns/"));
    for (const { body } of turns as { body: { id: string; response: string } }[]) {
      const { text } = await readTranscript(await resume(service, body.id, 4));
      expect(text).toBe(body.response.slice(4));
    }
    await service.stop();
    const path = join(dataDir, "parley.db");
    expect(versionIn(path)).toBe(migrations.length);
    const snapshots = snapshotsOf(path);
    expect(snapshots).toEqual(
      version < migrations.length ? [join(dataDir, `parley-v${version}.snapshot.db`)] : [],
    );
    for (const snapshot of snapshots) {
      expect([versionIn(snapshot), statSync(snapshot).mode & 0o777]).toEqual([version, 0o600]);
      expect(contentOf(snapshot)).toBe(before);
      expect(service.logs.filter((line) => line.includes('"event":"upgraded"'))).toHaveLength(1);
    }
  });
}

const newest = recorded.at(-1)!;
const addColumn = "alter table conversations add column colour text not null default 'blue'";
const rebuild = `create table other (id integer primary key, turn_n integer references turns (n)) strict;
  insert into other (turn_n) select n from turns`;

/** Versions after the recorded one, in place of the real ones. */
const later = (...sql: string[]): string[] => [...Array<string>(newest).fill("select 1"), ...sql];

function upgraded(dataDir: string, list: string[]) {
  const path = join(dataDir, "parley.db");
  using db = new Database(path);
  db.run("pragma journal_mode = wal");
  db.run("pragma foreign_keys = on");
  return upgrade(db, path, list);
}

describe("an upgrade", () => {
  test("applies what is missing, after a snapshot of what was, and does nothing the second time", () => {
    const dataDir = dataDirOf(newest);
    const path = join(dataDir, "parley.db");
    const before = contentOf(path);
    const snapshot = join(dataDir, `parley-v${newest}.snapshot.db`);
    expect(upgraded(dataDir, later(addColumn, rebuild))).toEqual({ from: newest, to: newest + 2, snapshot });
    expect(versionIn(path)).toBe(newest + 2);
    expect(contentOf(snapshot)).toBe(before);
    expect(contentOf(path)).not.toBe(before);
    using db = new Database(path, { readonly: true });
    expect(db.query("pragma integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
    expect(upgraded(dataDir, later(addColumn, rebuild))).toBeNull();
  });

  test("keeps the newest snapshot alone, and clears away what a kill left unfinished", () => {
    const dataDir = dataDirOf(newest);
    for (const name of ["parley-v0.snapshot.db", `parley-v${newest}.snapshot.db.part`, "parley-v1.txt"]) {
      writeFileSync(join(dataDir, name), "old");
    }
    upgraded(dataDir, later(addColumn));
    expect(
      readdirSync(dataDir)
        .filter((file) => file.includes("-v"))
        .toSorted(),
    ).toEqual([`parley-v${newest}.snapshot.db`, "parley-v1.txt"].toSorted());
  });

  test("of an empty database keeps no snapshot", () => {
    const dataDir = mkdtempSync(join(root, "data-"));
    expect(upgraded(dataDir, ["create table conversations (n integer) strict"])).toEqual({
      from: 0,
      to: 1,
      snapshot: null,
    });
    expect(snapshotsOf(join(dataDir, "parley.db"))).toEqual([]);
  });

  const failing = [
    ["a statement that SQLite refuses", later(addColumn, "insert into nowhere values (1)"), "no such table"],
    ["a broken constraint", later(addColumn, "update messages set role = 'nobody'"), "CHECK constraint"],
    [
      "rows that point to nothing",
      later("update turns set user_message_n = 1; delete from messages where n = 2"),
      "point to nothing",
    ],
  ] as const;
  for (const [what, list, reason] of failing) {
    test(`that fails by ${what} leaves all as it was`, () => {
      const dataDir = dataDirOf(newest);
      const path = join(dataDir, "parley.db");
      const before = contentOf(path);
      expect(() => upgraded(dataDir, [...list])).toThrow(StorageUnusableError);
      expect(() => upgraded(dataDir, [...list])).toThrow(reason);
      expect([versionIn(path), contentOf(path)]).toEqual([newest, before]);
      // And the version before goes on with it.
      expect(upgraded(dataDir, later())).toBeNull();
    });
  }

  test.skipIf(skipsSmallDisk())("without room for the snapshot isn't begun, which is said in a line", () => {
    using disk = smallDisk(1);
    const path = join(disk.path, "parley.db");
    copyFileSync(join(fixtures, `v${newest}.db`), path);
    const before = contentOf(path);
    disk.fill(80_000);
    expect(() => upgraded(disk.path, later(addColumn))).toThrow(
      /no snapshot of .*parley.db could be kept before its upgrade, which needs up to 1 MiB beside it .*: the database is as it was/,
    );
    expect(readdirSync(disk.path).filter((file) => file.includes("snapshot"))).toEqual([]);
    disk.free();
    expect([versionIn(path), contentOf(path)]).toEqual([newest, before]);
    expect(upgraded(disk.path, later(addColumn))).toMatchObject({ to: newest + 1 });
  });
});

describe("refused, and left as it is", () => {
  test("another program's database", async () => {
    const dataDir = mkdtempSync(join(root, "data-"));
    const path = join(dataDir, "parley.db");
    {
      using db = new Database(path);
      db.run("create table recipes (name text)");
      db.run("insert into recipes values ('soup')");
    }
    const before = contentOf(path);
    const { exitCode, stderr } = await runParley(["serve"], serviceEnv(dataDir, {}));
    expect([exitCode, stderr]).toEqual([
      1,
      `parley: ${path} is another program's database: set PARLEY_DATA_DIR elsewhere\n`,
    ]);
    expect(contentOf(path)).toBe(before);
  });

  test("a newer database, with the way back where there is one", async () => {
    const dataDir = dataDirOf(newest);
    const path = join(dataDir, "parley.db");
    upgraded(dataDir, later(addColumn));
    {
      using db = new Database(path);
      db.run("pragma user_version = 999");
    }
    const snapshot = join(dataDir, `parley-v${migrations.length}.snapshot.db`);
    if (!existsSync(snapshot)) copyFileSync(join(dataDir, `parley-v${newest}.snapshot.db`), snapshot);
    const before = await Bun.file(path).bytes();
    const { exitCode, stderr, stdout } = await runParley(["serve"], serviceEnv(dataDir, {}));
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toBe(
      `parley: ${path} is of version 999, this Parley knows ${migrations.length}: use a newer one, or go back to ${snapshot} by moving it in its place\n`,
    );
    expect(await Bun.file(path).bytes()).toEqual(before);
  });
});

test("a kill in the middle leaves the old version or the new one, and the next start ends it", async () => {
  const random = seededRandom();
  const slow = `create table slow (x integer); insert into slow
    with recursive n (i) as (select 1 union all select i + 1 from n where i < 300000) select i from n`;
  // Whatever the machine does, the first kill comes before its end.
  const endless = slow.replace("300000", "1000000000000");
  const outcomes = new Set<number>();
  for (let run = 0; run < 8; run++) {
    const dataDir = dataDirOf(newest);
    const path = join(dataDir, "parley.db");
    const before = contentOf(path);
    const upgrading = Bun.spawn(
      [
        process.execPath,
        "-e",
        `import { Database } from "bun:sqlite";
         import { upgrade } from ${JSON.stringify(new URL("../../src/storage/sqlite/upgrade.ts", import.meta.url).pathname)};
         const db = new Database(${JSON.stringify(path)});
         db.run("pragma journal_mode = wal");
         console.log("begins");
         upgrade(db, ${JSON.stringify(path)}, ${JSON.stringify(later(addColumn, run === 0 ? endless : slow))});`,
      ],
      { stdout: "pipe", stderr: "inherit" },
    );
    await upgrading.stdout.getReader().read();
    await Bun.sleep(random() * 150);
    upgrading.kill("SIGKILL");
    await upgrading.exited;
    const version = versionIn(path);
    outcomes.add(version);
    if (version === newest) expect(contentOf(path)).toBe(before);
    upgraded(dataDir, later(addColumn, slow));
    expect(versionIn(path)).toBe(newest + 2);
    const snapshots = snapshotsOf(path);
    expect(snapshots).toEqual([join(dataDir, `parley-v${newest}.snapshot.db`)]);
    expect(contentOf(snapshots[0]!)).toBe(before);
  }
  expect(outcomes).toContain(newest);
});
