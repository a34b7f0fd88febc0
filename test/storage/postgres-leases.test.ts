/** Whose turns are whose, by the clock of the database: renewing, running out, coming back. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { openPostgresRelay } from "../../src/storage/postgres/relay.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import type { Relay } from "../../src/storage/relay.ts";
import type { Store } from "../../src/storage/store.ts";
import { scope, turnEnd, turnStart } from "../contracts/records.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();
let store: Store;
let relay: Relay;
let database: Bun.SQL;

beforeAll(async () => {
  const url = await newDatabase();
  store = await openPostgresStore(url);
  relay = await openPostgresRelay(url, "inst_other", { onFault: console.error });
  database = new Bun.SQL(url, { max: 4 });
});
afterAll(async () => {
  await relay.close();
  await store.close();
  await database.close();
});

let instances = 0;

/** A turn of a new instance, whose own lease and that of the instance are so long. */
async function running(lease_seconds: number) {
  const instance_id = `inst_${++instances}`;
  const { turn } = await store.startTurn(scope, turnStart({ instance_id, lease_seconds }));
  return { id: turn.id, instance_id };
}

const orphanIds = async (): Promise<string[]> =>
  (await store.orphans("inst_looking")).map(({ turn }) => turn.id);
const interrupt = (id: string, instance_id: string): Promise<boolean> =>
  store.endOrphan(id, instance_id, turnEnd({ status: "interrupted" }), Date.now());

test("a turn is its instance's while one of their leases holds", async () => {
  const { id, instance_id } = await running(60);
  expect(await orphanIds()).not.toContain(id);
  expect(await interrupt(id, instance_id)).toBe(false);
  await database`update turns set lease_until = clock_timestamp() where id = ${id}`;
  expect(await orphanIds()).not.toContain(id);
  expect(await interrupt(id, instance_id)).toBe(false);
  await database`update instances set lease_until = clock_timestamp() where id = ${instance_id}`;
  expect(await orphanIds()).toContain(id);
  await database`update turns set lease_until = clock_timestamp() + interval '1 minute' where id = ${id}`;
  expect(await orphanIds()).not.toContain(id);
  expect(await interrupt(id, instance_id)).toBe(false);
  await database`update turns set lease_until = clock_timestamp() where id = ${id}`;
  expect(await interrupt(id, instance_id)).toBe(true);
});

test("who renews in time keeps it, and isn't told that it lapsed", async () => {
  const { id, instance_id } = await running(60);
  expect(await store.renewLeases(instance_id, 60)).toEqual({ lapsed: false, to_stop: [] });
  expect((await store.turn(scope, id))?.status).toBe("running");
});

test("who comes back late is told so, and has again what nobody has ended", async () => {
  const { id, instance_id } = await running(0);
  expect(await orphanIds()).toContain(id);
  expect(await store.renewLeases(instance_id, 60)).toEqual({ lapsed: true, to_stop: [] });
  expect(await orphanIds()).not.toContain(id);
  expect(await interrupt(id, instance_id)).toBe(false);
  expect((await store.renewLeases(instance_id, 60)).lapsed).toBe(false);
});

test("who comes back after that can't end, and can't overwrite, what others have ended", async () => {
  const { id, instance_id } = await running(0);
  expect(await interrupt(id, instance_id)).toBe(true);
  const decided = await store.turn(scope, id);
  expect((await store.renewLeases(instance_id, 60)).lapsed).toBe(true);
  await store.checkpointReplies([{ turn_id: id, text: "too late", model: "m" }]);
  expect(await store.endTurn(id, instance_id, turnEnd({ response: "too late" }), Date.now())).toBe(false);
  expect(await store.turn(scope, id)).toEqual(decided);
  expect(await relay.news([{ turn_id: id, bytes: null }])).toEqual([{ turn_id: id, turn: decided }]);
});

test("who renews while another is about to end its turn comes before or after, and not in between", async () => {
  for (let round = 0; round < 30; round++) {
    const { id, instance_id } = await running(0);
    const [ended, { lapsed }] = await Promise.all([
      interrupt(id, instance_id),
      store.renewLeases(instance_id, 60),
    ]);
    expect(lapsed).toBe(true);
    expect((await store.turn(scope, id))?.status).toBe(ended ? "interrupted" : "running");
  }
});

test("of many who end it one does", async () => {
  const { id, instance_id } = await running(0);
  const ended = await Promise.all(Array.from({ length: 20 }, () => interrupt(id, instance_id)));
  expect(ended.filter(Boolean).length).toBe(1);
});

test("an instance whose row was tidied away comes back as one that lapsed", async () => {
  const { instance_id } = await running(60);
  await database`delete from instances where id = ${instance_id}`;
  expect((await store.renewLeases(instance_id, 60)).lapsed).toBe(true);
});

test("a stop that is asked for elsewhere is told at the renewal, of turns that run", async () => {
  const { id, instance_id } = await running(60);
  const { turn } = await store.startTurn(scope, turnStart({ instance_id }));
  await store.endTurn(turn.id, instance_id, turnEnd(), Date.now());
  await relay.requestStops([id, turn.id]);
  expect(await store.renewLeases(instance_id, 60)).toEqual({ lapsed: false, to_stop: [id] });
});

test("an instance that ends in order is forgotten, but not while it leaves a turn running", async () => {
  const { id, instance_id } = await running(0);
  await store.dropLeases(instance_id);
  expect(await orphanIds()).toContain(id);
  expect(await interrupt(id, instance_id)).toBe(true);
  await store.dropLeases(instance_id);
  const left = await database`select from instances where id = ${instance_id}`;
  expect(left.length).toBe(0);
});

test("instances that have been dead for long are forgotten with the next one", async () => {
  const old = await running(0);
  const orphaned = await running(0);
  const alive = await running(60);
  await interrupt(old.id, old.instance_id);
  await database`update instances set lease_until = clock_timestamp() - interval '2 days'
    where id = ${old.instance_id} or id = ${orphaned.instance_id}`;
  await store.dropLeases("inst_none");
  const left = await database`select id from instances`;
  const ids = left.map(({ id }: { id: string }) => id);
  expect(ids).not.toContain(old.instance_id);
  expect(ids).toContain(orphaned.instance_id);
  expect(ids).toContain(alive.instance_id);
});
