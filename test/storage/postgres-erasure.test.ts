/** Erasing from PostgreSQL: bit by bit, by one instance or by another after it, and what becomes of the room. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import type { Store } from "../../src/storage/store.ts";
import { expectCode, instance, scope, storeDocument, turnEnd, turnStart } from "../contracts/records.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

/** More than a few times what one statement takes away. */
const messages = 1_400;
const newDatabase = databasesOfFile();

let database: Bun.SQL;
let one: Store;
let two: Store;

beforeAll(async () => {
  const url = await newDatabase();
  one = await openPostgresStore(url);
  two = await openPostgresStore(url);
  database = new Bun.SQL(url, { max: 2 });
  // How many rows each statement takes away.
  await database.unsafe(`
    create table deletions (rows bigint not null);
    create function note_taken() returns trigger language plpgsql as $$
    begin
      insert into deletions select count(*) from gone;
      return null;
    end $$;
    create trigger note_taken after delete on messages referencing old table as gone
      for each statement execute function note_taken();`);
});
afterAll(async () => {
  await database?.close();
  await one?.close();
  await two?.close();
});

/** A turn, and so many more messages in its conversation than it has. */
async function longConversation(user_id: string) {
  const start = turnStart({ user_id, message: "marmot" });
  const { turn } = await one.startTurn(scope, start);
  await one.endTurn(turn.id, instance, turnEnd({ message: "marmot" }), start.now_ms);
  const [{ n }] = await database`
    update conversations set message_count = ${messages} where id = ${turn.conversation_id} returning n`;
  await database`
    insert into messages (id, conversation_n, turn_id, seq, role, content, status, model, tokens, created_at)
    select 'msg_' || ${user_id}::text || i, ${n}, 'turn_' || ${user_id}::text || i, i, 'user', 'marmot ' || i, 'completed',
      null, 1, 1
    from generate_series(3, ${messages}::int) i`;
  return { turn, conversation_id: turn.conversation_id, user: { workspace_id: "default", user_id } };
}

const leftOf = async (conversation_id: string): Promise<number> =>
  (
    await database`select count(*)::int as rows from messages m join conversations c on c.n = m.conversation_n
    where c.id = ${conversation_id}`
  )[0].rows;

/** The most rows that one statement has taken away since the last call, and how many all of them have. */
async function takenSince(): Promise<{ most: number; all: number }> {
  const [row] = await database`with gone as (delete from deletions returning rows)
    select coalesce(max(rows), 0)::int as most, coalesce(sum(rows), 0)::int as all from gone`;
  return row;
}

describe("a long conversation", () => {
  test("that is deleted goes bit by bit, and is gone before the first", async () => {
    const { turn, conversation_id, user } = await longConversation("deleter");
    const memory = {
      id: newId("memory"),
      text: "Likes marmots.",
      kind: "fact",
      slot: null,
      tokens: 3,
      source_message_id: turn.user_message_id,
      supersedes: [],
    } as const;
    await one.saveMemories(user, [{ ...memory, supersedes: [] }], null, 10, 0);
    await takenSince();
    expect(await one.deleteConversation(scope, conversation_id)).toBe(true);
    expect(await one.deleteConversation(scope, conversation_id)).toBe(false);
    const { most, all } = await takenSince();
    expect(all).toBe(messages);
    expect(most).toBeLessThanOrEqual(messages / 4);
    expect(await one.turn(scope, turn.id)).toBeNull();
    expect((await one.memory(user, memory.id))?.source_message_id).toBeNull();
  });

  test("whose deletion broke off is nobody's meanwhile, and deleted to the end by whichever instance", async () => {
    const { turn, conversation_id } = await longConversation("broken-off");
    await database`select * from delete_conversation('default', null, ${conversation_id})`;
    const left = await leftOf(conversation_id);
    expect(left).toBeWithin(1, messages);
    expect(await one.conversation(scope, conversation_id)).toBeNull();
    await expectCode(
      one.startTurn(scope, turnStart({ user_id: "broken-off", conversation_id })),
      "not_found",
    );
    expect(await one.turn(scope, turn.id)).toBeNull();
    await two.resumeErasures();
    expect(await leftOf(conversation_id)).toBe(0);
  });

  test("is deleted with the old ones bit by bit, by one of the instances that come at once", async () => {
    const old = await Promise.all(["old-1", "old-2", "old-3"].map(longConversation));
    await database`update conversations set last_active_ms = 5 where id in ${database(old.map(({ conversation_id }) => conversation_id))}`;
    await takenSince();
    const counts = await Promise.all(
      [one, two, one, two].map((store) => store.deleteInactiveConversations(6, 2)),
    );
    expect(counts.reduce((sum, count) => sum + count)).toBe(3);
    const { most, all } = await takenSince();
    expect(all).toBe(3 * messages);
    expect(most).toBeLessThanOrEqual(messages / 4);
    for (const { conversation_id } of old) expect(await leftOf(conversation_id)).toBe(0);
  });
});

describe("a user", () => {
  test("is erased bit by bit, by several instances at once, which count everything once", async () => {
    const { user } = await longConversation("shared");
    await storeDocument(one, "shared", { name: "marmot.txt", text: "A marmot." });
    await one.cutOffUser(user);
    await takenSince();
    const counts = await Promise.all([one.eraseUser(user), two.eraseUser(user)]);
    const sum = (what: "messages" | "turns" | "conversations" | "documents"): number =>
      counts[0][what] + counts[1][what];
    expect([sum("messages"), sum("turns"), sum("conversations"), sum("documents")]).toEqual([
      messages,
      1,
      1,
      1,
    ]);
    const { most, all } = await takenSince();
    expect(all).toBe(messages);
    expect(most).toBeLessThanOrEqual(messages / 4);
  });

  test("whom an instance is erasing is left to it, until nothing was heard of it for a while", async () => {
    const { conversation_id, user } = await longConversation("left");
    await one.cutOffUser(user);
    // One that has begun, and died.
    await database`select * from erase_of_user('default', 'left', 'dead', 60)`;
    const left = await leftOf(conversation_id);
    expect(left).toBeWithin(1, messages);
    await two.resumeErasures();
    expect(await leftOf(conversation_id)).toBe(left);
    await database`update claims set until = clock_timestamp() where holder = 'dead'`;
    await two.resumeErasures();
    expect(await leftOf(conversation_id)).toBe(0);
    const [row] = await database`
      select (select count(*)::int from users where erased_user_id = 'left') as users,
        (select count(*)::int from claims where task like 'erase%') as claims`;
    expect(row).toEqual({ users: 0, claims: 0 });
  });

  test("leaves no row with anything of theirs, in any table", async () => {
    const user = { workspace_id: "default", user_id: "zanzibar-user" };
    await longConversation(user.user_id);
    await one.updateProfile(user, { display_name: "zanzibar", instructions: "zanzibar" }, 0);
    await storeDocument(one, user.user_id, { name: "zanzibar.txt", text: "zanzibar" });
    await one.setBudget(
      { workspace_id: "default", scope: "user", subject: user.user_id },
      { tokens_day: 1_000_000 },
      0,
    );
    await one.createConversation(scope, {
      id: newId("conversation"),
      user_id: user.user_id,
      title: "zanzibar",
      metadata: { about: "zanzibar" },
      idempotency: { principal_id: "p", operation: "conversation", key: "zanzibar", body_hash: "h" },
      now_ms: 0,
    });
    expect(await tablesWith("zanzibar")).toContain("conversations");
    await one.cutOffUser(user);
    await one.eraseUser(user);
    expect(await tablesWith("zanzibar")).toEqual([]);
  });

  test("who was erased leaves room in the files, which is made once", async () => {
    const vacuums = async (): Promise<number> =>
      (
        await database`select vacuum_count::int as times from pg_stat_user_tables where relname = 'messages'`
      )[0].times;
    const { user } = await longConversation("roomy");
    await one.resumeErasures();
    const before = await vacuums();
    await one.cutOffUser(user);
    await one.eraseUser(user);
    await two.resumeErasures();
    await until("the table was vacuumed", async () => (await vacuums()) === before + 1);
    expect((await database`select from settings where name = 'uncleaned'`).length).toBe(0);
    await one.resumeErasures();
    expect(await vacuums()).toBe(before + 1);
  });
});

/** The tables that have a row in which a word stands. */
async function tablesWith(word: string): Promise<string[]> {
  const tables = await database`select tablename as name from pg_tables where schemaname = current_schema()`;
  const found: string[] = [];
  for (const { name } of tables) {
    const rows = await database.unsafe(`select from ${name} t where t::text ilike '%${word}%' limit 1`);
    if (rows.length > 0) found.push(name);
  }
  return found.toSorted();
}
