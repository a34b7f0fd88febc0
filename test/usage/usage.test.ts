/** The ledger as its readers see it: a row a turn, sums of them, over HTTP. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { parse } from "csv-parse/sync";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import {
  type Service,
  startService,
  temporaryDirectory,
  testModel,
  testMsMax,
  until,
} from "../support/service.ts";
import { holdTurn, untilEnded, wholeTurn } from "../support/turns.ts";
import { sumOf, totalsIn, usageOf, writePrices } from "../support/usage.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
const directory = temporaryDirectory();
let env: Record<string, string>;

beforeAll(async () => {
  model = startModelServer();
  const table = {
    [testModel]: { prompt: 0.25, cached_prompt: 0.025, completion: 2 },
    other: { prompt: 1, completion: 1 },
  };
  env = { PARLEY_PRICES_FILE: await writePrices(directory, table) };
});
afterAll(async () => {
  await model.close();
  rmSync(directory, { recursive: true });
});

const day = (): string => new Date().toISOString().slice(0, 10);

async function turn(
  service: Service,
  body: Record<string, unknown>,
  usage = { prompt_tokens: 10, completion_tokens: 4 },
) {
  model.reply(["Hello"], { usage });
  const answer = await service.post<{ conversation_id: string }>("/v1/chat", { message: "Hi", ...body });
  expect(answer.status).toBe(200);
  return answer.body;
}

describe("a turn's row", () => {
  test("has the provider's counts, cached and reasoning tokens among them, and their exact cost", async () => {
    await using service = await startService({ model, env });
    model.reply(["Hello"], {
      usage: {
        prompt_tokens: 1_000,
        completion_tokens: 300,
        prompt_tokens_details: { cached_tokens: 400 },
        completion_tokens_details: { reasoning_tokens: 250 },
      },
    });
    await service.post("/v1/chat", { user_id: "ada", message: "Hi" });
    const sum = await sumOf(service);
    expect(sum).toEqual({
      group: null,
      turns: 1,
      prompt_tokens: 1_000,
      cached_tokens: 400,
      completion_tokens: 300,
      reasoning_tokens: 250,
      total_tokens: 1_300,
      estimated_turns: 0,
      // 600 at 0.25, 400 at 0.025, 300 at 2 dollars a million.
      cost_usd: "0.00076",
      unpriced_turns: 0,
      first_token_ms: expect.any(Number),
      duration_ms: expect.any(Number),
      background_requests: 0,
      background_tokens: 0,
      background_cost_usd: "0",
    });
    expect(sum.first_token_ms!).toBeLessThanOrEqual(sum.duration_ms!);
  });

  test("is there from the start on, and settled by whatever ends the turn", async () => {
    await using service = await startService({ model, env });
    const { turn: held } = await holdTurn(service, model, "some words of a reply");
    expect(await sumOf(service)).toMatchObject({
      turns: 1,
      total_tokens: 0,
      estimated_turns: 0,
      duration_ms: null,
    });
    await service.post(`/v1/turns/${held.id}/stop`, {});
    await untilEnded(service, held.id);
    const stopped = await sumOf(service);
    expect(stopped).toMatchObject({ turns: 1, estimated_turns: 1 });
    expect(stopped.completion_tokens).toBeGreaterThan(0);
    expect(Number(stopped.cost_usd)).toBeGreaterThan(0);
    model.failAfter(2, "end");
    const failed = await service.post("/v1/chat", { user_id: "ada", message: "Fail" });
    expect(failed.status).toBe(502);
    expect((await sumOf(service)).turns).toBe(2);
    const { ledger, turns, conversations } = totalsIn(service.dataDir);
    expect(ledger).toEqual(turns);
    expect(ledger.total_tokens).toBe(conversations);
  });

  test("has no cost where the model has no price, and that is told", async () => {
    await using service = await startService({ model, env });
    await turn(service, { user_id: "ada", model: "unheard-of" });
    await turn(service, { user_id: "ada" });
    expect(await sumOf(service)).toMatchObject({ turns: 2, unpriced_turns: 1, cost_usd: "0.0000105" });
    expect(await sumOf(service, "?model=unheard-of")).toMatchObject({ unpriced_turns: 1, cost_usd: "0" });
  });

  test("stays when its conversation is deleted, and is still found by it", async () => {
    await using service = await startService({ model, env });
    const { conversation_id } = await turn(service, { user_id: "ada" });
    await service.send("DELETE", `/v1/conversations/${conversation_id}`);
    expect(await sumOf(service, `?conversation_id=${conversation_id}`)).toMatchObject({
      turns: 1,
      total_tokens: 14,
    });
  });

  test("stays when its user is erased, without their name and the conversation's", async () => {
    await using service = await startService({ model, env });
    const { conversation_id } = await turn(service, { user_id: "ada" });
    await turn(service, { user_id: "bob" });
    await service.send("DELETE", "/v1/users/ada");
    expect(await sumOf(service)).toMatchObject({ turns: 2, total_tokens: 28 });
    const groups = async (by: string) =>
      (await usageOf(service, `?group_by=${by}`)).usage.map(({ group }) => group);
    expect(await groups("user")).toEqual([null, "bob"]);
    expect(await groups("conversation")).toEqual([null, expect.stringMatching(/^conv_/)]);
    expect(await sumOf(service, "?user_id=ada")).toMatchObject({ turns: 0 });
    expect((await service.get(`/v1/usage?conversation_id=${conversation_id}`)).status).toBe(404);
    // Whoever comes by that name later is somebody else.
    await turn(service, { user_id: "ada" });
    expect(await sumOf(service, "?user_id=ada")).toMatchObject({ turns: 1 });
  });
});

describe("GET /v1/usage", () => {
  let service: Service;
  let conversation: string;
  const formula = '=HYPERLINK("evil"),2';
  const startedOn = day();
  const keys = { first: "first-secret-of-16", second: "second-secret-of-16" };
  const as = (key: keyof typeof keys) => ({ authorization: `Bearer ${keys[key]}` });

  beforeAll(async () => {
    service = await startService({ model, env: { ...env, PARLEY_API_KEYS: `${keys.first},${keys.second}` } });
    const say = async (key: keyof typeof keys, body: Record<string, unknown>) => {
      model.reply(["Hello"], { usage: { prompt_tokens: 10, completion_tokens: 4 } });
      return (
        await service.post<{ conversation_id: string }>("/v1/chat", { message: "Hi", ...body }, as(key))
      ).body;
    };
    ({ conversation_id: conversation } = await say("first", { user_id: "ada" }));
    await say("first", { user_id: "ada", conversation_id: conversation });
    await say("first", { user_id: formula });
    await say("second", { user_id: "@bob", model: "other" });
  });
  afterAll(() => service[Symbol.asyncDispose]());

  const groupsBy = async (by: string) => {
    const { usage, group_by } = await usageOf(service, `?group_by=${by}`, as("first"));
    expect(group_by).toBe(by);
    expect(usage.reduce((sum, { total_tokens }) => sum + total_tokens, 0)).toBe(56);
    return usage.map(({ group, turns }) => [group, turns]);
  };

  test("sums up by user, model, key, conversation and day of UTC", async () => {
    expect(await groupsBy("user")).toEqual([
      ["ada", 2],
      [formula, 1],
      ["@bob", 1],
    ]);
    expect(await groupsBy("model")).toEqual([
      ["other", 1],
      [testModel, 3],
    ]);
    const byKey = await groupsBy("key");
    expect(byKey.map(([, turns]) => turns).toSorted()).toEqual([1, 3]);
    expect((await groupsBy("conversation"))[0]).toEqual([conversation, 2]);
    // Midnight may come in between.
    for (const [group] of await groupsBy("day")) expect([startedOn, day()]).toContain(String(group));
  });

  test("sums up what its filters leave", async () => {
    const turnsOf = async (query: string) => (await sumOf(service, query, as("first"))).turns;
    const key = (await usageOf(service, "?group_by=key&user_id=%40bob", as("first"))).usage[0]!.group!;
    expect(await turnsOf(`?key=${key}`)).toBe(1);
    expect(await turnsOf("?user_id=ada")).toBe(2);
    expect(await turnsOf(`?conversation_id=${conversation}`)).toBe(2);
    expect(await turnsOf("?model=other&user_id=ada")).toBe(0);
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
    expect(await turnsOf(`?from=${startedOn}&to=${tomorrow}`)).toBe(4);
    expect(await turnsOf(`?from=${tomorrow}`)).toBe(0);
    expect(await turnsOf(`?to=${Math.floor(Date.now() / 1000) - 3600}`)).toBe(0);
  });

  test("goes through pages to the same sums", async () => {
    const whole = await usageOf(service, "?group_by=user", as("first"));
    const paged: unknown[] = [];
    for (let after = ""; ; ) {
      const page = await usageOf(service, `?group_by=user&limit=1${after}`, as("first"));
      expect(page.usage.length).toBe(1);
      paged.push(...page.usage);
      if (page.next_after === null) break;
      after = `&after=${page.next_after}`;
    }
    expect(paged).toEqual(whole.usage);
  });

  test.each([
    ["from=yesterday", "query.from"],
    ["to=2026-02-31", "query.to"],
    ["group_by=colour", "query.group_by"],
    ["format=xml", "query.format"],
    ["limit=0", "query.limit"],
    ["after=x", "query.after"],
    [`group_by=day&after=${Buffer.from('["user",1]').toString("base64url")}`, "query.after"],
  ])("refuses %s", async (query, path) => {
    const { status, body } = await service.get<Problem>(`/v1/usage?${query}`, as("first"));
    expect(status).toBe(400);
    expect(body.errors!.map((fault) => fault.path)).toEqual([path]);
  });

  test("is CSV where that is asked for, with nothing in it that a spreadsheet would run", async () => {
    const query = "/v1/usage?group_by=user";
    const asked = await service.fetch(query, { headers: { ...as("first"), accept: "text/csv" } });
    expect(asked.headers.get("content-type")).toBe("text/csv; charset=utf-8");
    const text = await asked.text();
    const rows = parse(text, { columns: true }) as Record<string, string>[];
    expect(
      rows.map(({ user, turns, total_tokens, cost_usd }) => [user, turns, total_tokens, cost_usd]),
    ).toEqual([
      ["ada", "2", "28", "0.000021"],
      [`'${formula}`, "1", "14", "0.0000105"],
      ["'@bob", "1", "14", "0.000014"],
    ]);
    const named = await service.fetch(`${query}&format=csv`, { headers: as("first") });
    expect(await named.text()).toBe(text);
    const json = await service.fetch(`${query}&format=json`, {
      headers: { ...as("first"), accept: "text/csv" },
    });
    expect(json.headers.get("content-type")).toStartWith("application/json");
  });

  test("needs a key", async () => {
    expect((await service.get("/v1/usage")).status).toBe(401);
  });
});

test("what models do in the background is in the ledger too, beside the turns' own sums", async () => {
  await using service = await startService({ model, env: { ...env, PARLEY_MEMORY_MODEL: testModel } });
  model.memory.reply(['{"memories": []}'], { usage: { prompt_tokens: 100, completion_tokens: 10 } });
  await wholeTurn(service, model, ["Hello"], { message: "My name is Ada." });
  await until("it is entered", async () => (await sumOf(service)).background_requests === 1);
  const sum = await sumOf(service, "?user_id=ada");
  expect(sum).toMatchObject({ turns: 1, background_tokens: 110, background_cost_usd: "0.000045" });
  const { ledger, turns } = totalsIn(service.dataDir);
  expect(ledger).toEqual(turns);
  expect(sum.total_tokens).toBe(turns.total_tokens);
});
