/**
 * Three instances on one PostgreSQL, and clients that append turns to conversations, stop them, break off, resume and
 * retry, while instances are killed and paused and the database fails. What clients were told is compared with what is
 * stored, in the manner of Jepsen's append workload.
 *
 * PARLEY_TEST_APPENDS: how many turns, 2,000 if unset. TEST_SEED repeats a run as far as timing allows.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { leaseSeconds } from "../../src/chat/leases.ts";
import { byKind, checkAppends } from "../support/appends/checker.ts";
import { AppendClient, type ClientOptions } from "../support/appends/client.ts";
import { disturb, type Fault, type FaultKind } from "../support/appends/nemesis.ts";
import { readStored, untilAtRest } from "../support/appends/stored.ts";
import { newWorld, type World } from "../support/appends/world.ts";
import { heldUpWhile } from "../support/held-up.ts";
import { startInstances } from "../support/instances.ts";
import { PostgresServer } from "../support/postgres.ts";
import { fork, oneOf, type Random } from "../support/random.ts";
import { startTellingModel, type TellingModel } from "../support/telling-model.ts";
import { seededRandom } from "../support/turns.ts";

const turns = Number(process.env.PARLEY_TEST_APPENDS ?? 2_000);
const users = 32;
const clientsOfUser = 4;
/** Of each user, for all clients of theirs: they get into each other's way. */
const sharedConversations = 2;
const leaseMs = leaseSeconds * 1_000;

const options: ClientOptions = {
  stops: 0.1,
  breaks: 0.25,
  repeats: 0.15,
  keyless: 0.05,
  silenceMs: [1_500, 5_000],
};

let model: TellingModel;
let server: PostgresServer;
beforeAll(async () => {
  model = startTellingModel();
  server = await PostgresServer.start();
});
afterAll(async () => {
  await model.close();
  await server[Symbol.asyncDispose]();
});

test(
  `${turns} turns of ${users * clientsOfUser} clients are as they were told, whatever fails`,
  async () => {
    const random = seededRandom();
    const url = await server.database();
    const env = { PARLEY_BUDGETS: "user 1000000000 tokens/day, workspace 1000000000 tokens/month" };
    await using instances = await startInstances(3, url, { model, env });
    const world = newWorld(instances.all);
    const acknowledged = (): number =>
      world.history.filter(({ outcome }) => outcome === "acknowledged").length;
    let disturbing = true;
    const goesOn = (): boolean => acknowledged() < turns;
    const { result: faults, heldUpMs } = await heldUpWhile(async () => {
      const chatting = chat(world, random, () => goesOn() || disturbing);
      const nemesis = disturb({
        instances: world.instances,
        server,
        url,
        random: fork(random),
        leaseMs,
        goesOn,
      });
      const done = await nemesis.finally(() => {
        disturbing = false;
      });
      await chatting;
      return done;
    });
    await untilAtRest(url, 2 * leaseMs);
    const disturbed = Object.fromEntries(
      [...Map.groupBy(faults, ({ kind }) => kind)].map(([kind, all]) => [kind, all.length]),
    );
    console.log(`${acknowledged()} turns:`, world.counts, disturbed, { heldUpMs });

    const lostMsMax = lostMsMaxWith(faults, heldUpMs);
    const violations = checkAppends(world.history, await readStored(url), { lostMsMax });
    if (violations.length > 0) console.log(faults);
    expect(byKind(violations)).toEqual([]);
    expect(world.faults).toEqual([]);
    expect(acknowledged()).toBeGreaterThanOrEqual(turns);
    expect(world.counts.interrupted).toBeGreaterThan(0);
    // Nothing asked the model twice for one turn.
    expect([...model.asked].filter(([, times]) => times > 1)).toEqual([]);
  },
  120_000 + turns * 100,
);

test("turns that start and end in the same conversations never wait for each other in a circle", async () => {
  const random = seededRandom();
  const url = await server.database();
  const env = { PARLEY_BUDGETS: "user 1000000000 tokens/day, workspace 1000000000 tokens/month" };
  await using instances = await startInstances(3, url, { model, env });
  const world = newWorld(instances.all);
  await chat(world, random, () => world.history.length < 300);
  await using sql = new Bun.SQL(url, { max: 1 });
  const [{ deadlocks }] =
    await sql`select deadlocks::int4 from pg_stat_database where datname = current_database()`;
  expect(deadlocks).toBe(0);
  expect(world.counts.busy).toBeGreaterThan(0);
  expect(byKind(checkAppends(world.history, await readStored(url)))).toEqual([]);
  expect(world.faults).toEqual([]);
}, 120_000);

/**
 * How much of what was read may be lost with an instance: a second, and what came while nothing could be stored, because
 * the database was away.
 */
function lostMsMaxWith(faults: readonly Fault[], heldUpMs: number): (lastMs: number) => number {
  const away = faults.filter(({ kind }) => outages.includes(kind));
  return (lastMs) => {
    const lately = away.filter(({ fromMs, toMs }) => fromMs <= lastMs && lastMs < toMs + 2_000);
    return 1_000 + heldUpMs + lately.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
  };
}

const outages: readonly FaultKind[] = ["database restarted", "database killed"];

/** All clients append, as long as it goes on. */
async function chat(world: World, random: Random, goesOn: () => boolean): Promise<void> {
  const clients = Array.from({ length: users * clientsOfUser }, (_, index) => {
    const user = `user-${index % users}`;
    return new AppendClient(world, `client ${index}`, user, fork(random), options);
  });
  const shared = new Map<string, string[]>();
  await Promise.all(
    clients.map(async (client) => {
      const own: string[] = [];
      const common = shared.get(client.user_id) ?? [];
      shared.set(client.user_id, common);
      while (goesOn()) {
        const drawn = client.random();
        const conversations = drawn < 0.3 ? common : own;
        const isNew = conversations.length === 0 || drawn > 0.9;
        const { told } = await client.append(isNew ? null : oneOf(client.random, conversations));
        const made = told.find(({ conversation_id }) => conversation_id !== null)?.conversation_id;
        if (!isNew || !made) continue;
        if (common.length < sharedConversations) common.push(made);
        else own.push(made);
      }
    }),
  );
}
