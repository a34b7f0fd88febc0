/**
 * Three instances under load, each of which is shut down and started again in turn, as a deployment does. Clients have the
 * retry that standard clients have, and lose nothing by it.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { byKind, checkAppends } from "../support/appends/checker.ts";
import { AppendClient, type ClientOptions } from "../support/appends/client.ts";
import { readStored } from "../support/appends/stored.ts";
import { newWorld, type World } from "../support/appends/world.ts";
import { startInstances } from "../support/instances.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { fork, type Random } from "../support/random.ts";
import { type Service, until } from "../support/service.ts";
import { startTellingModel, type TellingModel } from "../support/telling-model.ts";
import { seededRandom } from "../support/turns.ts";

const clients = 32;
const rounds = 1;

/** One in five has no key: it can't ask again, and needn't, because it is told what came of its request. */
const options: ClientOptions = {
  stops: 0,
  breaks: 0,
  repeats: 0.1,
  keyless: 0.2,
  silenceMs: [20_000, 20_000],
};

const newDatabase = databasesOfFile();

let model: TellingModel;
beforeAll(() => {
  model = startTellingModel();
});
afterAll(() => model.close());

test("a rolling restart under load loses no request, no stream and no turn", async () => {
  const random = seededRandom();
  const url = await newDatabase();
  // Less than some turns take: those are interrupted, and say so.
  const env = { PARLEY_SHUTDOWN_SECONDS: "1" };
  await using instances = await startInstances(3, url, { model, env });
  const world = newWorld(instances.all);
  let restarting = true;
  const chatting = chat(world, random, () => restarting);
  const exits = await restartAll(world).finally(() => {
    restarting = false;
  });
  const retried = await chatting;
  const { counts, history, faults } = world;
  console.log(`${history.length} turns through ${exits.length} restarts:`, counts, { retried });

  expect(exits).toEqual(exits.map(() => 0));
  expect(faults).toEqual([]);
  expect(byKind(checkAppends(history, await readStored(url)))).toEqual([]);
  // Each has an end that was told, whole or as what it was.
  expect(history.filter(({ outcome }) => outcome !== "acknowledged")).toEqual([]);
  expect(counts.completed + counts.interrupted).toBe(history.length);
  const codes = history.flatMap(({ ends }) => ends.flatMap(({ error_code }) => error_code ?? []));
  expect([...new Set(codes)]).toEqual(["shutting_down"]);
  // All of it happened.
  expect(retried).toBe(counts.interrupted);
  expect(counts.refused + counts.unreachable).toBeGreaterThan(0);
  expect(counts.resumed).toBeGreaterThan(0);
}, 120_000);

/** Each client has a conversation; what was interrupted it asks for again. Gives how often that was. */
async function chat(world: World, random: Random, goesOn: () => boolean): Promise<number> {
  let retried = 0;
  await Promise.all(
    Array.from({ length: clients }, async (_, index) => {
      const client = new AppendClient(world, `client ${index}`, `user-${index}`, fork(random), options);
      let conversation: string | null = null;
      for (let again = false; again || goesOn(); ) {
        const { told, ends } = await client.append(conversation);
        conversation = told[0]?.conversation_id ?? conversation;
        again = ends[0]?.error_code === "shutting_down";
        retried += Number(again);
      }
    }),
  );
  return retried;
}

/** One after the other, a few times; gives the exit codes. */
async function restartAll({ instances, history }: World): Promise<number[]> {
  const exits: number[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const instance of instances) {
      const due = history.length + clients;
      await until("there is load", () => history.length >= due);
      exits.push(await instance.stop());
      await instance.restart();
      await untilReady(instance);
    }
  }
  return exits;
}

const untilReady = (instance: Service): Promise<void> =>
  until("the instance is ready", async () => (await instance.fetch("/ready")).status === 200);
