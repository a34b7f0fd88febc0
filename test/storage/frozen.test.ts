/** A database that stands still in its file, while other processes go on with it. */
import { afterAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { freeze } from "../../src/storage/sqlite/frozen.ts";
import { temporaryDirectory } from "../support/service.ts";

setDefaultTimeout(30_000);

const root = temporaryDirectory();
afterAll(() => rmSync(root, { recursive: true, force: true }));

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(root, "frozen-"));
  path = join(directory, "parley.db");
});

const opened = (file: string): string => `import { Database } from "bun:sqlite";
  const open = () => { const db = new Database(${JSON.stringify(file)}); db.run("pragma busy_timeout = 0"); return db; };
  const db = open();`;

/** What another process prints that works on a database: whoever opens a file here would lose the locks on it. */
function elsewhere(script: string, file = path): string {
  const { stdout, stderr } = Bun.spawnSync([process.execPath, "-e", `${opened(file)} ${script}`]);
  expect(stderr.toString()).toBe("");
  return stdout.toString().trim();
}

const insert = "db.run(\"insert into words values ('later')\");";
const create = `db.run("pragma journal_mode = wal"); db.run("create table words (word text)"); ${insert}`;
const count = 'console.log(db.query("select count(*) as n from words").get().n);';

const hashOfFile = (): string => Bun.spawnSync(["sha256sum", path]).stdout.toString();

/** How many rows the file holds by itself. */
function rowsInFile(): string {
  const copy = join(directory, "copy.db");
  Bun.spawnSync(["cp", path, copy]);
  return elsewhere(count, copy);
}

test("holds all that was committed, and stands still while others commit and checkpoint", async () => {
  elsewhere(create);
  const frozen = await freeze(path, () => {});
  const before = hashOfFile();
  expect(rowsInFile()).toBe("1");
  const others = `${insert} ${count} for (const mode of ["passive", "restart", "truncate"])
    try { db.run("pragma wal_checkpoint(" + mode + ")"); } catch {}`;
  expect(elsewhere(others)).toBe("2");
  expect([hashOfFile(), rowsInFile()]).toEqual([before, "1"]);
  frozen.release();
  elsewhere('db.run("pragma wal_checkpoint(truncate)")');
  expect(rowsInFile()).toBe("2");
});

test("begins at a moment at which nobody can commit", async () => {
  elsewhere(create);
  let outcome = "";
  const frozen = await freeze(path, () => {
    outcome = elsewhere(
      'try { db.run("begin immediate"); console.log("began"); } catch { console.log("waits"); }',
    );
  });
  expect(outcome).toBe("waits");
  expect(elsewhere(`${insert} ${count}`)).toBe("2");
  frozen.release();
});

test("waits for a reader of an older state, which keeps what is newer in the log", async () => {
  elsewhere(create);
  const reading = Bun.spawn(
    [
      process.execPath,
      "-e",
      `${opened(path)} db.run("begin"); db.query("select count(*) from words").get();
       const writer = open(); writer.run("insert into words values ('newer')"); console.log("reads");
       for await (const _ of console) break;`,
    ],
    { stdin: "pipe", stdout: "pipe" },
  );
  await reading.stdout.getReader().read();
  const freezing = freeze(path, () => {});
  setTimeout(() => {
    reading.stdin.write("\n");
    reading.stdin.end();
  }, 300);
  const frozen = await freezing;
  expect(rowsInFile()).toBe("2");
  frozen.release();
  await reading.exited;
});
