/** What instances keep in memory of a database that they share: who changes it tells the others. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import { openPostgresRelay } from "../../src/storage/postgres/relay.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import type { Relay } from "../../src/storage/relay.ts";
import { sharedStore } from "../../src/storage/sharing.ts";
import type { Store } from "../../src/storage/store.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

interface Instance {
  store: Store;
  relay: Relay;
  close(): Promise<void>;
}

const newDatabase = databasesOfFile();
const forEver = 1e9;
const subject = { workspace_id: "default", scope: "user", subject: "ada" } as const;
const faults: unknown[] = [];
let url: string;
let instances: Instance[];

async function openInstance(url: string, rememberMs: number): Promise<Instance> {
  const onFault = (fault: unknown): void => void faults.push(fault);
  const opened = await openPostgresStore(url);
  const relay = await openPostgresRelay(url, newId("key"), { onFault });
  return {
    store: sharedStore(opened, relay, onFault, rememberMs),
    relay,
    async close() {
      await relay.close();
      await opened.close();
    },
  };
}

beforeAll(async () => {
  url = await newDatabase();
  // The last one remembers for a moment, the others until they hear of a change.
  instances = await Promise.all([forEver, forEver, 100].map((ms) => openInstance(url, ms)));
});
afterAll(async () => {
  await Promise.all((instances ?? []).map((instance) => instance.close()));
});

const stores = (): Store[] => instances.map(({ store }) => store);
const known = () => Promise.all(stores().map((store) => store.hasBudgets("default")));

test("a budget that one instance sets counts there at once, and on the others when they hear of it", async () => {
  const [one, other] = stores() as [Store, Store];
  expect(await known()).toEqual([false, false, false]);
  await one.setBudget(subject, { tokens_day: 1 }, Date.now());
  expect(await one.hasBudgets("default")).toBe(true);
  await until("the others know", async () => (await known()).every(Boolean));
  await other.deleteBudget(subject);
  expect(await other.hasBudgets("default")).toBe(false);
  await until("the others know", async () => !(await known()).some(Boolean));
  expect(faults).toEqual([]);
});

test("what nobody tells of is noticed a moment later, and not asked for before", async () => {
  const [forgetful, untold] = [instances[2]!.store, await openPostgresStore(url)];
  const elsewhere = { ...subject, workspace_id: "elsewhere" };
  expect(await stores()[0]!.hasBudgets("elsewhere")).toBe(false);
  expect(await forgetful.hasBudgets("elsewhere")).toBe(false);
  await untold.setBudget(elsewhere, { tokens_day: 1 }, Date.now());
  await untold.close();
  await until("it is noticed", () => forgetful.hasBudgets("elsewhere"));
  expect(await stores()[0]!.hasBudgets("elsewhere")).toBe(false);
});

test("who makes or revokes a key tells the others to look", async () => {
  const heard: string[] = [];
  instances[1]!.relay.onChanged("keys", () => void heard.push("looked"));
  const key = {
    id: newId("key"),
    secret_hash: "b".repeat(64),
    name: "web",
    workspace_id: "default",
    role: "service" as const,
    user_id: null,
    expires_at: null,
    now_ms: Date.now(),
  };
  await stores()[0]!.createKey(key);
  await until("it is told", () => heard.length === 1);
  await stores()[0]!.revokeKey(null, key.id, Date.now());
  await until("it is told again", () => heard.length === 2);
});
