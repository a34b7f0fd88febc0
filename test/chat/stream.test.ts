/** POST and GET /v1/chat/stream: a turn, watched from its start. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Conversation } from "../../src/conversations/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { connect, parseAnswer } from "../support/raw-client.ts";
import { type Service, startService, testModel, testMsMax, until } from "../support/service.ts";
import { readSse, readTranscript, type StartData, sseEvents, toTranscript } from "../support/sse.ts";
import { turnOf, untilEnded, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

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

const stream = (body: Record<string, unknown> = {}, headers: Record<string, string> = {}) =>
  service.fetch("/v1/chat/stream", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ user_id: "ada", message: "Hello", ...body }),
  });

const get = (query: Record<string, string>, headers: Record<string, string> = {}, path = "/v1/chat/stream") =>
  service.fetch(`${path}?${new URLSearchParams({ user_id: "ada", message: "Hello", ...query })}`, {
    headers,
  });

const conversationCount = async (user: string): Promise<number> =>
  (await service.get<{ conversations: Conversation[] }>(`/v1/conversations?user_id=${user}`)).body
    .conversations.length;

describe("the frames", () => {
  test("are exactly these, byte for byte", async () => {
    const held = model.hold();
    const response = await stream();
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    let text = "";
    const received = async (what: string): Promise<void> => {
      while (!text.includes(what)) text += decoder.decode((await reader.read()).value, { stream: true });
    };
    await received("event: start");
    held.send("Hel");
    await received('"Hel"');
    held.send("lo 😀");
    await received("😀");
    held.finish({ usage: { prompt_tokens: 7, completion_tokens: 5 } });
    await received('"done":true');
    expect((await reader.read()).done).toBe(true);
    const { turn_id, conversation_id, message_id } = JSON.parse(
      /event: start\nid: .*\ndata: (.*)\n/.exec(text)![1]!,
    ) as StartData;
    const done = {
      done: true,
      conversation_id,
      turn_id,
      message_id,
      status: "completed",
      finish_reason: "stop",
      model: testModel,
      length: 8,
      sources: [],
      tokens_used: 12,
      usage: { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12, estimated: false },
      error: null,
    };
    const start = { turn_id, conversation_id, message_id, model: testModel };
    expect(text).toBe(
      `retry: 2000\n\nevent: start\nid: ${turn_id}:0\ndata: ${JSON.stringify(start)}\n\n` +
        `id: ${turn_id}:3\ndata: {"token":"Hel"}\n\n` +
        `id: ${turn_id}:8\ndata: {"token":"lo 😀"}\n\n` +
        `id: ${turn_id}:end\ndata: ${JSON.stringify(done)}\n\n`,
    );
  });

  test("have the headers that proxies need", async () => {
    model.reply(["x"]);
    const response = await stream();
    // To its end, or else the model would be asked in the middle of the next test.
    await response.text();
    const { headers, status } = response;
    expect(status).toBe(200);
    expect(headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    expect(headers.get("cache-control")).toBe("no-cache, no-transform");
    expect(headers.get("x-accel-buffering")).toBe("no");
    expect(headers.get("x-request-id")).toStartWith("req_");
  });

  test("begin before the model has said anything, when the turn is committed", async () => {
    model.silence();
    const asked = model.received(model.requests.length + 1);
    const events = sseEvents(await stream({ user_id: "waiter" }));
    const { value: first } = await events.next();
    const { turn_id, conversation_id } = JSON.parse(first!.data) as StartData;
    expect(first).toMatchObject({ event: "start", id: `${turn_id}:0` });
    expect(await turnOf(service, turn_id)).toMatchObject({
      status: "running",
      response: "",
      conversation_id,
    });
    expect(
      (await service.get<Conversation>(`/v1/conversations/${conversation_id}`)).body.active_turn_id,
    ).toBe(turn_id);
    await asked;
    await service.post(`/v1/turns/${turn_id}/stop`, undefined);
    expect(JSON.parse((await events.next()).value!.data)).toMatchObject({ done: true, status: "stopped" });
    expect((await events.next()).done).toBe(true);
  });

  test("count UTF-16 code units, also where a pair is split over the model's chunks", async () => {
    const held = model.hold();
    const response = await stream();
    const events = sseEvents(response);
    const { turn_id } = JSON.parse((await events.next()).value!.data) as StartData;
    const next = async () => (await events.next()).value!;
    held.send("a\ud83d");
    expect(await next()).toMatchObject({ id: `${turn_id}:1`, data: '{"token":"a"}' });
    held.send("\ude00");
    expect(await next()).toMatchObject({ id: `${turn_id}:3`, data: '{"token":"😀"}' });
    held.send("\0\u{1f468}‍\u{1f469}");
    expect(await next()).toMatchObject({ id: `${turn_id}:9`, data: '{"token":"\ufffd\u{1f468}‍\u{1f469}"}' });
    held.send("\ud83d");
    held.finish();
    expect(await next()).toMatchObject({ id: `${turn_id}:10`, data: '{"token":"\ufffd"}' });
    expect(JSON.parse((await next()).data)).toMatchObject({ done: true, length: 10 });
  });

  test("survive line ends and separators inside of the text", async () => {
    const text = 'one\ntwo\r\nthree\rfour\u2028five\n\ndata: six\n\nevent: done "quoted" \\ ';
    model.reply([...text]);
    expect((await readTranscript(await stream())).text).toBe(text);
  });

  test.each([
    ["length", "truncated"],
    ["content_filter", "filtered"],
  ])("end with done where the model ends by %s", async (finish, status) => {
    model.reply(["part"], { finish });
    const { text, done } = await readTranscript(await stream());
    expect(text).toBe("part");
    expect(done).toMatchObject({ status, finish_reason: finish, length: 4, error: null });
  });

  test("end with done where the model fails: the failure is an event, after the text, and no event is named error", async () => {
    model.failAfter(2, { error: { message: "SECRET", code: "server_error" } });
    const events = await readSse(await stream());
    const { text, done } = toTranscript(events);
    expect(text).toBe("word1 word2 ");
    expect(done).toMatchObject({ status: "failed", length: 12 });
    expect(done.error?.code).toStartWith("model_");
    expect(JSON.stringify(events)).not.toContain("SECRET");
    expect(events.map(({ event }) => event)).not.toContain("error");
    expect(events.filter(({ data }) => data.includes('"done"')).length).toBe(1);
  });

  test("come in silence as heartbeats", async () => {
    model.silence();
    const connection = await connect(service.port);
    const body = JSON.stringify({ user_id: "patient", message: "Hello" });
    connection.write(
      `POST /v1/chat/stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    const text = () => connection.received.toString();
    await until("a heartbeat comes", () => text().includes(": heartbeat\n\n"), 15_000);
    const answer = parseAnswer(connection.received);
    expect(answer.body).toMatch(/^retry: 2000\n\nevent: start\nid: .*\ndata: .*\n\n: heartbeat\n\n$/);
    connection.close();
  });
});

describe("GET for EventSource", () => {
  test("starts a turn from the query", async () => {
    model.reply(["from a query"]);
    const { text, done } = await readTranscript(
      await get({ message: "¿Qué tal? 😀 a+b&c", user_id: "getter" }),
    );
    expect(text).toBe("from a query");
    expect(done.status).toBe("completed");
    expect(model.requests.at(-1)!.body.messages.at(-1)).toEqual({
      role: "user",
      content: "¿Qué tal? 😀 a+b&c",
    });
  });

  test("goes on with a conversation", async () => {
    const { conversation_id } = await wholeTurn(service, model, ["one"]);
    model.reply(["two"]);
    expect((await readTranscript(await get({ conversation_id }))).start.conversation_id).toBe(
      conversation_id,
    );
  });

  test("the bare path does the same", async () => {
    model.reply(["bare"]);
    expect((await readTranscript(await get({}, {}, "/chat/stream"))).text).toBe("bare");
  });

  test.each(["GET", "POST"])(
    "a %s with Last-Event-ID resumes its turn and starts no new one",
    async (method) => {
      const user_id = `resumer-${method}`;
      const { turn_id } = await wholeTurn(service, model, ["Hello ", "again"], { user_id });
      const asked = model.requests.length;
      const headers = { "last-event-id": `${turn_id}:6` };
      const response =
        method === "GET" ? await get({ user_id }, headers) : await stream({ user_id }, headers);
      const { text, startId, start } = await readTranscript(response);
      expect([text, startId, start.turn_id]).toEqual(["again", `${turn_id}:6`, turn_id]);
      expect(model.requests.length).toBe(asked);
      expect(await conversationCount(user_id)).toBe(1);
    },
  );

  test("after :end there is nothing: 204, which tells EventSource to stop", async () => {
    const { turn_id } = await wholeTurn(service, model, ["over"]);
    const asked = model.requests.length;
    const response = await get({}, { "last-event-id": `${turn_id}:end` });
    expect(response.status).toBe(204);
    expect(response.headers.get("x-request-id")).toStartWith("req_");
    expect(await response.text()).toBe("");
    expect(model.requests.length).toBe(asked);
  });

  test("a first connection that broke before its first event is retried with idempotency_key: one turn", async () => {
    const held = model.hold();
    const asked = model.requests.length;
    const query = `user_id=breaker&message=Once&idempotency_key=first-try`;
    const connection = await connect(service.port);
    connection.write(`GET /v1/chat/stream?${query} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
    await held.request;
    connection.close();
    const retried = service.fetch(`/v1/chat/stream?${query}`);
    held.send("only once");
    held.finish();
    expect((await readTranscript(await retried)).text).toBe("only once");
    expect(model.requests.length).toBe(asked + 1);
    expect(await conversationCount("breaker")).toBe(1);
  });

  test("HEAD has the headers and starts no turn", async () => {
    const asked = model.requests.length;
    for (const path of ["/v1/chat/stream", "/chat/stream"]) {
      const response = await service.fetch(`${path}?user_id=header&message=Hello`, { method: "HEAD" });
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    }
    expect(model.requests.length).toBe(asked);
    expect(await conversationCount("header")).toBe(0);
  });
});

describe("a client that leaves", () => {
  test("doesn't stop the turn", async () => {
    const held = model.hold();
    const client = new AbortController();
    const response = await service.fetch("/v1/chat/stream?user_id=leaver&message=bye", {
      signal: client.signal,
    });
    const events = sseEvents(response);
    const { turn_id } = JSON.parse((await events.next()).value!.data) as StartData;
    held.send("some ");
    await events.next();
    client.abort();
    await held.request;
    held.send("text");
    held.finish();
    await untilEnded(service, turn_id);
    expect(await turnOf(service, turn_id)).toMatchObject({ status: "completed", response: "some text" });
  });
});
