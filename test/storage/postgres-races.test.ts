/** A hundred requests race over three instances of one database: what is limited is limited for all of them together. */
import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { newId } from "../../src/ids.ts";
import { counterScope } from "../../src/storage/budget-rules.ts";
import type { BudgetLimits, BudgetSubject, Reservation } from "../../src/storage/budget-store.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import type { Store, TurnStart } from "../../src/storage/store.ts";
import { instance, newConversation, scope, turnEnd, turnStart } from "../contracts/records.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const requests = 100;
const newDatabase = databasesOfFile();
const none: BudgetLimits = { tokens_day: null, tokens_month: null, nano_usd_day: null, nano_usd_month: null };

let url: string;
let stores: Store[];

beforeAll(async () => {
  url = await newDatabase();
  await using sql = new Bun.SQL(url, { max: 1 });
  // Who waits for each other does so until a statement takes too long: a deadlock fails the test.
  const [{ name }] = await sql`select current_database() as name`;
  await sql.unsafe(`alter database ${name} set deadlock_timeout = '10min'`);
  stores = await Promise.all([openPostgresStore(url), openPostgresStore(url), openPostgresStore(url)]);
});
afterAll(async () => {
  await Promise.all((stores ?? []).map((store) => store.close()));
});

/** What each of a hundred starts came to, sent to the three in turn: what it resolved to, or the code of its error. */
const race = async (of: (index: number) => Partial<TurnStart>) =>
  await Promise.all(
    Array.from({ length: requests }, async (_, index) => {
      const start = turnStart({ instance_id: `inst_${index % 3}`, ...of(index) });
      try {
        return await stores[index % 3]!.startTurn(scope, start);
      } catch (error) {
        if (error instanceof AppError) return error.code;
        throw error;
      }
    }),
  );

const counts = (outcomes: unknown[]): Record<string, number> => {
  const sums: Record<string, number> = {};
  for (const outcome of outcomes) {
    const name = typeof outcome === "string" ? outcome : "started";
    sums[name] = (sums[name] ?? 0) + 1;
  }
  return sums;
};

describe("of a hundred starts over three instances", () => {
  let made = 0;
  let name: string;
  beforeEach(() => {
    name = `racer ${++made}`;
  });

  test("as many fit a budget as it has room for, whoever else pays with them", async () => {
    const reservation: Reservation = {
      tokens: 10,
      nano_usd: 0,
      defaults: { user: none, key: { ...none, tokens_day: 100 }, workspace: { ...none, tokens_month: 1e9 } },
    };
    const now_ms = Date.UTC(2031, 0, 1);
    // Each user's counters are new, the key's and the workspace's everybody's.
    const outcomes = await race((index) => ({
      reservation,
      now_ms,
      key_id: name,
      user_id: `${name}: ${(index * 37) % 11}`,
    }));
    expect(counts(outcomes)).toEqual({ started: 10, budget_exhausted: 90 });
    const subject = { workspace_id: "default", scope: "key", subject: name } as const;
    const daily = { ...none, tokens_day: 100 };
    expect(await stores[0]!.budgetState(subject, daily, now_ms)).toMatchObject([{ used: 0, reserved: 100 }]);
    const started = outcomes.filter((outcome) => typeof outcome !== "string");
    await Promise.all(
      started.map(({ turn }, index) => {
        const ended = turnEnd({
          usage: { prompt_tokens: 7, completion_tokens: 0, total_tokens: 7, estimated: false },
        });
        const at = outcomes.findIndex((outcome) => typeof outcome !== "string" && outcome.turn === turn) % 3;
        return stores[index % 3]!.endTurn(turn.id, `inst_${at}`, ended, now_ms);
      }),
    );
    expect(await stores[1]!.budgetState(subject, daily, now_ms)).toMatchObject([{ used: 70, reserved: 0 }]);
  });

  test("all start that have room, and end, and nobody waits for ever", async () => {
    const all = { ...none, tokens_day: 1e9 };
    const reservation: Reservation = {
      tokens: 1,
      nano_usd: 0,
      defaults: { user: all, key: all, workspace: all },
    };
    for (let round = 0; round < 3; round++) {
      const now_ms = Date.UTC(2032, 0, 1 + round);
      const outcomes = await race((index) => ({
        reservation,
        now_ms,
        key_id: `${name}: ${(index * 53 + round) % 7}`,
        user_id: `${name}: ${(index * 37 + round) % 13}`,
      }));
      expect(counts(outcomes)).toEqual({ started: requests });
      const ends = outcomes.map((outcome, index) =>
        typeof outcome === "string"
          ? false
          : stores[(index + round) % 3]!.endTurn(outcome.turn.id, `inst_${index % 3}`, turnEnd(), now_ms),
      );
      expect((await Promise.all(ends)).every(Boolean)).toBe(true);
    }
  });

  test("one is the turn of an idempotency key, and the others find it", async () => {
    const keys = ["one", "other", "third"].map((key) => `${name} ${key}`);
    const outcomes = await race((index) => ({
      user_id: name,
      idempotency: {
        principal_id: name,
        operation: "turn",
        key: keys[Math.floor(index / 3) % 3]!,
        body_hash: "h",
      },
    }));
    const turns = outcomes.filter((outcome) => typeof outcome !== "string");
    expect(turns).toHaveLength(requests);
    expect(turns.filter(({ replayed }) => !replayed)).toHaveLength(3);
    expect(new Set(turns.map(({ turn }) => turn.id)).size).toBe(3);
    for (const { turn } of turns) {
      const conversation = await stores[0]!.conversation(scope, turn.conversation_id);
      expect(conversation).toMatchObject({ message_count: 2, active_turn_id: turn.id });
    }
  });

  test("one runs in each conversation", async () => {
    const ids = await Promise.all(
      [0, 1, 2, 3].map(async () => {
        const { conversation } = await stores[0]!.createConversation(
          scope,
          newConversation({ user_id: name }),
        );
        return conversation.id;
      }),
    );
    const outcomes = await race((index) => ({ user_id: name, conversation_id: ids[(index * 7) % 4]! }));
    expect(counts(outcomes)).toEqual({ started: 4, turn_in_progress: 96 });
  });

  test("as many hold a slot as may, and as many again when those have ended", async () => {
    const slots = [
      { what: "user", name: `user ${name}`, quota: 7 },
      { what: "key", name: `key ${name}`, quota: 50 },
    ] satisfies TurnStart["slots"];
    for (let round = 0; round < 2; round++) {
      const outcomes = await race((index) => ({
        user_id: name,
        slots: index % 2 === 0 ? slots : slots.toReversed(),
      }));
      expect(counts(outcomes)).toEqual({ started: 7, rate_limited: 93 });
      const ends = outcomes.map((outcome, index) =>
        typeof outcome === "string"
          ? true
          : stores[2 - (index % 3)]!.endTurn(outcome.turn.id, `inst_${index % 3}`, turnEnd(), Date.now()),
      );
      expect((await Promise.all(ends)).every(Boolean)).toBe(true);
    }
  });
});

test("a start that is sent again, because nobody knew of its commit, takes nothing more and tells the same", async () => {
  const now_ms = Date.UTC(2033, 0, 1);
  const user_id = "twice";
  const limits = { ...none, tokens_day: 100 };
  const start = turnStart({
    user_id,
    now_ms,
    reservation: { tokens: 40, nano_usd: 0, defaults: { user: limits, key: none, workspace: none } },
    slots: [{ what: "user", name: `user ${user_id}`, quota: 1 }],
  });
  const first = await stores[0]!.startTurn(scope, start);
  expect(await stores[1]!.startTurn(scope, start)).toEqual(first);
  const subject = { workspace_id: "default", scope: "user", subject: user_id } as const;
  expect(await stores[2]!.budgetState(subject, limits, now_ms)).toMatchObject([{ used: 0, reserved: 40 }]);
});

test("what a turn held is free again when others have ended it, because its instance died", async () => {
  const slots = [{ what: "user" as const, name: "user of the dead", quota: 1 }];
  const start = () =>
    turnStart({ user_id: "of the dead", slots, instance_id: "inst_dead", lease_seconds: 0 });
  const { turn } = await stores[0]!.startTurn(scope, start());
  await expect(stores[1]!.startTurn(scope, start())).rejects.toThrow("rate_limited");
  expect(await stores[1]!.endOrphan(turn.id, "inst_dead", turnEnd(), Date.now())).toBe(true);
  expect((await stores[1]!.startTurn(scope, start())).slots).toEqual([1]);
});

describe("what one instance knows of another", () => {
  test("a key that was revoked is revoked, at once and for all", async () => {
    const key = {
      id: newId("key"),
      secret_hash: "a".repeat(64),
      name: "web",
      workspace_id: "default",
      role: "service" as const,
      user_id: null,
      expires_at: null,
      now_ms: Date.now(),
    };
    await stores[0]!.createKey(key);
    const before = Math.floor(Date.now() / 1000) - 1;
    const revoked = await Promise.all(
      Array.from({ length: 30 }, (_, index) =>
        stores[index % 3]!.revokeKey(null, key.id, Date.now() + index * 1_000),
      ),
    );
    const times = new Set(revoked.map((record) => record?.revoked_at));
    expect(times.size).toBe(1);
    for (const store of stores) {
      expect((await store.keyOfHash(key.secret_hash))!.revoked_at).toBe([...times][0]!);
      expect(await store.keysRevokedSince(before)).toEqual([key.id]);
    }
  });
});

test("what stands for a user, key or workspace among the counters is the same as on SQLite", async () => {
  const now_ms = Date.UTC(2030, 5, 15);
  const user_id = "Zoë 💜 \u{1f469}\u200d\u{1f4bb} o'Neil\\x00";
  const { turn } = await stores[0]!.startTurn(
    { workspace_id: "default", user_id: null },
    turnStart({ user_id, key_id: "key of Zoë", now_ms }),
  );
  await stores[0]!.endTurn(turn.id, instance, turnEnd(), now_ms);
  await using sql = new Bun.SQL(url, { max: 1 });
  const rows: { scope: string }[] = await sql`select scope from budget_counters where period = '2030-06-15'`;
  const scopes = [
    ["user", user_id],
    ["key", "key of Zoë"],
    ["workspace", "default"],
  ].map(([scope, subject]) => counterScope({ workspace_id: "default", scope, subject } as BudgetSubject));
  expect(rows.map(({ scope }) => scope).toSorted()).toEqual(scopes.toSorted());
});
