/**
 * Every fault of a model, and every odd form of a whole reply, through the real service: what each view of the turn
 * tells, what is kept, and who was asked.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type ErrorCode, statusOf, titleOf } from "../../src/errors.ts";
import type { FinishReason } from "../../src/models/model.ts";
import { modelFaults, secret, textFrame } from "../support/model-faults.ts";
import { modelOddities } from "../support/model-oddities.ts";
import { type ModelServer, type Scripting, startModelServer } from "../support/model-server.ts";
import { SeenText } from "../support/seen-text.ts";
import { type Service, startService, testModel } from "../support/service.ts";
import { type Views, viewTurn } from "../support/turn-views.ts";

setDefaultTimeout(60_000);

const fallbackModel = "fallback-model";

/** The limits of time that faults run into, as low as whole seconds and a machine that is busy allow. */
const limits = {
  none: {},
  firstByte: { PARLEY_MODEL_FIRST_BYTE_SECONDS: "3" },
  idle: { PARLEY_MODEL_IDLE_SECONDS: "1" },
  turn: { PARLEY_TURN_SECONDS_MAX: "3" },
};
type Limit = keyof typeof limits;

let first: ModelServer;
let second: ModelServer;
const alone = new Map<Limit, Service>();
const withFallback = new Map<Limit, Service>();

beforeAll(async () => {
  [first, second] = [startModelServer(), startModelServer()];
  const fallbacks = { PARLEY_FALLBACK_MODELS: `${fallbackModel}@${second.url}` };
  const start = async (services: Map<Limit, Service>, limit: Limit, env: Record<string, string> = {}) =>
    services.set(limit, await startService({ model: first, env: { ...limits[limit], ...env } }));
  await Promise.all([
    start(alone, "none"),
    start(alone, "firstByte"),
    ...(Object.keys(limits) as Limit[]).map((limit) => start(withFallback, limit, fallbacks)),
  ]);
});
afterAll(async () => {
  const services = [...alone.values(), ...withFallback.values()];
  await Promise.all(services.map((service) => service[Symbol.asyncDispose]()));
  await Promise.all([first.close(), second.close()]);
});

/** Runs a turn against models that answer its message so, each request alike. */
async function run(service: Service, message: string, script: (model: Scripting, reader: SeenText) => void) {
  const reader = new SeenText();
  const [asked, fallback] = [first.to(message), second.to(message)];
  asked.default((model) => script(model, reader));
  fallback.default((model) => model.reply(["from ", "the fallback"]));
  const views = await viewTurn(service, { user_id: "ada", message }, reader.add);
  return { ...views, asked: asked.requests, fallback: fallback.requests };
}

interface End {
  status: string;
  text: string;
  model?: string;
  finish_reason?: FinishReason | null;
  error?: { code: ErrorCode; message: string };
  /** As the provider reported it; without it Parley counts. */
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number } | undefined;
}

const failure = (code: ErrorCode) => ({ code, message: `${titleOf(code)}.` });

/** Checks that all views tell the same end. */
function expectEnd({ stream, json, turn, message, conversation }: Views, end: End): void {
  const { status, text, model = testModel, finish_reason = null, error = null } = end;
  const { conversation_id, id: turn_id, message_id, usage } = turn;
  const ids = { conversation_id, turn_id, message_id };
  const common = { status, finish_reason, model, usage, tokens_used: usage.total_tokens };

  expect(stream.start).toEqual({ ...ids, model: expect.any(String) });
  // The fallback, where it had begun by then.
  expect([testModel, model]).toContain(stream.start.model);
  expect(stream.text).toBe(text);
  expect(stream.done).toEqual({ done: true, ...ids, ...common, length: text.length, sources: [], error });
  expect(turn).toMatchObject({ ...common, response: text, length: text.length, error });
  expect(turn.ended_at).toBeGreaterThan(0);
  expect(message).toMatchObject({ role: "assistant", content: text, status, model });
  expect(message.tokens > 0).toBe(text !== "");
  expect(conversation).toMatchObject({
    message_count: 2,
    active_turn_id: null,
    tokens_used: usage.total_tokens,
  });

  if (end.usage) expect(usage).toEqual({ ...end.usage, estimated: false });
  else expectEstimated(usage, text);

  if (error === null) {
    expect(json.status).toBe(200);
    expect(json.body).toMatchObject({ ...ids, ...common, response: text });
  } else {
    const status = statusOf(error.code);
    expect([502, 503, 504]).toContain(status);
    expect(json.status).toBe(status);
    expect(json.headers.get("content-type")).toBe("application/problem+json");
    const { code, message: detail } = error;
    expect(json.body).toMatchObject({ code, status, detail, turn_id, conversation_id, response: text });
  }
  expect(JSON.stringify([stream, json.body, turn, message])).not.toContain(secret);
}

function expectEstimated(usage: Views["turn"]["usage"], text: string): void {
  expect(usage.estimated).toBe(true);
  expect(usage.prompt_tokens).toBeGreaterThan(0);
  expect(usage.completion_tokens > 0).toBe(text !== "");
  expect(usage.total_tokens).toBe(usage.prompt_tokens + usage.completion_tokens);
}

const early = modelFaults.filter(({ text }) => text === undefined);
const late = modelFaults.filter(({ text }) => text !== undefined);

describe.concurrent("a fault before the first token", () => {
  test.each(early)("without a fallback is the turn's failure: $fault", async (row) => {
    const { code, next, usage, limit = "none" } = row;
    const ran = await run(alone.get(limit)!, `alone: ${row.fault}`, (model, { seen }) =>
      row.script(model, seen),
    );
    expectEnd(ran, { status: "failed", text: "", error: failure(code), usage });
    expect(ran.asked.length).toBe(next === "same" ? 3 : 1);
  });

  test.each(early)("is made good by a fallback, where one may help: $fault", async (row) => {
    const { code, next, usage, limit = "none" } = row;
    const ran = await run(withFallback.get(limit)!, `early: ${row.fault}`, (model, { seen }) =>
      row.script(model, seen),
    );
    if (next === "nobody") {
      expectEnd(ran, { status: "failed", text: "", error: failure(code), usage });
    } else {
      const text = "from the fallback";
      expectEnd(ran, { status: "completed", text, finish_reason: "stop", model: fallbackModel });
    }
    expect(ran.asked.length).toBe(next === "same" ? 3 : 1);
    expect(ran.fallback.map(({ body }) => body.model)).toEqual(next === "nobody" ? [] : [fallbackModel]);
  });
});

describe.concurrent("a fault after some text is the turn's failure, and the text is kept", () => {
  test.each(late)("$fault", async (row) => {
    const { code, text = "", usage, limit = "none" } = row;
    const ran = await run(withFallback.get(limit)!, `late: ${row.fault}`, (model, { seen }) =>
      row.script(model, seen),
    );
    expectEnd(ran, { status: "failed", text, error: failure(code), usage });
    expect([ran.asked.length, ran.fallback.length]).toEqual([1, 0]);
    if (limit !== "none") await ran.asked[0]!.closed;
  });

  test("thoughts without an end, within every limit but the turn's", async () => {
    const thought = `data: {"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}\n\n`;
    const ran = await run(withFallback.get("turn")!, "endless thoughts", (model) =>
      model.raw([textFrame("a")], { repeat: thought }),
    );
    const error = { code: "model_timeout", message: "The reply took longer than a turn may." } as const;
    expectEnd(ran, { status: "failed", text: "a", error });
    expect([ran.asked.length, ran.fallback.length]).toEqual([1, 0]);
    await ran.asked[0]!.closed;
  });
});

const statusOfFinish: Record<string, string> = { length: "truncated", content_filter: "filtered" };

describe.concurrent("a whole reply in an odd form is a whole reply", () => {
  test.each(modelOddities)("$form", async (row) => {
    const { text, finish_reason, usage } = row;
    const ran = await run(withFallback.get("none")!, `odd: ${row.form}`, (model, { seen }) =>
      model.raw(row.chunks(seen), row.options),
    );
    expectEnd(ran, {
      status: statusOfFinish[finish_reason ?? ""] ?? "completed",
      text,
      finish_reason,
      usage,
    });
    expect([ran.asked.length, ran.fallback.length]).toEqual([1, 0]);
  });

  test("a reply without an end is cut at the longest that is kept", async () => {
    const ran = await run(withFallback.get("none")!, "an endless reply", (model) =>
      model.raw([], { repeat: textFrame("x".repeat(100_000)) }),
    );
    expectEnd(ran, { status: "truncated", text: "x".repeat(1_000_000), finish_reason: "length" });
    await ran.asked[0]!.closed;
  });
});

test("nothing of what the model's servers wrote is in the logs", () => {
  for (const { logs } of [...alone.values(), ...withFallback.values()]) {
    expect(logs.join("\n")).not.toContain(secret);
  }
});
