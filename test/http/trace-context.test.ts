/** A W3C trace context that comes in is logged with the turn and passed on to the model's server. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { startEmbeddingServer } from "../support/embedding-server.ts";
import { linesWith, loggedLine } from "../support/log-lines.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
const parent = "00f067aa0ba902b7";
const traceparent = `00-${trace}-${parent}-01`;

let model: ModelServer;
let service: Service;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

let messages = 0;

/** Runs a turn with these headers; its answer, and what the model's server was sent for it. */
async function turnWith(headers: Record<string, string>) {
  const message = `Message ${++messages}`;
  model.to(message).reply(["fine"]);
  const { status, body } = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message }, headers);
  expect(status).toBe(200);
  const [request] = model.to(message).requests;
  return { turn_id: body.turn_id, sent: request!.headers };
}

/** The parts of a header of version 00, which is all that is ever sent. */
const partsOf = (headers: Headers) => {
  const header = headers.get("traceparent") ?? "";
  const [, trace_id, span, flags] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(header) ?? [];
  return { trace_id, span, flags };
};

describe("a trace that comes in", () => {
  test("is named in the lines of the turn and the request, and in the model's request under a new parent", async () => {
    const { turn_id, sent } = await turnWith({
      traceparent,
      tracestate: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    });
    const { trace_id, span, flags } = partsOf(sent);
    expect([trace_id, flags]).toEqual([trace, "01"]);
    expect(span).not.toBe(parent);
    expect(span).not.toBe("0".repeat(16));
    expect(sent.get("tracestate")).toBe("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
    for (const event of ["turn_ended", "request_ended"]) {
      expect(await loggedLine(service, { event, turn_id })).toMatchObject({ trace_id: trace });
    }
  });

  test.each([
    ["a stream", "/v1/chat/stream"],
    ["a turn that nobody waits for", "/v1/turns"],
  ])("is passed on from %s too", async (_, path) => {
    const message = `Through ${path}`;
    const scripted = model.to(message);
    scripted.reply(["fine"]);
    const response = await service.fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", traceparent },
      body: JSON.stringify({ user_id: "ada", message }),
    });
    await response.text();
    await scripted.received(1);
    expect(partsOf(scripted.requests[0]!.headers).trace_id).toBe(trace);
  });

  test.each([
    ["of a later version, with more after it", `cc-${trace}-${parent}-01-what-the-future-will-be-like`, "01"],
    ["of a later version", `01-${trace}-${parent}-01`, "01"],
    ["that isn't sampled", `00-${trace}-${parent}-00`, "00"],
    ["with flags that nobody knows yet", `00-${trace}-${parent}-ff`, "03"],
    ["with a random id", `00-${trace}-${parent}-02`, "02"],
  ])("%s is passed on as version 00 with the flags that this one knows", async (_, header, flags) => {
    const { sent } = await turnWith({ traceparent: header });
    expect(partsOf(sent)).toMatchObject({ trace_id: trace, flags });
    expect(sent.has("tracestate")).toBe(false);
  });

  test.each([
    ["with capitals", `00-${trace.toUpperCase()}-${parent}-01`],
    ["without an id", `00-${"0".repeat(32)}-${parent}-01`],
    ["without a parent", `00-${trace}-${"0".repeat(16)}-01`],
    ["that is too short", `00-${trace.slice(1)}-${parent}-01`],
    ["that is too long for version 00", `${traceparent}-more`],
    ["of the version that is none", `ff-${trace}-${parent}-01`],
    ["given twice", `${traceparent}, ${traceparent}`],
    ["of other signs", "00-".padEnd(55, "é")],
    ["that is empty", ""],
  ])("%s is ignored, and what goes with it: nothing is sent", async (_, header) => {
    const { turn_id, sent } = await turnWith({ traceparent: header, tracestate: "rojo=1" });
    expect([sent.get("traceparent"), sent.get("tracestate")]).toEqual([null, null]);
    const line = await loggedLine(service, { event: "request_ended", turn_id });
    expect([line.trace_id, linesWith(service, { turn_id, event: "turn_ended" })[0]!.trace_id]).toEqual([
      undefined,
      undefined,
    ]);
  });

  test.each([
    ["a key twice", "rojo=1,rojo=2"],
    ["no value", "rojo"],
    ["an equals sign in a value", "rojo=a=b"],
    ["a key in capitals", "Rojo=1"],
    ["more than 32 members", Array.from({ length: 33 }, (_, n) => `k${n}=1`).join(",")],
  ])("with a tracestate of %s goes on without it", async (_, tracestate) => {
    const { sent } = await turnWith({ traceparent, tracestate });
    expect([partsOf(sent).trace_id, sent.get("tracestate")]).toEqual([trace, null]);
  });

  test("with a tracestate of the longest kind keeps whole members of it, up to 512 characters", async () => {
    const members = Array.from({ length: 10 }, (_, n) => `tenant@k${n}=${"v".repeat(90)}`);
    const { sent } = await turnWith({ traceparent, tracestate: members.join(" , ") });
    expect(sent.get("tracestate")).toBe(members.slice(0, 5).join(","));
  });
});

test("without one none is begun", async () => {
  const { turn_id, sent } = await turnWith({ tracestate: "rojo=1" });
  expect([sent.get("traceparent"), sent.get("tracestate")]).toEqual([null, null]);
  const line = await loggedLine(service, { event: "turn_ended", turn_id });
  expect(Object.keys(line)).not.toContain("trace_id");
});

test("retries and fallbacks belong to the trace, each under a parent of its own", async () => {
  const first = startModelServer();
  const second = startModelServer();
  first.status(503);
  first.status(503);
  first.status(401);
  second.reply(["fine"]);
  await using own = await startService({
    model: first,
    env: { PARLEY_FALLBACK_MODELS: `second@${second.url}` },
  });
  const { body } = await own.post<ChatResponse>(
    "/v1/chat",
    { user_id: "ada", message: "Hello" },
    { traceparent, tracestate: "rojo=1" },
  );
  expect(body.model).toBe("second");
  const sent = [...first.requests, ...second.requests].map(({ headers }) => headers);
  expect(sent.map((headers) => [partsOf(headers).trace_id, headers.get("tracestate")])).toEqual(
    Array(4).fill([trace, "rojo=1"]),
  );
  expect(new Set([parent, ...sent.map((headers) => partsOf(headers).span)]).size).toBe(5);
  await first.close();
  await second.close();
});

test("what is done in the background, and embeddings, belong to none", async () => {
  const own = startModelServer();
  const embedding = startEmbeddingServer();
  own.memory.reply(['{"memories": []}']);
  own.reply(["fine"]);
  await using remembering = await startService({
    model: own,
    env: { PARLEY_MEMORY_MODEL: "test-model", PARLEY_EMBEDDING_MODEL: `vectors@${embedding.url}` },
  });
  await loggedLine(remembering, { event: "embedding" });
  await remembering.post("/v1/chat", { user_id: "ada", message: "I live in Zurich." }, { traceparent });
  await own.memory.received(1);
  expect(own.requests[0]!.headers.has("traceparent")).toBe(true);
  expect(own.memory.requests[0]!.headers.has("traceparent")).toBe(false);
  expect(embedding.requests.length).toBeGreaterThan(0);
  expect(embedding.requests.filter(({ headers }) => headers.has("traceparent"))).toEqual([]);
  await own.close();
  await embedding.close();
});
