/** Work in the background that one of several instances does: who has it, who gets it next, and who has lost it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Claims } from "../src/claims.ts";
import type { Log } from "../src/log.ts";
import { openPostgresStore } from "../src/storage/postgres/store.ts";
import { openSqliteStore } from "../src/storage/sqlite/store.ts";
import type { Store } from "../src/storage/store.ts";
import { directoriesOfFile } from "./support/directories.ts";
import { databasesOfFile, PostgresServer } from "./support/postgres.ts";
import { testMsMax, until } from "./support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();
const newDirectory = directoriesOfFile();

const logged: Record<string, unknown>[] = [];
const note = (line: object): void => void logged.push({ ...line });
const log = { info: note, warn: note, error: note } as unknown as Log;
const never = new AbortController().signal;

let url: string;
let database: Bun.SQL;
let stores: Store[];
let task = "";
let tasks = 0;
const newTask = (): string => (task = `task ${++tasks}`);

beforeAll(async () => {
  url = await newDatabase();
  stores = await Promise.all([openPostgresStore(url), openPostgresStore(url), openPostgresStore(url)]);
  database = new Bun.SQL(url, { max: 1 });
});
afterAll(async () => {
  await database?.close();
  await Promise.all((stores ?? []).map((store) => store.close()));
});

/** The claims of three instances. */
const claimsOf = (seconds?: number): Claims[] =>
  stores.map((store, index) => new Claims(store, `inst_${index}`, log, seconds));

/** Work that goes on until it is told to end, or its signal is aborted. */
function openWork() {
  const begun = Promise.withResolvers<AbortSignal>();
  const end = Promise.withResolvers<string>();
  return {
    begun: begun.promise,
    end: () => end.resolve("done"),
    work: (signal: AbortSignal): Promise<string> => {
      begun.resolve(signal);
      signal.addEventListener("abort", () => end.reject(signal.reason));
      return end.promise;
    },
  };
}

const holderOf = async (): Promise<string | null> =>
  (await database`select holder from claims where task = ${task}`)[0]?.holder ?? null;

/** Until the clock of the database has gone on so far. */
async function timePasses(seconds: number): Promise<void> {
  const [{ at }] = await database`select clock_timestamp() + make_interval(secs => ${seconds}) as at`;
  await until(
    `${seconds} s have passed`,
    async () => (await database`select clock_timestamp() > ${at} as passed`)[0].passed,
  );
}

describe("a piece of work", () => {
  test("is done by one of those who come at once, and then anybody's", async () => {
    newTask();
    for (let round = 0; round < 5; round++) {
      const held = openWork();
      let atIt = 0;
      const outcomes = claimsOf().map((claims) =>
        claims.during(task, never, async (signal) => {
          atIt++;
          return await held.work(signal);
        }),
      );
      await held.begun;
      // The others are refused while one is at it.
      let refused = 0;
      for (const outcome of outcomes) void outcome.then((told) => (refused += Number(told === null)));
      await until("the others are refused", () => refused === 2);
      held.end();
      expect((await Promise.all(outcomes)).filter((outcome) => outcome === "done")).toEqual(["done"]);
      expect(atIt).toBe(1);
      expect(await holderOf()).toBeNull();
    }
  });

  test("is its instance's for as long as it goes on, however long that is", async () => {
    newTask();
    const [one, two] = claimsOf(1) as [Claims, Claims];
    const held = openWork();
    const outcome = one.during(task, never, held.work);
    await held.begun;
    for (let second = 0; second < 3; second++) {
      await timePasses(1);
      expect(await two.during(task, never, async () => "taken")).toBeNull();
    }
    held.end();
    expect(await outcome).toBe("done");
  });

  test("that fails is let go of, and tells why", async () => {
    newTask();
    const [one, two] = claimsOf() as [Claims, Claims];
    const failing = one.during(task, never, () => Promise.reject(new Error("out of order")));
    await expect(failing).rejects.toThrow("out of order");
    expect(await two.during(task, never, async () => "taken")).toBe("taken");
  });

  test("ends with the signal that it was given, and is let go of", async () => {
    newTask();
    const [one, two] = claimsOf() as [Claims, Claims];
    const held = openWork();
    const ending = new AbortController();
    const outcome = one.during(task, ending.signal, held.work);
    await held.begun;
    ending.abort(new Error("closing"));
    await expect(outcome).rejects.toThrow("closing");
    expect(await two.during(task, never, async () => "taken")).toBe("taken");
  });

  test("of an instance that has died is another's when its time is up, and not before", async () => {
    newTask();
    expect(await stores[0]!.claim(task, "inst_dead", 2)).toBe(true);
    const [, two] = claimsOf() as [Claims, Claims];
    expect(await two.during(task, never, async () => "taken")).toBeNull();
    await timePasses(2);
    expect(await two.during(task, never, async () => "taken")).toBe("taken");
  });

  test("that another instance has taken meanwhile is ended, and stays theirs", async () => {
    newTask();
    const [one] = claimsOf(1) as [Claims];
    const held = openWork();
    const outcome = one.during(task, never, held.work);
    const signal = await held.begun;
    await database`update claims set holder = 'inst_other', until = clock_timestamp() + interval '1 hour'
      where task = ${task}`;
    expect(await outcome).toBeNull();
    expect(signal.aborted).toBe(true);
    expect(await holderOf()).toBe("inst_other");
    expect(logged).toContainEqual({ event: "claim_lost", task });
  });

  test("is nobody's any more, for who has it, when the database hasn't heard of them for so long", async () => {
    await using server = await PostgresServer.start();
    const store = await openPostgresStore(await server.database());
    const claims = new Claims(store, "inst_cut_off", log, 1);
    const held = openWork();
    const outcome = claims.during(newTask(), never, held.work);
    const signal = await held.begun;
    await server.stop();
    expect(await outcome).toBeNull();
    expect(signal.aborted).toBe(true);
    await store.close();
  });
});

describe("work that recurs", () => {
  test("is done again and again, also after it has failed, until it is closed", async () => {
    newTask();
    const [one] = claimsOf() as [Claims];
    let times = 0;
    const recurring = one.every(task, 10, async () => {
      if (++times === 2) throw new Error("not this time");
    });
    await until("it was done four times", () => times >= 4);
    await recurring.close();
    const then = times;
    expect(logged).toContainEqual({ task, err: new Error("not this time") });
    expect(await holderOf()).toBeNull();
    await timePasses(0.1);
    expect(times).toBe(then);
  });

  test("is done by one instance at a time", async () => {
    newTask();
    let atIt = 0;
    let most = 0;
    let times = 0;
    const all = claimsOf().map((claims) =>
      claims.every(task, 1, async () => {
        most = Math.max(most, ++atIt);
        await Bun.sleep(5);
        atIt--;
        times++;
      }),
    );
    await until("it was done twenty times", () => times >= 20);
    await Promise.all(all.map((each) => each.close()));
    expect(most).toBe(1);
  });

  test("ends what is under way when it is closed", async () => {
    newTask();
    const [one] = claimsOf() as [Claims];
    const held = openWork();
    const recurring = one.every(task, 10, async (signal) => void (await held.work(signal)));
    await held.begun;
    await recurring.close();
    expect(await holderOf()).toBeNull();
  });
});

test("on SQLite, where there is one instance, all work is its own", async () => {
  const store = await openSqliteStore(newDirectory());
  const claims = new Claims(store, "inst_only", log);
  expect(await claims.during(newTask(), never, async () => "done")).toBe("done");
  await store.close();
});
