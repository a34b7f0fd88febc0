/** `parley migrate` where something goes wrong: rows that differ, kills, lost connections, two at once. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isSame } from "../../src/storage/moving.ts";
import {
  addTurns,
  askThere,
  change,
  copyOnly,
  differencesOf,
  done,
  fillDataDir,
  migrate,
  moveHere,
  startMigrate,
} from "../support/moving.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { peakMemoryOf, skipsWithoutProc } from "../support/processes.ts";
import { temporaryDirectory } from "../support/service.ts";
import { seededRandom } from "../support/turns.ts";

setDefaultTimeout(240_000);

const kills = Number(process.env.PARLEY_TEST_MIGRATE_KILLS ?? 3);
const messages = Number(process.env.PARLEY_TEST_MIGRATE_MESSAGES ?? 4_000);

const newDatabase = databasesOfFile();
const directory = temporaryDirectory();
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const newDirectory = (): string => mkdtempSync(join(directory, "data-"));

/** Of a service, with everything. */
const filled = newDirectory();
/** The same with many messages more. */
const large = newDirectory();
beforeAll(async () => {
  await fillDataDir(filled);
  cpSync(filled, large, { recursive: true });
  addTurns(large, messages / 2, 60);
});

function copied(from = filled): string {
  const copy = newDirectory();
  cpSync(from, copy, { recursive: true });
  return copy;
}

describe("checksums", () => {
  let dataDir: string;
  let url: string;
  beforeAll(async () => {
    dataDir = copied();
    url = await newDatabase();
    await copyOnly(dataDir, url);
    // Now all is there, and nothing was compared.
    expect(await askThere(url, "select table_name from migration_progress")).toEqual([{ table_name: null }]);
  });

  const changes: [what: string, table: string, row: string, change: string, undo: string][] = [
    [
      "a text",
      "messages",
      "n = 2",
      "content = content || '.'",
      "content = left(content, length(content) - 1)",
    ],
    [
      "JSON",
      "messages",
      "n = 2",
      "sources = (sources::text || ' ')::json",
      "sources = rtrim(sources::text)::json",
    ],
    ["a boolean", "turns", "n = 2", "use_memory = not use_memory", "use_memory = not use_memory"],
    [
      "a time",
      "turns",
      "n = 2",
      "lease_until = lease_until + interval '1 s'",
      "lease_until = lease_until - interval '1 s'",
    ],
    ["nothing in place of a value", "turns", "n = 2", "finish_reason = null", "finish_reason = 'stop'"],
    ["a number", "usage", "n = 1", "total_tokens = total_tokens + 1", "total_tokens = total_tokens - 1"],
    ["a fraction", "document_revisions", "n = 2", "progress = 0.5", "progress = 1"],
    ["a byte", "uploads", "start = 0", "bytes = set_byte(bytes, 7, 8)", "bytes = set_byte(bytes, 7, 7)"],
    [
      "a limit",
      "budgets",
      "true",
      "limits = replace(limits::text, '100000', '100001')::json",
      "limits = replace(limits::text, '100001', '100000')::json",
    ],
  ];
  for (const [what, table, row, changed, undo] of changes) {
    test(`tell of ${what} that differs in ${table}`, async () => {
      await askThere(url, `update ${table} set ${changed} where ${row}`);
      const moved = await moveHere(dataDir, url);
      expect(moved.tables.filter((each) => !isSame(each)).map(({ name }) => name)).toEqual([table]);
      await askThere(url, `update ${table} set ${undo} where ${row}`);
    });
  }

  test("tell of a row too many, in one line for the operator, who gets no `done`", async () => {
    await askThere(url, "insert into settings values ('another', 'one')");
    const { exitCode, stdout, stderr } = await migrate(dataDir, url);
    expect([exitCode, stderr]).toEqual([
      1,
      "parley: not the same on both sides: settings. The migration isn't done: begin again with --restart\n",
    ]);
    expect(stdout).toContain("settings");
    expect(stdout).not.toContain("done");
    await askThere(url, "delete from settings where name = 'another'");
  });

  test("that are all the same let it be done", async () => {
    const { exitCode, stdout } = await migrate(dataDir, url);
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining(done)]);
    expect(await differencesOf(dataDir, url)).toEqual([]);
  });
});

/** How many rows are there; none where there is no table yet. */
async function rowsOf(url: string, table: string): Promise<number> {
  const [there] = await askThere<{ there: boolean }>(
    url,
    `select to_regclass('${table}') is not null as there`,
  );
  if (!there!.there) return 0;
  return (await askThere<{ rows: number }>(url, `select count(*)::int4 as rows from ${table}`))[0]!.rows;
}

describe("a run that is killed", () => {
  test("is followed by one that goes on where it was, whenever that is", async () => {
    const random = seededRandom();
    const url = await newDatabase();
    const copiedRows: number[] = [];
    for (let kill = 0; kill < kills; kill++) {
      // At any of its moments: of the rows that are to be copied so many are there, or it has come as far as that takes.
      const enough = Math.floor(((kill + random()) / kills) * messages);
      const table = random() < 0.5 ? "messages" : "message_index";
      const run = startMigrate(large, url);
      const ended = run.exited.then(() => true);
      while ((await rowsOf(url, table)) < enough) {
        if (await Promise.race([ended, Bun.sleep(1).then(() => false)])) break;
      }
      run.kill("SIGKILL");
      await run.exited;
      copiedRows.push((await rowsOf(url, "messages")) + (await rowsOf(url, "message_index")));
    }
    // None of them began again.
    expect(copiedRows).toEqual(copiedRows.toSorted((a, b) => a - b));
    expect(copiedRows[0]).toBeLessThan(2 * messages);
    const { exitCode, stderr } = await migrate(large, url);
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(await differencesOf(large, url)).toEqual([]);
    expect(await rowsOf(url, "message_index")).toBeGreaterThan(messages);
  });

  test("by Ctrl-C says so", async () => {
    const url = await newDatabase();
    const run = startMigrate(large, url);
    while ((await rowsOf(url, "messages")) === 0) await Bun.sleep(1);
    run.kill("SIGINT");
    expect(await run.exited).toBe(130);
    expect(await new Response(run.stderr).text()).toBe("parley: interrupted\n");
    expect((await migrate(large, url)).stdout).toContain(done);
  });
});

test("connections that are lost again and again hold nothing up", async () => {
  const url = await newDatabase();
  const run = startMigrate(large, url);
  let cut = 0;
  const ended = run.exited.then(() => true);
  for (let rows = 0; !(await Promise.race([ended, Bun.sleep(20).then(() => false)])); ) {
    const now = (await rowsOf(url, "messages")) + (await rowsOf(url, "message_index"));
    if (now === rows) continue;
    rows = now;
    const gone = await askThere(
      url,
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'parley migrate' and state = 'active' and datname = current_database()",
    );
    cut += gone.length;
    if (cut > 4) break;
  }
  expect(await new Response(run.stderr).text()).toBe("");
  expect([await run.exited, await new Response(run.stdout).text()]).toEqual([
    0,
    expect.stringContaining(done),
  ]);
  expect(cut).toBeGreaterThan(0);
  expect(await differencesOf(large, url)).toEqual([]);
});

test("of two runs at once one gives way, and all is there once", async () => {
  const url = await newDatabase();
  const runs = [large, copied(large)].map((dataDir) => startMigrate(dataDir, url));
  const outcomes = await Promise.all(
    runs.map(async (run) => ({ exitCode: await run.exited, stderr: await new Response(run.stderr).text() })),
  );
  expect(outcomes.toSorted((a, b) => a.exitCode - b.exitCode)).toEqual([
    { exitCode: 0, stderr: "" },
    {
      exitCode: 1,
      // It may be done by the time that it is seen not to rest.
      stderr: expect.stringMatching(
        /^parley: another (parley migrate is at work on the database|run has finished or removed this migration)\n$/,
      ),
    },
  ]);
  expect(await differencesOf(large, url)).toEqual([]);
});

test.skipIf(skipsWithoutProc())("what is moved takes no more memory where there is more of it", async () => {
  const peakOf = async (dataDir: string): Promise<number> => {
    const run = startMigrate(dataDir, await newDatabase());
    const ended = run.exited.then(() => true);
    let peak = 0;
    do peak = peakMemoryOf(run.pid) ?? peak;
    while (!(await Promise.race([ended, Bun.sleep(5).then(() => false)])));
    expect(await run.exited).toBe(0);
    return peak;
  };
  const small = copied();
  addTurns(small, messages / 20, 60);
  // Of a mebibyte each.
  const long = (every: number): string => {
    const dataDir = copied(small);
    const text = "replace(hex(zeroblob(150000)), '00', 'wörter ')";
    change(dataDir, `update messages set content = ${text} where n >= 1000000 and n % ${every} = 0`);
    return dataDir;
  };
  const peaks: number[] = [];
  for (const dataDir of [small, large, long(messages / 100), long(messages / 400)]) {
    peaks.push(Math.round((await peakOf(dataDir)) / 2 ** 20));
  }
  console.log(
    `peak memory in MiB: ${peaks.join(", ")} (${messages / 10} messages, ${messages}, 10 long ones, 40)`,
  );
  expect(peaks[1]! - peaks[0]!).toBeLessThan(48);
  expect(peaks[3]! - peaks[2]!).toBeLessThan(128);
});
