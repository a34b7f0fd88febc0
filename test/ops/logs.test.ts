/** What whoever runs the service reads of it: one line an event, in which nobody else can write. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { linesOf, linesWith, loggedLine } from "../support/log-lines.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import {
  type Service,
  serviceEnv,
  startService,
  temporaryDirectory,
  testMsMax,
  until,
} from "../support/service.ts";
import { sseEvents } from "../support/sse.ts";
import { startTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const root = new URL("../..", import.meta.url).pathname;
const key = "a-key-of-the-log-tests";
const authorized = { authorization: `Bearer ${key}` };
const ask = { user_id: "ada", message: "What is SECRET-QUESTION?" };

let model: ModelServer;
let service: Service;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model, env: { PARLEY_API_KEYS: key } });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

/** A request with an id of its own, by which its lines are found. */
let requests = 0;
const named = (): { id: string; headers: Record<string, string> } => {
  const id = `log-test-${++requests}`;
  return { id, headers: { ...authorized, "x-request-id": id } };
};

describe("a turn", () => {
  test("is two lines, its own and its request's, which name each other", async () => {
    model.reply(["SECRET-", "ANSWER"], { usage: { prompt_tokens: 7, completion_tokens: 2 } });
    const { id, headers } = named();
    const { body } = await service.post<ChatResponse>("/v1/chat", ask, headers);
    await loggedLine(service, { event: "request_ended", request_id: id });
    const lines = linesWith(service, { request_id: id });
    expect(lines).toEqual([
      {
        level: "info",
        time: expect.any(String),
        event: "turn_ended",
        turn_id: body.turn_id,
        request_id: id,
        workspace_id: "default",
        user_id: "ada",
        conversation_id: body.conversation_id,
        model: "test-model",
        status: "completed",
        prompt_tokens: 7,
        completion_tokens: 2,
        tokens_used: 9,
        estimated: false,
        first_token_ms: expect.any(Number),
        duration_ms: expect.any(Number),
        msg: "turn ended",
      },
      {
        level: "info",
        time: expect.any(String),
        event: "request_ended",
        request_id: id,
        method: "POST",
        route: "/v1/chat",
        status: 200,
        workspace_id: "default",
        principal_id: expect.stringMatching(/^env:[0-9a-f]{16}$/),
        turn_id: body.turn_id,
        duration_ms: expect.any(Number),
        msg: "request ended",
      },
    ]);
    const [turn, request] = lines;
    expect(turn!.first_token_ms as number).toBeLessThanOrEqual(turn!.duration_ms as number);
    // Both clocks are rounded.
    expect(request!.duration_ms as number).toBeGreaterThanOrEqual((turn!.duration_ms as number) - 2);
  });

  test("that fails says with which code, and so does its request, as an error", async () => {
    const { id, headers } = named();
    model.status(401, { body: { error: { message: "SECRET-UPSTREAM", code: "invalid_api_key" } } });
    const { status } = await service.post("/v1/chat", ask, headers);
    expect(status).toBe(502);
    expect(await loggedLine(service, { event: "request_ended", request_id: id })).toMatchObject({
      level: "error",
      status: 502,
      code: "model_rejected",
    });
    expect(linesWith(service, { event: "turn_ended", request_id: id })).toMatchObject([
      { level: "info", status: "failed", code: "model_rejected", completion_tokens: 0 },
    ]);
  });

  test("that is stopped says so, and names the request that started it", async () => {
    model.hold().send("some text");
    const { id, headers } = named();
    const turn = await startTurn(service, {}, headers);
    await until("there is some text", async () => {
      const { body } = await service.get<{ response: string }>(`/v1/turns/${turn.id}`, authorized);
      return body.response !== "";
    });
    await service.post(`/v1/turns/${turn.id}/stop`, undefined, authorized);
    expect(await loggedLine(service, { event: "turn_ended", turn_id: turn.id })).toMatchObject({
      request_id: id,
      status: "stopped",
      estimated: true,
    });
  });
});

describe("a request", () => {
  test("that streams ends with its stream, and not with its head", async () => {
    const held = model.hold();
    const { id, headers } = named();
    const stream = await service.fetch("/v1/chat/stream", {
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: JSON.stringify(ask),
    });
    const events = sseEvents(stream);
    await events.next();
    // A later request has its line: so the stream's would be there.
    const later = named();
    await service.get("/v1/conversations", later.headers);
    await loggedLine(service, { request_id: later.id });
    expect(linesWith(service, { request_id: id })).toEqual([]);
    held.send("done");
    held.finish();
    for await (const _ of events);
    expect(await loggedLine(service, { event: "request_ended", request_id: id })).toMatchObject({
      method: "POST",
      route: "/v1/chat/stream",
      status: 200,
    });
    expect(linesWith(service, { event: "request_ended", request_id: id })).toHaveLength(1);
  });

  test("whose client has gone says so, though its turn runs on", async () => {
    const held = model.hold();
    const { id, headers } = named();
    const leaving = new AbortController();
    const query = new URLSearchParams(ask);
    const stream = await service.fetch(`/v1/chat/stream?${query}`, { headers, signal: leaving.signal });
    const { value } = await sseEvents(stream).next();
    const { turn_id } = JSON.parse(value!.data) as { turn_id: string };
    leaving.abort();
    const line = await loggedLine(service, { event: "request_ended", request_id: id });
    expect(line).toMatchObject({ client_gone: true, turn_id });
    expect(linesWith(service, { event: "turn_ended", turn_id })).toEqual([]);
    held.finish();
    await loggedLine(service, { event: "turn_ended", turn_id, status: "completed" });
  });

  const requestsThatEnd: [method: string, path: string, expected: Record<string, unknown>][] = [
    ["GET", "/v1/conversations", { route: "/v1/conversations", status: 200 }],
    ["GET", "/conversations", { route: "/conversations", status: 200 }],
    ["GET", "/v1/turns/no-turn", { route: "/v1/turns/:id", status: 404, code: "not_found" }],
    ["GET", "/nowhere/SECRET-PATH", { route: null, status: 404, code: "not_found" }],
    ["DELETE", "/v1/conversations", { route: null, status: 405, code: "method_not_allowed" }],
    ["PROPFIND", "/v1/conversations", { method: "OTHER", route: null, status: 405 }],
    ["POST", "/v1/chat", { route: "/v1/chat", status: 415, code: "unsupported_media_type" }],
    ["GET", "/v1/conversations?limit=SECRET", { route: "/v1/conversations", status: 400 }],
    ["GET", "/v1/users/ada/export", { route: "/v1/users/:user_id/export", status: 200 }],
    ["HEAD", "/v1/users/ada/export", { route: "/v1/users/:user_id/export", status: 200 }],
    ["HEAD", "/v1/chat/stream", { route: "/v1/chat/stream", status: 200 }],
    ["GET", "/docs", { route: "/docs", status: 200 }],
  ];
  test.each(requestsThatEnd)(
    "%s %s is one line, which holds nothing of its path",
    async (method, path, expected) => {
      const { id, headers } = named();
      const response = await service.fetch(path, {
        method,
        headers: method === "POST" ? { ...headers, "content-type": "text/plain" } : headers,
        ...(method === "POST" && { body: "text" }),
      });
      await response.text();
      const line = await loggedLine(service, { request_id: id });
      expect(line).toMatchObject({ event: "request_ended", level: "info", method, ...expected });
      expect(linesWith(service, { request_id: id })).toHaveLength(1);
    },
  );

  test("of a browser that asks first whether it may is a line too", async () => {
    await using own = await startService({ env: { PARLEY_CORS_ORIGINS: "https://chat.example" } });
    const headers = { origin: "https://chat.example", "access-control-request-method": "POST" };
    const { id, headers: named_ } = named();
    const { status } = await own.fetch("/v1/chat", { method: "OPTIONS", headers: { ...headers, ...named_ } });
    expect(status).toBe(204);
    const line = await loggedLine(own, { request_id: id });
    expect(line).toMatchObject({ event: "request_ended", method: "OPTIONS", route: null, status: 204 });
  });

  test("without a key has no principal", async () => {
    const { status } = await service.get("/v1/conversations", { "x-request-id": "stranger" });
    expect(status).toBe(401);
    const line = await loggedLine(service, { request_id: "stranger" });
    expect(line).toMatchObject({ status: 401, code: "unauthorized" });
    expect(Object.keys(line)).not.toContain("principal_id");
  });

  test("of a probe is no line", async () => {
    for (const path of ["/health", "/ready"]) {
      const { id, headers } = named();
      await service.get(path, headers);
      const later = named();
      await service.get("/v1/conversations", later.headers);
      await loggedLine(service, { request_id: later.id });
      expect(linesWith(service, { request_id: id })).toEqual([]);
    }
  });
});

test("nothing of what is said, of paths or of keys is in the log", () => {
  expect(service.logs.length).toBeGreaterThan(10);
  expect(service.logs.join("\n")).not.toContain("SECRET");
  expect(service.logs.join("\n")).not.toContain(key);
});

test("PARLEY_LOG_CONTENT=1 puts the message and the reply into the turn's line, and nowhere else", async () => {
  const own = startModelServer();
  await using telling = await startService({ model: own, env: { PARLEY_LOG_CONTENT: "1" } });
  own.reply(["the ", "reply"]);
  const { body } = await telling.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "the message" });
  const line = await loggedLine(telling, { event: "turn_ended", turn_id: body.turn_id });
  expect(line).toMatchObject({ message: "the message", reply: "the reply" });
  const long = "漢".repeat(32_000);
  own.reply([long, "and more"]);
  const { body: longer } = await telling.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "more" });
  expect((await loggedLine(telling, { event: "turn_ended", turn_id: longer.turn_id })).reply).toBe(long);
  await loggedLine(telling, { event: "request_ended", turn_id: longer.turn_id });
  const others = linesOf(telling).filter(({ event }) => event !== "turn_ended");
  expect(JSON.stringify(others)).not.toMatch(/the message|the reply|漢/);
  await own.close();
});

/** Text that would begin a line, move the cursor, set a title, or turn the direction of what follows. */
const forged = [
  'ada\n{"level":"info","event":"forged"}',
  "ada\r\n12:00:00.000 ERROR forged event=forged",
  "\u001b[2J\u001b[1;1H\u001b]0;title\u0007",
  "\u009b2J\u009d0;title\u009c",
  "ada\u2028forged\u2029forged\u0085forged",
  "\u202egro.live//:sptth\u2066\u200b\u007f\b\b\b\b",
  'ada" , "event":"forged',
];

/** Sends what is forged wherever a client may put text. */
async function sendForged(url: string): Promise<void> {
  for (const text of forged) {
    await fetch(`${url}/v1/chat`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-request-id": encodeURIComponent(text) },
      body: JSON.stringify({ user_id: text, message: text, model: text, metadata: { a: text } }),
    });
    await fetch(`${url}/${encodeURIComponent(text)}?q=${encodeURIComponent(text)}`, {
      headers: { "user-agent": encodeURIComponent(text), traceparent: encodeURIComponent(text) },
    });
    await fetch(`${url}/v1/users/${encodeURIComponent(text)}/memories`);
  }
}
const linesSent = forged.length * 4;

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
const unwanted = /[\0-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]/;

describe("what clients write", () => {
  test("begins no line of its own, and no other control character gets into the log", async () => {
    const own = startModelServer();
    own.default((scripted) => scripted.reply(["fine"]));
    await using target = await startService({ model: own });
    const before = target.logs.length;
    await sendForged(target.url);
    await until("all is logged", () => target.logs.length >= before + linesSent);
    const { id } = await startTurn(target, { user_id: "the last one" });
    await loggedLine(target, { event: "request_ended", turn_id: id });
    const lines = linesOf(target).slice(before, before + linesSent);
    expect(
      Object.fromEntries(
        Map.groupBy(lines, ({ event }) => event)!
          .entries()
          .map(([event, some]) => [event, some.length]),
      ),
    ).toEqual({
      turn_ended: forged.length,
      request_ended: forged.length * 3,
    });
    expect(lines.filter(({ event }) => event === "turn_ended").map(({ user_id }) => user_id)).toEqual(forged);
    for (const line of target.logs) expect(line).not.toMatch(unwanted);
    await own.close();
  });

  test("moves no cursor where the log is read on a terminal, and forges no line there", async () => {
    const own = startModelServer();
    own.default((scripted) => scripted.reply(["fine"]));
    const dataDir = temporaryDirectory();
    let shown = "";
    const decoder = new TextDecoder();
    const onTerminal = Bun.spawn([process.execPath, "src/main.ts", "serve"], {
      cwd: root,
      env: { ...serviceEnv(dataDir, { model: own }), TERM: "xterm-256color" },
      terminal: {
        cols: 100,
        rows: 30,
        data: (_, bytes) => {
          shown += decoder.decode(bytes, { stream: true });
        },
      },
    });
    try {
      const address = /listening on (http:\S+)/;
      await until("it listens", () => address.test(shown));
      const from = shown.length;
      await sendForged(address.exec(shown)![1]!);
      const count = (): number => shown.slice(from).split("\r\n").length - 1;
      await until("all is shown", () => count() >= linesSent);
      // The colours are the log's own.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
      const text = shown.replace(/\x1b\[(0|90|3[1-3])m/g, "");
      const lines = text.split("\r\n").slice(0, -1);
      expect(
        lines.filter((line) => !/^\d\d:\d\d:\d\d\.\d{3} (INFO {2}|WARN {2}|ERROR {1})\S/.test(line)),
      ).toEqual([]);
      expect(lines.filter((line) => line.includes(" turn ended ")).length).toBe(forged.length);
      expect(lines.filter((line) => line.includes(" request ended ")).length).toBe(forged.length * 3);
      expect(lines.filter((line) => /^\S+ ERROR/.test(line))).toEqual([]);
      for (const line of lines) expect(line).not.toMatch(unwanted);
      expect(text).toContain(String.raw`user_id="\u001b[2J\u001b[1;1H\u001b]0;title\u0007"`);
      expect(text).toContain(String.raw`user_id="\u009b2J\u009d0;title\u009c"`);
    } finally {
      onTerminal.kill("SIGKILL");
      await onTerminal.exited;
      rmSync(dataDir, { recursive: true, force: true });
      await own.close();
    }
  });
});

test("PARLEY_LOG_LEVEL leaves out what is below it", async () => {
  const own = startModelServer();
  const dataDir = temporaryDirectory();
  const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = taken;
  taken.stop(true);
  const quiet = Bun.spawn([process.execPath, "src/main.ts", "serve"], {
    cwd: root,
    env: { ...serviceEnv(dataDir, { model: own }), PORT: String(port), PARLEY_LOG_LEVEL: "warn" },
    stdout: "pipe",
    stderr: "inherit",
  });
  try {
    const url = `http://127.0.0.1:${port}`;
    await until("it is healthy", () =>
      fetch(`${url}/health`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    own.status(401);
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify(ask);
    expect((await fetch(`${url}/v1/chat`, { method: "POST", headers, body })).status).toBe(502);
    expect((await fetch(`${url}/v1/conversations`)).status).toBe(200);
    quiet.kill("SIGTERM");
    const lines = (await new Response(quiet.stdout).text()).trim().split("\n");
    const levels = new Set(lines.map((line) => (JSON.parse(line) as { level: string }).level));
    expect([...levels].toSorted()).toEqual(["error", "warn"]);
  } finally {
    quiet.kill("SIGKILL");
    await quiet.exited;
    rmSync(dataDir, { recursive: true, force: true });
    await own.close();
  }
});
