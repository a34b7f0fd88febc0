/** Exports and imports of PostgreSQL beside those who use it, and the backups that it doesn't take. What they hold: test/keeping. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import type { ArchiveRecord } from "../../src/storage/archive-store.ts";
import { postgresKeeping } from "../../src/storage/postgres/archive/keeping.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { ada, instance, newConversation, scope, turnEnd, turnStart } from "../contracts/records.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { runParley, serviceEnv, temporaryDirectory, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();

const run = (url: string, ...args: string[]) =>
  runParley(args, { ...serviceEnv(temporaryDirectory(), {}), DATABASE_URL: url });

async function recordsOf(url: string): Promise<ArchiveRecord[]> {
  const archive = await postgresKeeping(url).export();
  try {
    return await Array.fromAsync(archive.records());
  } finally {
    await archive.close();
  }
}

const idsOf = (records: ArchiveRecord[], type: ArchiveRecord["type"]): string[] =>
  records.flatMap((record) => (record.type === type && "id" in record ? [record.id] : []));

const newIdOf = (): string => newId("turn");

/** A database with a turn that has ended, and one that runs. */
async function filled(url: string) {
  const store = await openPostgresStore(url);
  const { turn } = await store.startTurn(scope, turnStart());
  await store.endTurn(turn.id, instance, turnEnd(), 1_700_000_001_000);
  const running = await store.startTurn(scope, turnStart({ message: "And now?" }));
  return { store, turn, running: running.turn };
}

describe("an export", () => {
  test("is of one moment, whatever is written meanwhile", async () => {
    const url = await newDatabase();
    const { store, turn, running } = await filled(url);
    const archive = await postgresKeeping(url).export();
    const records = archive.records();
    const read = [(await records.next()).value as ArchiveRecord];
    await store.endTurn(running.id, instance, turnEnd({ response: "Then this." }), 1_700_000_002_000);
    await store.startTurn(scope, turnStart({ user_id: "later" }));
    for await (const record of records) read.push(record);
    await archive.close();
    expect(idsOf(read, "turn")).toEqual([turn.id, running.id]);
    expect(read.filter(({ type }) => type === "user")).toHaveLength(1);
    expect(read.find((record) => record.type === "turn" && record.id === running.id)).toMatchObject({
      status: "running",
      reply: { content: "" },
    });
    expect(idsOf(await recordsOf(url), "turn")).toHaveLength(3);
    await store.close();
  });

  test("has the turns of each conversation after it, in order, however many there are", async () => {
    const url = await newDatabase();
    const store = await openPostgresStore(url);
    const expected: string[] = [];
    for (let count = 0; count < 70; count++) {
      const made = newConversation();
      await store.createConversation(scope, made);
      expected.push(made.id);
      for (let turns = count === 1 ? 40 : count % 3; turns > 0; turns--) {
        const { turn } = await store.startTurn(scope, turnStart({ conversation_id: made.id }));
        await store.endTurn(turn.id, instance, turnEnd(), 1_700_000_001_000);
        expected.push(turn.id);
      }
    }
    await store.close();
    const seen = (await recordsOf(url)).flatMap((record) =>
      record.type === "conversation" || record.type === "turn" ? [record.id] : [],
    );
    expect(seen).toEqual(expected);
  });

  test("holds nothing of who is being erased, or of what is, but what they took", async () => {
    const url = await newDatabase();
    const { store } = await filled(url);
    const { turn } = await store.startTurn(scope, turnStart({ user_id: "bob" }));
    await store.close();
    await using sql = new Bun.SQL(url, { max: 1 });
    // As a process that died in the middle leaves it.
    await sql`update users set user_id = null, erased_user_id = user_id where user_id = 'ada'`;
    const records = await recordsOf(url);
    expect(idsOf(records, "turn")).toEqual([turn.id]);
    expect(JSON.stringify(records)).not.toContain('"ada"');
    expect(records.filter(({ type }) => type === "ledger_entry")).toMatchObject([
      { user_id: null, conversation_id: null, status: "completed", total_tokens: 7 },
      { user_id: null, conversation_id: null, status: "interrupted" },
    ]);
  });

  test("of a database without data, or of another version, is refused in a line, and makes nothing", async () => {
    const url = await newDatabase();
    const refused = async (why: string): Promise<void> => {
      const { exitCode, stdout, stderr } = await run(url, "export");
      expect([exitCode, stdout, stderr]).toEqual([1, "", `parley: ${why}\n`]);
    };
    await refused("there is no data of Parley in the database of DATABASE_URL");
    await using sql = new Bun.SQL(url, { max: 1 });
    expect(await sql`select from pg_tables where schemaname = 'public'`).toHaveLength(0);
    await (await openPostgresStore(url)).close();
    await sql`update schema_version set version = version - 1`;
    await refused(
      "the database of DATABASE_URL is of an older version: start parley serve once, which upgrades it",
    );
  });

  test("from a database that isn't there is refused in a line without its password", async () => {
    const url = new URL(await newDatabase());
    url.pathname = "/nowhere";
    url.password = "a-secret-password";
    const { exitCode, stderr } = await run(url.href, "export");
    expect(exitCode).toBe(1);
    expect(stderr).toStartWith("parley: the database of DATABASE_URL can't be used: ");
    expect(stderr).not.toContain("a-secret-password");
    expect(stderr.trimEnd()).not.toContain("\n");
  });
});

describe("an import", () => {
  test("is refused while an instance serves, and holds up one that starts until it is done", async () => {
    const [from, to] = [await newDatabase(), await newDatabase()];
    const { store, running } = await filled(from);
    const records = await recordsOf(from);
    const serving = await openPostgresStore(to);
    const keeping = postgresKeeping(to);
    const inUse = /is in use, by a parley serve, migrate or import: stop it first, on all machines$/;
    await expect(keeping.import()).rejects.toThrow(inUse);
    await serving.close();

    const archive = await keeping.import();
    await expect(keeping.import()).rejects.toThrow(inUse);
    for (const record of records) expect(await archive.keep(record)).toBe("kept");
    let opened = false;
    const starting = openPostgresStore(to).then((store) => {
      opened = true;
      return store;
    });
    await using sql = new Bun.SQL(to, { max: 1 });
    while ((await sql`select from pg_locks where not granted`).length === 0) await Bun.sleep(5);
    expect(opened).toBe(false);
    expect(await sql`select from conversations`).toHaveLength(0);
    expect(await archive.finish()).toBeNull();
    await archive.close();

    const started = await starting;
    // Whoever starts ends what ran elsewhere.
    const orphans = await started.orphans("inst_new");
    expect(orphans.map(({ turn }) => turn.id)).toEqual([running.id]);
    expect(
      await started.endOrphan(
        running.id,
        orphans[0]!.instance_id,
        turnEnd({ status: "interrupted" }),
        Date.now(),
      ),
    ).toBe(true);
    expect((await started.profile(ada))?.user_id).toBe("ada");
    // New rows come after those that were imported.
    await started.startTurn(scope, turnStart());
    await started.close();
    await store.close();
  });

  test("of what PostgreSQL can't keep says why, and leaves all as it was", async () => {
    const url = await newDatabase();
    const keeping = postgresKeeping(url);
    const user = { ...ada, display_name: null, language: null, timezone: null, instructions: null };
    const times = { created_at: 1, updated_at: 1 };
    const memory = {
      id: newId("memory"),
      text: "Tea.",
      kind: "fact",
      slot: null,
      source_message_id: null,
    } as const;
    const more = { ...memory, ...ada, ...times, superseded_by: null, uses: 0, used_at: null };
    const records: [ArchiveRecord, string][] = [
      [{ type: "memory", ...more, tokens: 2 ** 40 }, "a number is too large"],
      [
        {
          type: "user",
          ...user,
          ...times,
          metadata: {},
          user_id: Array.from({ length: 2_000 }, newIdOf).join(),
        },
        "a name or an id is too long",
      ],
    ];
    for (const [record, why] of records) {
      const archive = await keeping.import();
      await archive.keep({ type: "user", ...user, ...times, metadata: {} });
      await expect(archive.keep(record)).rejects.toThrow(`can't keep a record of the file: ${why}`);
      await archive.close();
    }
    expect((await recordsOf(url)).map(({ type }) => type)).toEqual(["workspace"]);
  });

  test("that isn't finished leaves all as it was", async () => {
    const url = await newDatabase();
    const archive = await postgresKeeping(url).import();
    const workspace = { type: "workspace", id: newId("workspace"), name: "Acme", created_at: 1 } as const;
    expect(await archive.keep(workspace)).toBe("kept");
    await archive.close();
    expect(idsOf(await recordsOf(url), "workspace")).toEqual(["default"]);
  });
});

test.each([
  ["backup", "somewhere.db"],
  ["backup", "-"],
  ["restore", "somewhere.db"],
])("%s %s says what to use instead", async (command, file) => {
  const { exitCode, stdout, stderr } = await run(await newDatabase(), command, file);
  expect([exitCode, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(
    /^parley: the data is in the database of DATABASE_URL: back it up with pg_dump -Fc.*\n$/,
  );
});
