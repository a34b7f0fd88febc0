/** Requests that are counted in PostgreSQL: three instances have one quota, and none waits for a database that is away. */
import { afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Gcra } from "../../src/limits/gcra.ts";
import { Database } from "../../src/storage/postgres/database.ts";
import { clearOld, openPostgresRateLimits, type RateLimits } from "../../src/storage/postgres/rate-limits.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();
const minute = { requests: 7, windowSeconds: 60 };

let url: string;
const opened: RateLimits[] = [];
const failures: unknown[] = [];

beforeAll(async () => {
  url = await newDatabase();
  await (await openPostgresStore(url)).close();
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((limits) => limits.close()));
  failures.length = 0;
});

/** Where it isn't about how long they wait, they wait long enough for a busy machine. */
function instances(count: number, { at = url, waitMsMax = 10_000 } = {}): RateLimits["limiters"][] {
  const made = Array.from({ length: count }, () =>
    openPostgresRateLimits(at, (error) => failures.push(error), waitMsMax),
  );
  opened.push(...made);
  return made.map(({ limiters }) => limiters);
}

let made = 0;
const newName = (): string => `name ${++made}`;
const sql = () => new Bun.SQL(url, { max: 1 });

describe("a quota of several instances", () => {
  test.each([7, 10_000])("of %d lets in as many as it has, also when all ask at once", async (requests) => {
    const three = instances(3);
    const name = newName();
    const long = { requests, windowSeconds: 3_600 };
    if (requests > 100) {
      // All but 7 are taken, one by one, as float numbers add up.
      await using db = sql();
      const each = (long.windowSeconds * 1000) / requests;
      await three[0]!.key.take(name, long);
      await db`update rate_limits set ahead_ms = ${each * (requests - 7)}, at = clock_timestamp()`;
    }
    const taken = await Promise.all(
      Array.from({ length: 100 }, (_, index) => three[index % 3]!.key.take(name, long)),
    );
    expect(taken.filter(({ allowed }) => allowed)).toHaveLength(7);
    expect(failures).toEqual([]);
  });

  test("isn't decided upon while somebody else takes of it", async () => {
    const [limiters] = instances(1);
    const name = newName();
    const two = { requests: 2, windowSeconds: 60 };
    await using db = sql();
    await db`delete from rate_limits`;
    await limiters!.key.take(name, two);
    await using watching = sql();
    const taken = await db.begin(async (other) => {
      const [{ row }] = await other`select name as row from rate_limits`;
      await other`select take_request(${row}, 30000, 60000, 0)`;
      const taken = limiters!.key.take(name, two);
      while ((await watching`select from pg_locks where not granted`).length === 0) await Bun.sleep(5);
      return { taken };
    });
    expect((await taken.taken).allowed).toBe(false);
  });

  test("has the same numbers as one in memory", async () => {
    const [one, other] = instances(2);
    const memory = new Gcra();
    const name = newName();
    const rounded = ({
      allowed,
      remaining,
      resetSeconds,
      retryAfterSeconds,
    }: Awaited<ReturnType<Gcra["take"]>>) => ({
      allowed,
      remaining,
      reset: Math.ceil(resetSeconds),
      retry: Math.ceil(retryAfterSeconds),
    });
    for (let count = 0; count < 9; count++) {
      const [here, there] = count % 2 === 0 ? [one!, other!] : [other!, one!];
      const taken = rounded(await here.user.take(name, minute));
      expect(taken).toEqual(rounded(await memory.take(name, minute)));
      expect(rounded(await there.user.look(name, minute))).toEqual(rounded(await memory.look(name, minute)));
    }
  });

  test("is each name's own, and each kind's", async () => {
    const [limiters] = instances(1);
    const name = newName();
    while ((await limiters!.key.take(name, minute)).allowed);
    expect((await limiters!.user.take(name, minute)).remaining).toBe(6);
    expect((await limiters!.key.take(newName(), minute)).remaining).toBe(6);
  });

  test("comes back when it said that it would", async () => {
    const [one, other] = instances(2);
    const name = newName();
    const quick = { requests: 2, windowSeconds: 1 };
    while ((await one!.address.take(name, quick)).allowed);
    const { allowed, retryAfterSeconds } = await other!.address.take(name, quick);
    expect(allowed).toBe(false);
    await Bun.sleep(retryAfterSeconds * 1000 + 5);
    expect((await other!.address.take(name, quick)).allowed).toBe(true);
  });
});

describe("the database", () => {
  test("isn't asked about who is refused anyway", async () => {
    const [one, other] = instances(2);
    const name = newName();
    while ((await one!.unauthorized.take(name, minute)).allowed);
    await using db = sql();
    await db`delete from rate_limits`;
    expect((await one!.unauthorized.look(name, minute)).allowed).toBe(false);
    expect((await one!.unauthorized.take(name, minute)).allowed).toBe(false);
    expect((await other!.unauthorized.take(name, minute)).remaining).toBe(6);
  });

  test("is no loss to a request: where it can't be reached, each instance counts for itself", async () => {
    const unreachable = new URL(url);
    unreachable.port = "9";
    const [limiters] = instances(1, { at: unreachable.href });
    const name = newName();
    const allowed: boolean[] = [];
    for (let count = 0; count < 9; count++) allowed.push((await limiters!.key.take(name, minute)).allowed);
    expect(allowed).toEqual([true, true, true, true, true, true, true, false, false]);
    expect((await limiters!.key.look(newName(), minute)).allowed).toBe(true);
    expect(failures.length).toBeGreaterThan(0);
  });

  test("holds up no request where it doesn't answer, and counts on when it does", async () => {
    const [one] = instances(1, { waitMsMax: 1_000 });
    const [other] = instances(1);
    const name = newName();
    await one!.key.take(name, minute);
    await using db = sql();
    await db.begin(async (locked) => {
      await locked`lock table rate_limits in access exclusive mode`;
      // It goes on from what it knew.
      expect((await one!.key.take(name, minute)).remaining).toBe(5);
      expect((await one!.key.take(name, minute)).remaining).toBe(4);
    });
    expect(failures.length).toBe(1);
    await other!.key.take(name, minute);
    const until = performance.now() + 5_000;
    while ((await one!.key.look(name, minute)).remaining !== 4) {
      if (performance.now() > until) throw new Error("the database isn't asked again");
      await Bun.sleep(50);
    }
  });

  test("keeps quotas until they are whole again, and no names", async () => {
    const [limiters] = instances(1);
    await using db = sql();
    await db`delete from rate_limits`;
    await limiters!.address.take("203.0.113.7", { requests: 100, windowSeconds: 1 });
    await limiters!.address.take("203.0.113.8", { requests: 1, windowSeconds: 60 });
    await Bun.sleep(20);
    const database = new Database(url, {
      connectionsMax: 1,
      waitingMax: 9,
      statementSecondsMax: 5,
      waitSecondsMax: 5,
    });
    await clearOld(database);
    await database.close();
    const rows: { name: string; ahead_ms: number }[] = await db`select name, ahead_ms from rate_limits`;
    expect(rows.map(({ ahead_ms }) => ahead_ms)).toEqual([60_000]);
    expect(JSON.stringify(rows)).not.toContain("203.0.113");
  });
});
