/** What becomes of queries when the database fails: repeated where that is safe, a typed error where it isn't. */
import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { AppError } from "../../src/errors.ts";
import { Database, type DatabaseOptions } from "../../src/storage/postgres/database.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { StorageUnusableError } from "../../src/storage/unusable.ts";
import { expectCode, instance, scope, turnEnd, turnStart } from "../contracts/records.ts";
import { PostgresServer } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let server: PostgresServer;
let url: string;
beforeAll(async () => {
  server = await PostgresServer.start();
});
beforeEach(async () => {
  url = await server.database();
});
afterAll(() => server[Symbol.asyncDispose]());

const open = (changes: Partial<DatabaseOptions> = {}) => {
  const options = { connectionsMax: 4, waitingMax: 100, statementSecondsMax: 20, waitSecondsMax: 10 };
  const database = new Database(url, { ...options, ...changes });
  return Object.assign(database, { [Symbol.asyncDispose]: () => database.close() });
};

/** Ends all connections of a database, as a failover or an operator does. */
async function cutConnections(): Promise<void> {
  await using sql = new Bun.SQL(server.url("postgres"), { max: 1 });
  const name = new URL(url).pathname.slice(1);
  await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
}

/** Resolves when a query of the test's database that holds this text is under way. */
async function underWay(text: string): Promise<void> {
  await using sql = new Bun.SQL(server.url("postgres"), { max: 1 });
  const name = new URL(url).pathname.slice(1);
  for (;;) {
    const [row] = await sql`select count(*)::int4 as count from pg_stat_activity
      where datname = ${name} and state = 'active' and query like ${`%${text}%`}`;
    if (row.count > 0) return;
    await Bun.sleep(5);
  }
}

describe("a connection that is lost", () => {
  test("before a read: another one is made", async () => {
    await using database = open();
    for (let round = 0; round < 3; round++) {
      expect(await database.rows("select 1 as one")).toMatchObject([{ one: 1 }]);
      await cutConnections();
    }
  });

  test("in the middle of a read: it is read again", async () => {
    await using database = open();
    const read = database.rows("select pg_sleep(0.5), 'done' as word");
    await underWay("pg_sleep(0.5)");
    await cutConnections();
    expect(await read).toMatchObject([{ word: "done" }]);
  });

  test("in the middle of a write that mustn't be repeated: a typed error, and it isn't", async () => {
    await using database = open();
    await database.rows("create table written (n int4)");
    const write = database.change("insert into written select 1 from (select pg_sleep(0.5)) s");
    const refused = expectCode(write, "storage_unavailable");
    await underWay("insert into written");
    await cutConnections();
    await refused;
    expect(await database.rows("select n from written")).toEqual([]);
  });

  test("in the middle of a transaction that may be repeated: it is done once", async () => {
    await using database = open();
    await database.rows("create table written (n int4 primary key)");
    let tries = 0;
    const write = database.transaction(
      async ({ rows }) => {
        tries++;
        await rows("insert into written values (1) on conflict do nothing");
        await rows("select pg_sleep(0.5)");
      },
      { repeatable: true },
    );
    await underWay("pg_sleep(0.5)");
    await cutConnections();
    await write;
    expect(tries).toBe(2);
    expect(await database.rows("select n from written")).toEqual([{ n: 1 }]);
  });

  test("in the middle of another transaction: nothing of it is left", async () => {
    await using database = open();
    await database.rows("create table written (n int4)");
    const write = database.transaction(async ({ rows }) => {
      await rows("insert into written values (1)");
      await rows("select pg_sleep(0.5)");
    });
    const refused = expectCode(write, "storage_unavailable");
    await underWay("pg_sleep(0.5)");
    await cutConnections();
    await refused;
    expect(await database.rows("select n from written")).toEqual([]);
  });
});

test("transactions that wait for each other both end: the one that is undone is done again", async () => {
  await using database = open();
  await database.rows("create table counts (name text, n int4)");
  await database.rows("insert into counts values ('a', 0), ('b', 0)");
  const both = Promise.withResolvers<void>();
  let first = 0;
  let tries = 0;
  const count = (...names: string[]) =>
    database.transaction(async ({ rows }) => {
      tries++;
      await rows("update counts set n = n + 1 where name = $name", { name: names[0]! });
      if (++first >= 2) both.resolve();
      await both.promise;
      await rows("update counts set n = n + 1 where name = $name", { name: names[1]! });
    });
  await Promise.all([count("a", "b"), count("b", "a")]);
  expect(tries).toBe(3);
  expect(await database.rows("select n from counts")).toMatchObject([{ n: 2 }, { n: 2 }]);
});

test("a serialization failure is tried again, a few times", async () => {
  await using database = open();
  await database.rows("create sequence tries");
  await database.rows(
    `create function fails(times int4) returns int8 language plpgsql as $$
     declare n int8 := nextval('tries');
     begin
       if n <= times then raise exception 'could not serialize' using errcode = '40001'; end if;
       return n;
     end $$`,
  );
  expect(await database.change("select fails(2)::float8 as n")).toMatchObject([{ n: 3 }]);
  await expectCode(database.change("select fails(100)"), "storage_unavailable");
});

test("a query that takes too long is ended by the server, and the connection serves the next", async () => {
  await using database = open({ connectionsMax: 2, statementSecondsMax: 1 });
  await expectCode(database.rows("select pg_sleep(30)"), "storage_unavailable");
  expect(await database.rows("select 1 as one")).toMatchObject([{ one: 1 }]);
});

describe("when all connections are taken", () => {
  test("a query waits for one, for so long, and is then refused as overloaded", async () => {
    await using database = open({ connectionsMax: 2, waitSecondsMax: 1 });
    const slow = [1, 2].map(() => database.rows("select pg_sleep(2)"));
    await underWay("pg_sleep(2)");
    await expectCode(database.rows("select 1"), "overloaded");
    await Promise.all(slow);
    expect(await database.rows("select 1 as one")).toMatchObject([{ one: 1 }]);
  });

  test("no more than so many wait", async () => {
    await using database = open({ connectionsMax: 2, waitingMax: 10 });
    const all = await Promise.allSettled(
      Array.from({ length: 30 }, () => database.rows("select pg_sleep(0.2)")),
    );
    const refused = all.flatMap((each) =>
      each.status === "rejected" ? [(each.reason as AppError).code] : [],
    );
    expect(refused).toEqual(Array.from({ length: 20 }, () => "overloaded"));
    expect(database.waiting).toBe(0);
  });

  test("a slow query holds nobody else up", async () => {
    await using database = open({ connectionsMax: 2 });
    const slow = database.rows("select pg_sleep(1)").then(() => "slow");
    await underWay("pg_sleep(1)");
    const others = Promise.all(Array.from({ length: 50 }, () => database.rows("select 1"))).then(
      () => "others",
    );
    expect(await Promise.race([slow, others])).toBe("others");
    await slow;
  });
});

test("turns start and end while all else waits for connections that slow queries hold", async () => {
  const store = await openPostgresStore(url, { connectionsMax: 4 });
  await using own = open();
  // Whatever asks for API keys waits.
  await own.transaction(async ({ rows }) => {
    await rows("lock table keys in access exclusive mode");
    const lists = Array.from({ length: 20 }, () => store.keys(null, { limit: 1, after: null }));
    await underWay("from keys");
    const { turn } = await store.startTurn(scope, turnStart());
    expect(await store.endTurn(turn.id, instance, turnEnd(), Date.now())).toBe(true);
    expect(store.waiting().queries).toBe(20);
    await rows("commit");
    await Promise.all(lists);
  });
  await store.close();
});

test("a server that is gone is a typed error, and queries go on when it is back", async () => {
  await using own = await PostgresServer.start();
  url = await own.database();
  await using database = open();
  await database.rows("select 1");
  await own.stop();
  await expectCode(database.rows("select 1"), "storage_unavailable");
  await expectCode(database.change("select 1"), "storage_unavailable");
  await own.startAgain();
  expect(await database.rows("select 1 as one")).toMatchObject([{ one: 1 }]);
});

test("a standby, which a server becomes by a failover, is told as unavailable", async () => {
  await using database = open();
  const readOnly = database.transaction(async ({ rows }) => {
    await rows("set transaction read only");
    await rows("create table never (n int4)");
  });
  await expectCode(readOnly, "storage_unavailable");
});

describe("a database is refused", () => {
  const refused = async (reason: RegExp): Promise<void> => {
    const error = await openPostgresStore(url).then(
      () => null,
      (thrown: Error) => thrown,
    );
    expect(error).toBeInstanceOf(StorageUnusableError);
    expect(error!.message).toMatch(reason);
    expect(error!.message).not.toContain(new URL(url).password);
  };

  test("that a newer Parley wrote, and left as it is", async () => {
    await (await openPostgresStore(url)).close();
    await using database = open();
    await database.rows("update schema_version set version = 999");
    await refused(/is of version 999, this Parley knows \d+: use a newer one/);
    expect(await database.rows("select version from schema_version")).toMatchObject([{ version: 999 }]);
  });

  test("that holds another program's tables", async () => {
    await using database = open();
    await database.rows("create table orders (n int4)");
    await refused(/another program's tables/);
    expect(await database.rows("select tablename from pg_tables where schemaname = 'public'")).toMatchObject([
      { tablename: "orders" },
    ]);
  });

  test("that isn't there, or doesn't let Parley in", async () => {
    const there = url;
    url = server.url("absent");
    await refused(/can't be used: .*"absent" does not exist/);
    url = there.replace(":parley@", ":wrong@");
    await refused(/can't be used: .*authentication failed/);
  });
});

test("instances that start at once apply the migrations once", async () => {
  const upgrades: unknown[] = [];
  const options = { onUpgrade: (upgrade: unknown) => upgrades.push(upgrade) };
  const stores = await Promise.all(Array.from({ length: 5 }, () => openPostgresStore(url, options)));
  expect(upgrades.length).toBe(1);
  const secrets = await Promise.all(stores.map((store) => store.ticketSecret()));
  expect(new Set(secrets).size).toBe(1);
  await Promise.all(stores.map((store) => store.close()));
});
