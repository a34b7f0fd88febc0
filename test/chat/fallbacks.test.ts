/** Retries and fallback models through the real service: who is asked when, and that every view names who wrote. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Message } from "../../src/chat/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testModel, until } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { viewTurn } from "../support/turn-views.ts";
import { resume, startTurn, turnOf, untilText } from "../support/turns.ts";

setDefaultTimeout(60_000);

let models: [ModelServer, ModelServer, ModelServer];
let service: Service;

beforeAll(async () => {
  models = [startModelServer(), startModelServer(), startModelServer()];
  const [first, second, third] = models;
  const fallbacks = `second@${second.url}, third@${third.url}`;
  service = await startService({ model: first, env: { PARLEY_FALLBACK_MODELS: fallbacks } });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await Promise.all(models.map((model) => model.close()));
});

/** The scripts of each model for one message. */
const scriptsFor = (message: string) => models.map((model) => model.to(message)) as typeof models;

const view = (message: string) => viewTurn(service, { user_id: "ada", message });

interface FailedAttempt {
  model: string;
  attempt: number;
  upstream: object;
  retry_in_ms?: number;
}

/** The attempts that failed for a reason, as the log has them once they are so many. */
async function failedAttempts({ logs }: Service, reason: string, count: number): Promise<FailedAttempt[]> {
  const lines = () =>
    logs.filter((line) => line.includes('"model_attempt_failed"') && line.includes(`"${reason}"`));
  await until("the attempts are logged", () => lines().length >= count);
  return lines().map((line) => JSON.parse(line) as FailedAttempt);
}

const replyIn = async (conversationId: string): Promise<Message> => {
  const { body } = await service.get<{ messages: Message[] }>(`/v1/conversations/${conversationId}/messages`);
  return body.messages.at(-1)!;
};

describe.concurrent("a model that fails before the first token", () => {
  test("is asked again, at most twice, after a wait that grows", async () => {
    const [first, second] = scriptsFor("twice");
    first.status(500);
    first.status(529, { body: { error: { type: "twice_overloaded" } } });
    first.reply(["third ", "time"]);
    const { turn, stream } = await view("twice");
    expect(turn).toMatchObject({ status: "completed", response: "third time", model: testModel });
    expect(stream.done.model).toBe(testModel);
    expect([first.requests.length, second.requests.length]).toEqual([3, 0]);
    const [one, two, three] = first.requests.map(({ receivedMs }) => receivedMs);
    // Half a second and a second, less up to half of it by chance.
    expect(two! - one!).toBeGreaterThan(240);
    expect(three! - two!).toBeGreaterThan(490);
  });

  test("is waited for as long as its Retry-After says", async () => {
    const [first, second] = scriptsFor("seconds");
    first.status(429, { headers: { "Retry-After": "1" }, body: { error: { type: "in_a_second" } } });
    first.reply(["now"]);
    const { turn } = await view("seconds");
    expect(turn).toMatchObject({ status: "completed", response: "now", model: testModel });
    const [one, two] = first.requests.map(({ receivedMs }) => receivedMs);
    expect(two! - one!).toBeGreaterThan(1_240);
    expect(second.requests).toEqual([]);
    const [attempt] = await failedAttempts(service, "in_a_second", 1);
    expect(attempt!.retry_in_ms).toBeWithin(1_250, 1_501);
  });

  test("is waited for until the date that its Retry-After names", async () => {
    const [first, second] = scriptsFor("date");
    const date = Math.floor(Date.now() / 1000 + 3) * 1000;
    first.status(429, { headers: { "Retry-After": new Date(date).toUTCString() } });
    first.reply(["now"]);
    const asked = first.received(2).then(() => Date.now());
    const { turn } = await view("date");
    expect(turn).toMatchObject({ status: "completed", response: "now" });
    expect(await asked).toBeGreaterThan(date);
    expect([first.requests.length, second.requests.length]).toEqual([2, 0]);
  });
});

describe.concurrent("fallbacks", () => {
  test("are asked in order, and the one that answers is named", async () => {
    const [first, second, third] = scriptsFor("in order");
    first.status(401);
    second.status(402);
    third.reply(["from ", "the third"]);
    const { turn, stream, json, message } = await view("in order");
    expect(turn).toMatchObject({ status: "completed", response: "from the third", model: "third" });
    expect([stream.done.model, message.model]).toEqual(["third", "third"]);
    expect(json.body).toMatchObject({ model: "third" });
    expect([first, second, third].map(({ requests }) => requests.map(({ body }) => body.model))).toEqual([
      [testModel],
      ["second"],
      ["third"],
    ]);
  });

  test("end the turn with the last one's failure where all fail", async () => {
    const [first, second, third] = scriptsFor("all fail");
    first.status(401);
    second.raw(["<html>"], { contentType: "text/html" });
    third.status(402);
    const { turn, json, stream } = await view("all fail");
    expect(turn).toMatchObject({
      status: "failed",
      response: "",
      error: { code: "model_quota_exhausted" },
      model: testModel,
    });
    expect([json.status, stream.done.model]).toEqual([503, testModel]);
  });

  test("are replaced by no other once they have said something", async () => {
    const [first, second, third] = scriptsFor("half");
    first.status(401);
    second.failAfter(2, "end");
    const { turn, json, stream, message } = await view("half");
    expect(turn).toMatchObject({
      status: "failed",
      response: "word1 word2 ",
      error: { code: "model_stream_incomplete" },
      model: "second",
    });
    expect([stream.done.model, message.model, json.status]).toEqual(["second", "second", 502]);
    expect([first, second, third].map(({ requests }) => requests.length)).toEqual([1, 1, 0]);
  });

  test("are named while they write", async () => {
    const [first, second] = scriptsFor("while it writes");
    first.status(401);
    const held = second.hold();
    const { id, conversation_id, model } = await startTurn(service, { message: "while it writes" });
    expect(model).toBe(testModel);
    held.send("some ");
    await untilText(service, id, "some ");
    expect((await turnOf(service, id)).model).toBe("second");
    expect(await replyIn(conversation_id)).toMatchObject({ content: "some ", model: "second" });
    const resumed = await resume(service, id, 5);
    held.send("more");
    held.finish();
    const { start, text, done } = await readTranscript(resumed);
    expect([start.model, text, done.model]).toEqual(["second", "more", "second"]);
  });
});

describe.concurrent("models that can't be reached", () => {
  /** Answers a TLS handshake with an HTTP error, as a server without TLS does. */
  const plain = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("plain") });
  afterAll(() => plain.stop(true));

  const unreachable = [
    { name: testModel, url: "http://127.0.0.1:1/v1", code: "ECONNREFUSED" },
    { name: "unresolvable", url: "http://no-such-host.invalid/v1", code: "ENOTFOUND" },
    { name: "no-tls", url: `https://127.0.0.1:${plain.port}/v1`, code: "EPROTO" },
  ];

  /** A service with these three, and then others. */
  const startUnreachable = ([first, ...rest]: typeof unreachable) =>
    startService({
      model: first!,
      env: { PARLEY_FALLBACK_MODELS: rest.map(({ name, url }) => `${name}@${url}`).join() },
    });

  /** Each was tried three times before the next one was. */
  const expectAttempts = async (at: Service): Promise<void> => {
    const expected = unreachable.flatMap(({ name, code }) =>
      [1, 2, 3].map((attempt) => ({ model: name, attempt, upstream: { code } })),
    );
    expect(await failedAttempts(at, "model_unreachable", expected.length)).toMatchObject(expected);
  };

  test("refused, unresolvable or without TLS: each is tried again, then the next one", async () => {
    const [first] = models;
    await using lucky = await startUnreachable([...unreachable, { name: "found", url: first.url, code: "" }]);
    first.to("found").reply(["found"]);
    const { turn, stream } = await viewTurn(lucky, { user_id: "ada", message: "found" });
    expect(turn).toMatchObject({ status: "completed", response: "found", model: "found" });
    expect(stream.done.model).toBe("found");
    await expectAttempts(lucky);
  });

  test("are a failure where there is no other", async () => {
    await using lost = await startUnreachable(unreachable);
    const { turn, json } = await viewTurn(lost, { user_id: "ada", message: "lost" });
    expect(turn).toMatchObject({ status: "failed", response: "", error: { code: "model_unreachable" } });
    expect(turn.usage).toMatchObject({ estimated: true, completion_tokens: 0 });
    expect(turn.usage.prompt_tokens).toBeGreaterThan(0);
    expect(json.status).toBe(502);
    expect(json.body).toMatchObject({ code: "model_unreachable", turn_id: turn.id, response: "" });
    await expectAttempts(lost);
  });
});
