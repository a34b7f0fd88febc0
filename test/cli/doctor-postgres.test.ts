/** parley doctor with DATABASE_URL: each thing that can be wrong with PostgreSQL is made wrong, and has to be named. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Finding } from "../../src/cli/doctor/finding.ts";
import { examineServer } from "../../src/cli/doctor/postgres.ts";
import { loadConfig } from "../../src/config.ts";
import type { ServerFacts } from "../../src/storage/inspection.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { skipsPgBouncer, startPgBouncer } from "../support/pgbouncer.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { runParley, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();

interface Examination {
  exitCode: number;
  findings: Finding[];
}

async function examine(databaseUrl: string, env: Record<string, string> = {}): Promise<Examination> {
  const { exitCode, stdout, stderr } = await runParley(["doctor", "--json", "--timeout", "5"], {
    PATH: process.env.PATH ?? "",
    DATABASE_URL: databaseUrl,
    ...env,
  });
  expect(stderr).toBe("");
  const { findings } = JSON.parse(stdout) as { findings: Finding[] };
  expect(findings.some(({ status }) => status === "failed")).toBe(exitCode === 1);
  for (const { status, advice } of findings) {
    expect(advice !== undefined).toBe(status === "failed" || status === "warning");
  }
  expect(stdout).not.toContain(new URL(databaseUrl).password);
  return { exitCode, findings };
}

const findingOf = ({ findings }: Examination, name: string): Finding => {
  const found = findings.filter((finding) => finding.name === name);
  expect(found.map((finding) => finding.name)).toEqual([name]);
  return found[0]!;
};

async function run(url: string, ...statements: string[]): Promise<void> {
  await using sql = new Bun.SQL(url, { max: 1 });
  for (const statement of statements) await sql.unsafe(statement);
}

/** Makes Parley's tables. */
async function migrated(): Promise<string> {
  const url = await newDatabase();
  await (await openPostgresStore(url)).close();
  return url;
}

/** A role of its own, which is gone with the callback. */
async function asRole(
  url: string,
  statements: (role: string) => string[],
  work: (url: string) => Promise<void>,
): Promise<void> {
  const role = `role_${crypto.randomUUID().replaceAll("-", "")}`;
  const secret = crypto.randomUUID();
  await run(url, `create role ${role} login password '${secret}'`, ...statements(role));
  try {
    await work(Object.assign(new URL(url), { username: role, password: secret }).href);
  } finally {
    await run(url, `drop owned by ${role}`, `drop role ${role}`);
  }
}

const names = [
  ...["configuration", "PostgreSQL", "database", "rights", "encoding", "connections", "notifications"],
  ...["database clock", "keys", "open files", "fetch limit", "model"],
];

/** A password that stands nowhere else: that of the tests' server is also its user's name. */
const withSecret = (url: string): string => Object.assign(new URL(url), { password: "a-Secret-9" }).href;

test("that nothing is wrong where nothing is, and it changes nothing", async () => {
  const url = await newDatabase();
  await asRole(
    url,
    (role) => [`grant all on schema public to ${role}`],
    async (own) => {
      const found = await examine(own);
      expect(found.findings.map(({ name }) => name)).toEqual(names);
      expect(found.findings.filter(({ status }) => status !== "ok")).toEqual([]);
      expect(findingOf(found, "PostgreSQL").detail).toMatch(/^127\.0\.0\.1:\d+\/\S+ is of version \d+/);
      expect(findingOf(found, "database").detail).toBe("it is empty: the first start makes the tables");
    },
  );
  await using sql = new Bun.SQL(url, { max: 1 });
  expect([...(await sql.unsafe("select tablename from pg_tables where schemaname = 'public'"))]).toEqual([]);
});

test("of what version the tables are, and that somebody brings them to another", async () => {
  const url = await migrated();
  await asRole(
    url,
    (role) => [
      `grant all on schema public to ${role}`,
      `grant all on all tables in schema public to ${role}`,
    ],
    async (own) => {
      expect(findingOf(await examine(own), "database").detail).toMatch(/^it is of version \d+$/);
      await run(url, "update schema_version set version = version - 1");
      expect(findingOf(await examine(own), "database").detail).toMatch(
        /^it is of version \d+, which the next start brings to \d+$/,
      );
      await using sql = new Bun.SQL(url, { max: 1 });
      await sql.begin(async (transaction) => {
        await transaction.unsafe("select pg_advisory_xact_lock(7370001)");
        expect(findingOf(await examine(own), "database").detail).toContain("right now");
      });
      await run(url, "update schema_version set version = 99");
      expect(findingOf(await examine(own), "database")).toMatchObject({
        status: "failed",
        detail: expect.stringMatching(/^it is of version 99, and this Parley knows \d+$/),
      });
    },
  );
});

test("that its tables are another program's", async () => {
  const url = await newDatabase();
  await asRole(
    url,
    (role) => [`grant all on schema public to ${role}`, "create table orders (id integer)"],
    async (own) => {
      const finding = findingOf(await examine(own), "database");
      expect(finding).toMatchObject({
        status: "failed",
        detail: "there are another program's tables in it",
      });
    },
  );
});

describe("that it can't be reached:", () => {
  test.each([
    ["a wrong password", withSecret, "password authentication failed", "password of DATABASE_URL is wrong"],
    [
      "no such database",
      (url: string) => Object.assign(new URL(url), { pathname: "/nowhere" }).href,
      'database "nowhere" does not exist',
      "createdb",
    ],
    [
      "nothing listens there",
      (url: string) => Object.assign(new URL(withSecret(url)), { port: "9" }).href,
      "Failed to connect",
      "see whether it is up",
    ],
    [
      "no TLS",
      (url: string) => `${withSecret(url)}?sslmode=require`,
      "Server does not support SSL",
      "sslmode",
    ],
  ])("%s", async (_, spoil, said, advice) => {
    const url = spoil(await newDatabase());
    const { exitCode, stdout } = await runParley(["doctor", "--json", "--timeout", "2"], {
      PATH: process.env.PATH ?? "",
      DATABASE_URL: url,
    });
    const { findings } = JSON.parse(stdout) as { findings: Finding[] };
    const finding = findingOf({ exitCode, findings }, "PostgreSQL");
    expect(finding.status).toBe("failed");
    expect(finding.detail).toContain(`${new URL(url).host}${new URL(url).pathname} can't be used: `);
    expect(finding.detail).toContain(said);
    expect(finding.advice).toContain(advice);
    expect(stdout).not.toContain("a-Secret-9");
    expect(findings.map(({ name }) => name)).toContain("open files");
  });
});

test("that it takes no writes", async () => {
  const url = await newDatabase();
  await asRole(
    url,
    (role) => [`alter role ${role} set default_transaction_read_only = on`],
    async (own) => {
      const finding = findingOf(await examine(own), "PostgreSQL");
      expect(finding.status).toBe("failed");
      expect(finding.detail).toEndWith("takes no writes: it is a standby, or set to read only");
    },
  );
});

test("what its role may not do", async () => {
  const empty = await newDatabase();
  await run(empty, "revoke create on schema public from public");
  await asRole(
    empty,
    () => [],
    async (own) => {
      expect(findingOf(await examine(own), "rights")).toMatchObject({
        status: "failed",
        detail: "this role may make no tables",
      });
    },
  );
  const url = await migrated();
  await asRole(
    url,
    (role) => [`grant all on schema public to ${role}`],
    async (own) => {
      const finding = findingOf(await examine(own), "PostgreSQL");
      expect(finding.detail).toContain("permission denied for table schema_version");
      expect(finding.advice).toContain("own what is in its database");
    },
  );
  await asRole(
    url,
    (role) => [
      `grant all on schema public to ${role}`,
      `grant all on all tables in schema public to ${role}`,
      `revoke delete on messages, turns from ${role}`,
    ],
    async (own) => {
      expect(findingOf(await examine(own), "rights")).toMatchObject({
        status: "failed",
        detail: "this role may not read and write messages, turns",
      });
    },
  );
  await asRole(
    url,
    (role) => [
      "revoke create on schema public from public",
      `grant all on all tables in schema public to ${role}`,
    ],
    async (own) => {
      expect(findingOf(await examine(own), "rights").status).toBe("warning");
    },
  );
});

test("that its encoding can't hold every text", async () => {
  const url = await newDatabase();
  const name = `latin_${crypto.randomUUID().replaceAll("-", "")}`;
  await run(url, `create database ${name} encoding 'LATIN1' locale 'C' template template0`);
  const latin = Object.assign(new URL(url), { pathname: `/${name}` }).href;
  await asRole(
    latin,
    () => [],
    async (own) => {
      expect(findingOf(await examine(own), "encoding")).toMatchObject({
        status: "failed",
        detail: "the database is in LATIN1, which can't hold every text",
      });
    },
  );
  await run(url, `drop database ${name} with (force)`);
});

test("that there is no room for its connections", async () => {
  const url = await newDatabase();
  await asRole(
    url,
    (role) => [`alter role ${role} connection limit 20`],
    async (own) => {
      const found = await examine(own);
      expect(findingOf(found, "connections").status).toBe("warning");
      expect(findingOf(found, "connections").detail).toMatch(
        /^it takes 20, of which \d+ are taken; an instance may have 15: that is one instance/,
      );
      const fewer = { PARLEY_DATABASE_CONNECTIONS_MAX: "5" };
      expect(findingOf(await examine(own, fewer), "connections").detail).toEndWith(": room for 2 in all");
      const more = { PARLEY_DATABASE_CONNECTIONS_MAX: "50" };
      expect(findingOf(await examine(own, more), "connections").status).toBe("failed");
    },
  );
});

const facts: ServerFacts = {
  serverVersion: "14.0",
  serverMajor: 14,
  encoding: "UTF8",
  isReadOnly: false,
  version: 1,
  newest: 1,
  isOthers: false,
  isMigrating: false,
  hasKeys: false,
  mayCreateTables: true,
  forbiddenTables: [],
  connections: { max: 100, taken: 1 },
  hearsNotifications: true,
  clockAheadMs: 0,
};

test.each([
  ["PostgreSQL", { serverMajor: 13 }, "failed"],
  ["PostgreSQL", { serverMajor: 14 }, "ok"],
  ["database clock", { clockAheadMs: -6_000 }, "warning"],
  ["database clock", { clockAheadMs: 4_000 }, "ok"],
  ["notifications", { hearsNotifications: false }, "failed"],
  ["keys", { hasKeys: false }, "failed"],
  ["keys", { hasKeys: true }, "ok"],
] as const)("what it means for %s that %p", (name, seen, status) => {
  const config = loadConfig({ DATABASE_URL: "postgres://localhost/parley", PARLEY_HOST: "0.0.0.0" });
  const findings = examineServer(config, { ...facts, ...seen });
  expect(findingOf({ exitCode: 0, findings }, name)).toMatchObject({ status });
});

describe.skipIf(skipsPgBouncer())("through PgBouncer", () => {
  const ignored = "ignore_startup_parameters = statement_timeout,idle_in_transaction_session_timeout";

  test("that nothing is wrong where it pools by session", async () => {
    await using bouncer = await startPgBouncer(await newDatabase(), "pool_mode = session", ignored);
    const found = await findingsThrough(bouncer.url);
    expect(found.filter(({ status }) => status === "failed")).toEqual([]);
    expect(found.map(({ name }) => name)).toEqual(names);
  });

  test("that it refuses what a connection begins with", async () => {
    await using bouncer = await startPgBouncer(await newDatabase(), "pool_mode = session");
    const [, finding] = await findingsThrough(bouncer.url);
    expect(finding).toMatchObject({ name: "PostgreSQL", status: "failed" });
    expect(finding!.advice).toContain(ignored);
  });

  test("that it gives connections away between transactions", async () => {
    await using bouncer = await startPgBouncer(await newDatabase(), "pool_mode = transaction", ignored);
    const broken = (await findingsThrough(bouncer.url)).filter(({ status }) => status === "failed");
    expect(broken.length).toBe(1);
    expect(broken[0]!.advice).toStartWith("a pooler between must pool by session");
  });

  async function findingsThrough(url: string): Promise<Finding[]> {
    const env = { PATH: process.env.PATH ?? "", DATABASE_URL: url };
    const { stdout } = await runParley(["doctor", "--json", "--timeout", "5"], env);
    return (JSON.parse(stdout) as { findings: Finding[] }).findings;
  }
});
