/** Instances that die, are paused or are shut down while others watch what they run. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Turn } from "../../src/chat/schema.ts";
import { startInstances } from "../support/instances.ts";
import { followUntil } from "../support/live-views.ts";
import { startModelServer } from "../support/model-server.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { type Service, until } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { holdTurn, resume, turnOf, untilEnded, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(90_000);

/** From the death of an instance to the end of its turns, by the clock of the database. */
const deathSecondsMax = 15;

const newDatabase = databasesOfFile();

/** Three instances, their database and the model that they ask. */
async function openFleet() {
  const url = await newDatabase();
  const model = startModelServer();
  const database = new Bun.SQL(url, { max: 2 });
  const env = { PARLEY_SHUTDOWN_SECONDS: "1" };
  const instances = await startInstances(3, url, { model, env });
  const [one, two, three] = instances.all as [Service, Service, Service];
  return {
    one,
    two,
    three,
    all: instances.all,
    model,
    database,
    async [Symbol.asyncDispose]() {
      await instances[Symbol.asyncDispose]();
      await database.close();
      await model.close();
    },
  };
}

/** The text of the last checkpoint. */
async function untilStored(database: Bun.SQL, turnId: string, text: string): Promise<void> {
  await until("the text is checkpointed", async () => {
    const [row] =
      await database`select content from messages m join turns t on t.n = m.n where t.id = ${turnId}`;
    return row.content === text;
  });
}

/** Notes when turns end and how often, by the clock of the database, whoever ends them. */
async function noteEnds(database: Bun.SQL): Promise<void> {
  await database.unsafe(`
    create table ends (turn_id text not null, at timestamptz not null, was text not null);
    create function note_end() returns trigger language plpgsql as $$
    begin
      insert into ends values (new.id, clock_timestamp(), old.status);
      return new;
    end $$;
    create trigger note_end after update of status on turns for each row execute function note_end();`);
}

const databaseNow = async (database: Bun.SQL): Promise<number> =>
  (await database`select extract(epoch from clock_timestamp())::float8 as now`)[0].now;

const endsOf = async (database: Bun.SQL, id: string): Promise<{ at: number; was: string }[]> => [
  ...(await database`select extract(epoch from at)::float8 as at, was from ends where turn_id = ${id}`),
];

/** What the ledger and the counters say of a turn, and whether its conversation is free again. */
async function settledOf(database: Bun.SQL, id: string) {
  const [entry] = await database`
    select u.status, u.total_tokens, u.reserved_tokens, c.active_turn_id, c.tokens_used::float8
    from turns t join usage u on u.n = t.usage_n join messages m on m.n = t.n
      join conversations c on c.n = m.conversation_n where t.id = ${id}`;
  const counters = await database`
    select distinct used_tokens::float8 as used, reserved_tokens::float8 as reserved from budget_counters`;
  return { entry, counters: [...counters] };
}

// What these wait for is time to pass.
describe.concurrent("an instance", () => {
  test("that is killed: its turns are interrupted within fifteen seconds, once, and watchers elsewhere get what was kept, and done", async () => {
    await using fleet = await openFleet();
    const { one, two, three, model, database } = fleet;
    await noteEnds(database);
    const turns: { id: string; text: string; status: string; conversation_id: string }[] = [];
    for (const text of ["first 😀 half", "second", "third", "", "fifth"]) {
      const { turn } = await holdTurn(one, model, text);
      if (text !== "") await untilStored(database, turn.id, text);
      turns.push({ ...turn, text, status: "interrupted" });
    }
    turns[1]!.status = "stopped";
    await two.post(`/v1/turns/${turns[1]!.id}/stop`, {});
    const views = await Promise.all(
      turns.flatMap(({ id, text }) => [two, three].map((service) => followUntil(service, id, text))),
    );
    const killed = await databaseNow(database);
    await one.kill();
    // Who wants something of them waits until they have ended.
    const stopping = three.post<Turn>(`/v1/turns/${turns[2]!.id}/stop`, {});
    const deleting = two.send("DELETE", `/v1/conversations/${turns[4]!.conversation_id}`);
    for (const view of views) await view.whole;
    expect((await stopping).body.status).toBe("interrupted");
    expect((await deleting).status).toBe(200);
    turns.pop();

    let used = 0;
    for (const [index, { id, text, status }] of turns.entries()) {
      const told = await turnOf(two, id);
      expect(told).toMatchObject({ status, response: text, length: text.length });
      expect(await turnOf(three, id)).toEqual(told);
      const ends = await endsOf(database, id);
      expect(ends.map(({ was }) => was)).toEqual(["running"]);
      expect(ends[0]!.at - killed).toBeLessThan(deathSecondsMax);
      for (const view of views.slice(2 * index, 2 * index + 2)) {
        expect(view.text).toBe(text);
        expect(view.done).toMatchObject({ status, length: text.length });
      }
      expect((await settledOf(database, id)).entry).toMatchObject({
        status,
        total_tokens: told.tokens_used,
        tokens_used: told.tokens_used,
        active_turn_id: null,
      });
      used += told.tokens_used;
    }
    const [deleted] =
      await database`select sum(total_tokens)::float8 as used from usage where conversation_id is null
      or conversation_id <> all(${database.array(
        turns.map(({ conversation_id }) => conversation_id),
        "TEXT",
      )})`;
    const { counters } = await settledOf(database, turns[0]!.id);
    expect(counters).toEqual([{ used: used + deleted.used, reserved: 0 }]);
    // The conversation goes on, anywhere.
    const { conversation_id } = turns[0]!;
    expect((await wholeTurn(three, model, ["next"], { conversation_id })).response).toBe("next");
  });

  test("that was paused beyond its lease changes nothing of what others decided, asks the model no more, and tells its watchers", async () => {
    await using fleet = await openFleet();
    const { one, two, three, model, database } = fleet;
    await noteEnds(database);
    const { turn, held } = await holdTurn(one, model, "kept");
    await untilStored(database, turn.id, "kept");
    const here = await followUntil(one, turn.id, "kept");
    const there = await followUntil(two, turn.id, "kept");
    one.signal("SIGSTOP");
    await there.whole;
    expect([there.text, there.done?.status]).toEqual(["kept", "interrupted"]);
    const decided = await turnOf(two, turn.id);
    const { conversation_id } = turn;
    await wholeTurn(three, model, ["next"], { conversation_id });
    held.send(" and what came too late");
    one.signal("SIGCONT");
    const { turn: since, held: heldSince } = await holdTurn(one, model, "since");
    await here.whole;
    // What it received when it came back is shown to nobody.
    expect(here.text).toBe("kept");
    expect(here.done).toMatchObject({ status: "interrupted", length: 4 });
    await (await held.request).closed;
    for (const service of fleet.all) expect(await turnOf(service, turn.id)).toEqual(decided);
    expect((await endsOf(database, turn.id)).length).toBe(1);
    const [{ content }] = await database`select content from messages where id = ${turn.message_id}`;
    expect(content).toBe("kept");

    // It is an instance like the others again: what it has started since is its own, for longer than a lease.
    const lapsed = (await databaseNow(database)) + 12;
    await until("a lease would have run out", async () => (await databaseNow(database)) > lapsed);
    heldSince.finish();
    await untilEnded(two, since.id);
    expect(await turnOf(two, since.id)).toMatchObject({ status: "completed", response: "since" });
  });
});

test("an instance that is shut down ends what it runs, and who watched other turns there goes on elsewhere", async () => {
  await using fleet = await openFleet();
  const { one, two, three, model, database } = fleet;
  const { turn } = await holdTurn(one, model, "half");
  const { turn: other, held } = await holdTurn(two, model, "other half");
  const there = await followUntil(two, turn.id, "half");
  const here = await followUntil(one, other.id, "other half");
  const cut = here.whole.catch(() => {});
  one.signal("SIGTERM");
  await there.whole;
  expect(there.text).toBe("half");
  expect(there.done).toMatchObject({ status: "interrupted", error: { code: "shutting_down" }, length: 4 });
  expect(await one.exited()).toBe(0);
  // Nobody waits for its lease to run out.
  const leases = await database`select from instances
    where id = (select instance_id from turns where id = ${turn.id})`;
  expect(leases.length).toBe(0);
  await cut;
  expect(here.done).toBeNull();
  held.send(" and more");
  held.finish();
  const rest = await readTranscript(await resume(three, other.id, here.text.length));
  expect([rest.text, rest.done.status]).toEqual([" and more", "completed"]);
});
