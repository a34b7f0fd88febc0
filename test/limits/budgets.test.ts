/** Budgets over HTTP: what fits runs, what doesn't is refused with the time of renewal, and nothing is lost by a crash. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Problem } from "../../src/http/problem.ts";
import type { BudgetView } from "../../src/limits/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import {
  runParley,
  type Service,
  serviceEnv,
  startService,
  temporaryDirectory,
  testModel,
  testMsMax,
  until,
} from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { type StartedTurn, startTurn, untilEnded } from "../support/turns.ts";
import { awayFromMidnight, sumOf, writePrices } from "../support/usage.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
const directory = temporaryDirectory();
let prices: string;

beforeAll(async () => {
  await awayFromMidnight();
  model = startModelServer();
  model.default((all) => all.reply(["Hello"], { usage: { prompt_tokens: 30, completion_tokens: 10 } }));
  prices = await writePrices(directory, { [testModel]: { prompt: 1, completion: 10 } });
});
afterAll(async () => {
  await model.close();
  rmSync(directory, { recursive: true });
});

/** A turn whose prompt can't grow: nothing is looked up for it. */
const small = { user_id: "ada", message: "Hi", collections: [], use_memory: false, max_tokens: 100 };

/** What `small` reserves. */
async function neededFor(service: Service, body = small): Promise<number> {
  const path = "/v1/budgets/users/measured";
  await service.send("PUT", path, { tokens_day: 0 });
  const { body: problem } = await service.post<Problem>("/v1/chat", { ...body, user_id: "measured" });
  await service.send("DELETE", path);
  return problem.budget!.needed as number;
}

const budgetOf = async (service: Service, path = "users/ada"): Promise<BudgetView> =>
  (await service.get<BudgetView>(`/v1/budgets/${path}`)).body;

const stateOf = async (service: Service, path = "users/ada") => {
  const { used, reserved } = (await budgetOf(service, path)).states[0]!;
  return { used, reserved };
};

const nextDay = (): number => {
  const now = new Date();
  return Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() + 1) / 1000;
};

describe("a turn that a budget limits", () => {
  test("reserves its worst case, settles what it used, and is told what is left", async () => {
    await using service = await startService({ model, env: { PARLEY_BUDGETS: "user 1000 tokens/day" } });
    const needed = await neededFor(service);
    // The reply of at most 100, and a prompt of some words.
    expect(needed).toBeGreaterThan(100);
    expect(needed).toBeLessThan(200);
    const held = model.hold();
    const before = nextDay();
    const answer = await service.post<StartedTurn>("/v1/turns", small);
    const t = /^"user-tokens-day";r=(\d+);t=(\d+)$/.exec(answer.headers.get("ratelimit")!)!;
    expect(Number(t[1])).toBe(1000 - needed);
    expect([before, nextDay()]).toContain(Math.round((Date.now() / 1000 + Number(t[2])) / 60) * 60);
    expect(answer.headers.get("ratelimit-policy")).toBe('"user-tokens-day";q=1000;w=86400;qu="tokens"');
    expect(await stateOf(service)).toEqual({ used: 0, reserved: needed });
    held.finish({ usage: { prompt_tokens: 30, completion_tokens: 10 } });
    await untilEnded(service, answer.body.id);
    expect(await stateOf(service)).toEqual({ used: 40, reserved: 0 });
    const streamed = await service.fetch("/v1/chat/stream", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(small),
    });
    expect(streamed.headers.get("ratelimit")).toStartWith(`"user-tokens-day";r=${1000 - 40 - needed};`);
    await readTranscript(streamed);
    expect(await stateOf(service)).toEqual({ used: 80, reserved: 0 });
  });

  test("that doesn't fit is refused with the time of renewal, and the model isn't asked", async () => {
    await using service = await startService({ model, env: { PARLEY_BUDGETS: "user 10 tokens/day" } });
    const asked = model.requests.length;
    const before = nextDay();
    const { status, headers, body } = await service.post<Problem>("/v1/chat", small);
    expect([status, body.code]).toEqual([429, "budget_exhausted"]);
    const { budget } = body;
    expect(budget).toMatchObject({
      scope: "user",
      unit: "tokens",
      period: "day",
      limit: 10,
      used: 0,
      reserved: 0,
    });
    expect([before, nextDay()]).toContain(budget!.renews_at);
    const wait = budget!.renews_at - Date.now() / 1000;
    expect(Math.abs(Number(headers.get("retry-after")) - wait)).toBeLessThan(30);
    expect(body.detail).toContain("smaller max_tokens");
    expect(model.requests.length).toBe(asked);
    expect((await sumOf(service)).turns).toBe(0);
    expect((await service.get<{ conversations: unknown[] }>("/v1/conversations")).body.conversations).toEqual(
      [],
    );
  });

  test("is told to the model as long as it is reserved, and as it was asked where nothing limits it", async () => {
    const env = { PARLEY_BUDGETS: "user 100000 tokens/day", PARLEY_BUDGET_REPLY_TOKENS: "777" };
    await using service = await startService({ model, env });
    const told = async (body: Record<string, unknown>) => {
      await service.post("/v1/chat", { user_id: "ada", message: "Hi", ...body });
      return model.requests.at(-1)!.body.max_tokens;
    };
    expect(await told({})).toBe(777);
    expect(await told({ max_tokens: 5 })).toBe(5);
    await service.send("PUT", "/v1/budgets/users/ada", { tokens_day: null });
    expect(await told({})).toBeUndefined();
  });

  test("is limited from when a first budget is set, until the last one is deleted", async () => {
    await using service = await startService({ model });
    const chat = async (): Promise<number> => (await service.post("/v1/chat", small)).status;
    expect(await chat()).toBe(200);
    await service.send("PUT", "/v1/budgets/users/ada", { tokens_day: 0 });
    expect(await chat()).toBe(429);
    await service.send("DELETE", "/v1/budgets/users/ada");
    const answer = await service.post("/v1/chat", small);
    expect([answer.status, answer.headers.get("ratelimit")]).toEqual([200, null]);
  });

  test("is limited by dollars, and refused where its model has no price", async () => {
    const env = { PARLEY_BUDGETS: "key 0.005 usd/month", PARLEY_PRICES_FILE: prices };
    await using service = await startService({ model, env });
    const answer = await service.post("/v1/chat", small);
    expect(answer.headers.get("ratelimit")).toStartWith('"key-usd-month";r=');
    // 30 at 1 and 10 at 10 dollars a million.
    expect((await budgetOf(service, "keys/open")).states).toEqual([
      {
        unit: "usd",
        period: "month",
        limit: "0.005",
        used: "0.00013",
        reserved: "0",
        remaining: "0.00487",
        renews_at: expect.any(Number),
      },
    ]);
    const refused = await service.post<Problem>("/v1/chat", { ...small, max_tokens: 500 });
    expect([refused.status, refused.body.budget]).toMatchObject([429, { unit: "usd", used: "0.00013" }]);
    const asked = model.requests.length;
    const unpriced = await service.post<Problem>("/v1/chat", { ...small, model: "unheard-of" });
    expect([unpriced.status, unpriced.body.code]).toEqual([403, "forbidden"]);
    expect(model.requests.length).toBe(asked);
  });

  test("that is retried with its Idempotency-Key is neither charged nor refused", async () => {
    await using service = await startService({ model, env: { PARLEY_BUDGETS: "user 150 tokens/day" } });
    const key = { "idempotency-key": "once" };
    const first = await service.post("/v1/chat", small, key);
    expect(first.status).toBe(200);
    await service.send("PUT", "/v1/budgets/users/ada", { tokens_day: 1 });
    expect((await service.post("/v1/chat", small)).status).toBe(429);
    const again = await service.post("/v1/chat", small, key);
    expect([again.status, again.body]).toEqual([200, first.body]);
    expect(await stateOf(service)).toEqual({ used: 40, reserved: 0 });
  });
});

test("of a hundred turns at once exactly those run that fit, and no more is overspent than they use", async () => {
  await using service = await startService({ model });
  const needed = await neededFor(service);
  const limit = needed * 11 - 1;
  await service.send("PUT", "/v1/budgets/users/ada", { tokens_day: limit });
  const held = Array.from({ length: 10 }, () => model.hold());
  const answers = await Promise.all(
    Array.from({ length: 100 }, () =>
      service.post<{ id: string; budget?: Problem["budget"] }>("/v1/turns", small),
    ),
  );
  const started = answers.filter(({ status }) => status === 202);
  const refused = answers.filter(({ status }) => status === 429);
  expect([started.length, refused.length]).toEqual([10, 90]);
  for (const { body } of refused)
    expect(body.budget).toMatchObject({ used: 0, reserved: needed * 10, needed });
  expect(await stateOf(service)).toEqual({ used: 0, reserved: needed * 10 });
  // The provider counts more than anybody thought.
  const usage = { prompt_tokens: needed, completion_tokens: needed };
  for (const turn of held) turn.finish({ usage });
  for (const { body } of started) await untilEnded(service, body.id);
  expect(await stateOf(service)).toEqual({ used: needed * 20, reserved: 0 });
  expect((await service.post("/v1/chat", small)).status).toBe(429);
});

test("kill -9 loses nothing that was used, and leaves nothing reserved", async () => {
  await using service = await startService({ model, env: { PARLEY_BUDGETS: "user 250 tokens/day" } });
  expect((await service.post("/v1/chat", small)).status).toBe(200);
  model.hold().send("some words");
  const turn = await startTurn(service, small);
  const used = async () => (await stateOf(service)).used;
  expect(await used()).toBe(40);
  expect((await service.post("/v1/chat", small)).status).toBe(429);
  await until("the words are stored", () => {
    using db = new Database(join(service.dataDir, "parley.db"), { readonly: true });
    return db.query("select 1 from messages where content = 'some words'").get() !== null;
  });
  await service.kill();
  await service.restart();
  const { body } = await service.get<StartedTurn>(`/v1/turns/${turn.id}`);
  expect(body.status).toBe("interrupted");
  expect(await stateOf(service)).toEqual({ used: 40 + body.usage.total_tokens, reserved: 0 });
  expect((await service.post("/v1/chat", small)).status).toBe(200);
});

test("what models do in the background counts too", async () => {
  const env = { PARLEY_BUDGETS: "workspace 9000 tokens/day", PARLEY_MEMORY_MODEL: testModel };
  await using service = await startService({ model, env });
  model.memory.reply(['{"memories": []}'], { usage: { prompt_tokens: 100, completion_tokens: 10 } });
  const turn = { ...small, use_memory: true, message: "My name is Ada." };
  expect((await service.post("/v1/chat", turn)).status).toBe(200);
  await until("it is counted", async () => (await stateOf(service, "workspaces/default")).used === 40 + 110);
});

describe("/v1/budgets", () => {
  const admin = { authorization: "Bearer an-admins-own-secret" };
  const client = { authorization: "Bearer a-services-own-secret" };
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      model,
      env: {
        PARLEY_API_KEYS: "admin:an-admins-own-secret,a-services-own-secret",
        PARLEY_BUDGETS: "user 1000 tokens/day, user 5 usd/month",
        PARLEY_PRICES_FILE: prices,
      },
    });
  });
  afterAll(() => service[Symbol.asyncDispose]());

  test("is the admins' alone", async () => {
    const paths: [string, string, unknown?][] = [
      ["GET", "/v1/budgets"],
      ["GET", "/v1/budgets/users/ada"],
      ["PUT", "/v1/budgets/users/ada", { tokens_day: 1_000_000 }],
      ["PUT", "/v1/budgets/users/ada", { nonsense: true }],
      ["DELETE", "/v1/budgets/users/ada"],
    ];
    for (const [method, path, body] of paths) {
      expect([method, path, (await service.send(method, path, body, client)).status]).toEqual([
        method,
        path,
        403,
      ]);
      expect([method, path, (await service.send(method, path, body)).status]).toEqual([method, path, 401]);
    }
    expect((await service.get<BudgetView>("/v1/budgets/users/ada", admin)).body.set).toBeNull();
  });

  test("sets, lists and deletes what holds before the configured limits", async () => {
    const path = "/v1/budgets/users/ada%2Fb%20%F0%9F%98%80";
    const set = await service.send<BudgetView>("PUT", path, { tokens_day: null, usd_day: "0.50" }, admin);
    expect(set).toMatchObject({
      status: 200,
      body: {
        object: "budget",
        scope: "user",
        id: "ada/b 😀",
        limits: { tokens_day: null, tokens_month: null, usd_day: "0.5", usd_month: "5" },
        set: { tokens_day: null, usd_day: "0.5" },
      },
    });
    expect((await service.get<BudgetView>(path, admin)).body).toEqual(set.body);
    const list = await service.get<{ budgets: BudgetView[] }>("/v1/budgets", admin);
    expect(list.body.budgets).toEqual([set.body]);
    expect((await service.send("DELETE", path, undefined, admin)).status).toBe(200);
    expect((await service.send("DELETE", path, undefined, admin)).status).toBe(404);
    const after = (await service.get<BudgetView>(path, admin)).body;
    expect([after.set, after.limits.tokens_day]).toEqual([null, 1_000]);
  });

  test("refuses what is no limit, naming every fault, and other workspaces", async () => {
    const body = { tokens_day: -1, tokens_month: "5", usd_day: 5, usd_month: "1.0000000001", tokens_year: 1 };
    const bad = await service.send<Problem>("PUT", "/v1/budgets/keys/k", body, admin);
    expect(bad.status).toBe(400);
    expect(bad.body.errors!.map(({ path }) => path).toSorted()).toEqual([
      "body.tokens_day",
      "body.tokens_month",
      "body.tokens_year",
      "body.usd_day",
      "body.usd_month",
    ]);
    expect((await service.send("PUT", "/v1/budgets/workspaces/other", {}, admin)).status).toBe(404);
    expect((await service.get("/v1/budgets/planets/mars", admin)).status).toBe(400);
  });
});

describe("PARLEY_BUDGETS", () => {
  const started = (env: Record<string, string>) =>
    runParley(["config"], serviceEnv(directory, { model, env }));

  test("is printed as it is in force", async () => {
    const text = "User 100000 tokens / day,workspace 2.50 usd/month,key 7 tokens/month";
    const { stdout } = await started({ PARLEY_BUDGETS: text, PARLEY_PRICES_FILE: prices });
    expect(stdout).toContain(
      "PARLEY_BUDGETS=user 100000 tokens/day, key 7 tokens/month, workspace 2.5 usd/month\n",
    );
  });

  test("stops the start with every fault", async () => {
    const text =
      "user 5 tokens/year, planet 5 tokens/day, user 1.5 tokens/day, key 9999999 usd/day, user 1 usd/day";
    const { exitCode, stderr } = await started({ PARLEY_BUDGETS: text });
    expect(exitCode).not.toBe(0);
    for (const entry of ["user 5 tokens/year", "planet 5 tokens/day"]) {
      expect(stderr).toContain(`PARLEY_BUDGETS: "${entry}" must be such as`);
    }
    expect(stderr).toContain('"user 1.5 tokens/day" must have whole tokens');
    expect(stderr).toContain('"key 9999999 usd/day" must have dollars below a million');
    expect(stderr).toContain(
      `PARLEY_BUDGETS limits dollars, but PARLEY_PRICES_FILE has no price of ${testModel}`,
    );
  });
});
