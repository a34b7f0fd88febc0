/** Limits, budgets and keys hold for three instances together, over HTTP, also when a hundred requests race. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Problem } from "../../src/http/problem.ts";
import { type Instances, startInstances } from "../support/instances.ts";
import { adminKey, bearer, guardedEnv, makeKey } from "../support/keys.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { databasesOfFile } from "../support/postgres.ts";
import {
  runParley,
  type Service,
  serviceEnv,
  temporaryDirectory,
  testMsMax,
  until,
} from "../support/service.ts";
import type { StartedTurn } from "../support/turns.ts";

setDefaultTimeout(2 * testMsMax);

const requests = 100;
const newDatabase = databasesOfFile();
const perMinute = 10;
const keyTurns = 4;

/** A turn that was started, or why it wasn't. */
type Asked = Pick<StartedTurn, "id"> & Pick<Problem, "code" | "detail"> & { budget: { needed: number } };

let url: string;
let model: ModelServer;
let instances: Instances;

beforeAll(async () => {
  url = await newDatabase();
  model = startModelServer();
  instances = await startInstances(3, url, {
    model,
    env: { ...guardedEnv, PARLEY_KEY_TURNS_RUNNING_MAX: String(keyTurns) },
  });
});
afterAll(async () => {
  await instances?.[Symbol.asyncDispose]();
  await model?.close();
});

const admin = bearer(adminKey);
const at = (index: number): Service => instances.all[index % 3]!;

/** A hundred requests at once, to the three in turn; gives their statuses, counted. */
async function race(
  send: (service: Service, index: number) => Promise<{ status: number }>,
  { all } = instances,
) {
  const answers = await Promise.all(
    Array.from({ length: requests }, (_, index) => send(all[index % 3]!, index)),
  );
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

/** Ends all that is held, and waits until no instance runs it any more. */
async function finish(ids: string[], held: { finish(): void }[]): Promise<void> {
  for (const each of held) each.finish();
  await until("the turns have ended", async () => {
    const turns = await Promise.all(ids.map((id) => at(0).get<StartedTurn>(`/v1/turns/${id}`, admin)));
    return turns.every(({ body }) => body.status !== "running");
  });
}

test("a user's requests of a minute are counted together", async () => {
  const env = { ...guardedEnv, PARLEY_USER_REQUESTS_PER_MINUTE: String(perMinute) };
  await using limited = await startInstances(3, url, { env });
  const { key } = await makeKey(at(0), { role: "user", user_id: "asker" });
  const startedMs = performance.now();
  const counts = await race((service) => service.get("/v1/turns/turn_none", bearer(key)), limited);
  const elapsedMs = performance.now() - startedMs;
  expect(counts[404]! + counts[429]!).toBe(requests);
  expect(counts[404]).toBeGreaterThanOrEqual(perMinute);
  // One comes back every six seconds, where it takes so long.
  expect(counts[404]).toBeLessThanOrEqual(perMinute + Math.floor(elapsedMs / (60_000 / perMinute)));
});

test("a key's turns at once are counted together, and refused in the same words everywhere", async () => {
  const { key } = await makeKey(at(0), {});
  const held = Array.from({ length: keyTurns + 1 }, () => model.hold());
  const start = (service: Service, index: number) =>
    service.post<Asked>("/v1/turns", { user_id: `u${index}`, message: "Hello" }, bearer(key));
  const answers = await Promise.all(Array.from({ length: requests }, (_, index) => start(at(index), index)));
  const started = answers.filter(({ status }) => status === 202);
  const refused = answers.filter(({ status }) => status === 429);
  expect([started.length, refused.length]).toEqual([keyTurns, requests - keyTurns]);
  const left = started.map(({ headers }) => /^"key-turns";r=(\d+)$/.exec(headers.get("ratelimit")!)![1]);
  expect(left.toSorted()).toEqual(["0", "1", "2", "3"]);
  for (const { body, headers } of refused) {
    expect([body.code, body.detail, headers.get("retry-after")]).toEqual([
      "rate_limited",
      `The key has ${keyTurns} turns running, which is as many as may.`,
      "5",
    ]);
  }
  await finish(
    started.map(({ body }) => body.id),
    held.slice(0, keyTurns),
  );
  const next = await start(at(1), 0);
  expect(next.status).toBe(202);
  await finish([next.body.id], held.slice(keyTurns));
});

test("a budget that one instance sets has room for as many turns on all of them", async () => {
  const user_id = "spender";
  const path = `/v1/budgets/users/${user_id}`;
  const set = (service: Service, tokens_day: number) => service.send("PUT", path, { tokens_day }, admin);
  // A key for each, for the sake of the turns that keys may run at once.
  const keys = await Promise.all(Array.from({ length: 34 }, (_, index) => makeKey(at(index), {})));
  const start = (service: Service, index: number) =>
    service.post<Asked>(
      "/v1/turns",
      { user_id, message: "Hello", max_tokens: 50 },
      bearer(keys[index % keys.length]!.key),
    );
  await set(at(0), 1);
  const needed: number[] = [];
  // Each of them has to have heard of it.
  for (const [index, service] of instances.all.entries()) {
    await until("the budget counts", async () => {
      const { status, body } = await start(service, index);
      if (status === 429) needed.push(body.budget.needed);
      return status === 429;
    });
  }
  expect(new Set(needed).size).toBe(1);
  const spent = await at(1).get<{ states: { used: number; reserved: number }[] }>(path, admin);
  const [{ used, reserved }] = spent.body.states as [{ used: number; reserved: number }];
  await set(at(1), used + reserved + 10 * needed[0]!);
  const held = Array.from({ length: 10 }, () => model.hold());
  expect(await race(start)).toEqual({ 202: 10, 429: 90 });
  for (const each of held) each.finish();
});

test("of a hundred retries with one idempotency key one starts a turn, and all get it", async () => {
  const { key } = await makeKey(at(0), {});
  const held = model.hold();
  const ids: string[] = [];
  const counts = await race(async (service) => {
    const body = { user_id: "retrier", message: "Hello" };
    const answer = await service.post<Asked>("/v1/turns", body, {
      ...bearer(key),
      "idempotency-key": "once",
    });
    ids.push(answer.body.id);
    return answer;
  });
  expect(counts).toEqual({ 202: requests });
  expect(new Set(ids).size).toBe(1);
  await finish([ids[0]!], [held]);
});

test("of a hundred turns in one conversation one runs", async () => {
  const { key } = await makeKey(at(0), {});
  const made = await at(1).post<{ id: string }>("/v1/conversations", { user_id: "talker" }, bearer(key));
  const held = model.hold();
  const body = { user_id: "talker", message: "Hello", conversation_id: made.body.id };
  const ids: string[] = [];
  const counts = await race(async (service) => {
    const answer = await service.post<Asked>("/v1/turns", body, bearer(key));
    if (answer.status === 202) ids.push(answer.body.id);
    return answer;
  });
  expect(counts).toEqual({ 202: 1, 409: requests - 1 });
  await finish(ids, [held]);
});

test("a key that one instance revokes works on none, and makes new ones known to all", async () => {
  const made = await makeKey(at(0), {});
  const ask = (service: Service) => service.get("/v1/turns/turn_none", bearer(made.key));
  for (const service of instances.all) expect((await ask(service)).status).toBe(404);
  expect((await at(1).send("DELETE", `/v1/keys/${made.id}`, undefined, admin)).status).toBe(200);
  for (const service of instances.all) {
    await until("it works no more", async () => (await ask(service)).status === 401);
  }
  expect(await race((service) => ask(service))).toEqual({ 401: requests });
});

test("parley keys makes, lists and revokes the keys of the database, while instances run", async () => {
  const env = { ...serviceEnv(temporaryDirectory(), {}), DATABASE_URL: url };
  const created = await runParley(["keys", "create", "by hand"], env);
  expect([created.exitCode, created.stderr]).toEqual([0, ""]);
  const key = created.stdout.trim();
  const ask = (service: Service) => service.get("/v1/turns/turn_none", bearer(key));
  for (const service of instances.all) expect((await ask(service)).status).toBe(404);
  const listed = (await runParley(["keys", "list"], env)).stdout;
  const id = listed
    .split("\n")
    .find((line) => line.includes("by hand"))!
    .split(" ")[0]!;
  expect((await runParley(["keys", "revoke", id], env)).stdout).toBe(`revoked by hand (${id})\n`);
  for (const service of instances.all) {
    await until("it works no more", async () => (await ask(service)).status === 401);
  }
});

test("parley keys makes the tables of a new database, and tells of one that it can't use in a line", async () => {
  const env = { ...serviceEnv(temporaryDirectory(), {}), DATABASE_URL: await newDatabase() };
  expect((await runParley(["keys", "create", "first", "--role", "admin"], env)).exitCode).toBe(0);
  expect((await runParley(["keys", "list"], env)).stdout).toContain("first");
  const nowhere = await runParley(["keys", "list"], {
    ...env,
    DATABASE_URL: `${env.DATABASE_URL}_not_there`,
  });
  expect([nowhere.exitCode, nowhere.stdout]).toEqual([1, ""]);
  expect(nowhere.stderr).toMatch(/^parley: the database of DATABASE_URL can't be used: [^\n]*\n$/);
});
