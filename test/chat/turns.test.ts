/** POST /v1/turns and what one can do with a turn: read it, watch it with a ticket, stop it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Turn } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testModel, testMsMax, until } from "../support/service.ts";
import { readTranscript, sseEvents } from "../support/sse.ts";
import {
  conversationOf,
  holdTurn,
  type StartedTurn,
  startTurn,
  turnOf,
  untilEnded,
  untilText,
  wholeTurn,
} from "../support/turns.ts";

const key = "a-key-for-the-tests-of-turns";
const authorization = `Bearer ${key}`;

setDefaultTimeout(testMsMax);

let model: ModelServer;
let service: Service;
let locked: Service;

beforeAll(async () => {
  model = startModelServer();
  [service, locked] = await Promise.all([
    startService({ model }),
    startService({ model, env: { PARLEY_API_KEYS: key } }),
  ]);
});
afterAll(async () => {
  await Promise.all([service[Symbol.asyncDispose](), locked[Symbol.asyncDispose]()]);
  await model.close();
});

/** The model takes the next request, or the one so many further on, and never answers. */
function silence(nth = 1): { received: Promise<void> } {
  model.silence();
  return { received: model.received(model.requests.length + nth) };
}

describe("starting a turn", () => {
  test("answers 202 at once, with the turn, its Location and where to watch it", async () => {
    const { received } = silence();
    const answer = await service.post<StartedTurn>("/v1/turns", { user_id: "ada", message: "Hello" });
    await received;
    const { id, conversation_id } = answer.body;
    expect(answer.status).toBe(202);
    expect(answer.headers.get("location")).toBe(`/v1/turns/${id}`);
    expect(answer.body).toEqual({
      id,
      object: "turn",
      conversation_id,
      user_message_id: expect.stringMatching(/^msg_/),
      message_id: expect.stringMatching(/^msg_/),
      status: "running",
      response: "",
      length: 0,
      finish_reason: null,
      model: testModel,
      sources: [],
      citations: [],
      memories_used: [],
      tokens_used: 0,
      usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true },
      error: null,
      created_at: expect.any(Number),
      ended_at: null,
      stream_url: expect.stringMatching(new RegExp(`^/v1/turns/${id}/stream\\?ticket=default\\.[\\w-]+$`)),
    });
    await service.post(`/v1/turns/${id}/stop`, undefined);
  });

  test("the turn runs with nobody connected, and shows what it holds", async () => {
    const { turn, held } = await holdTurn(service, model, "half ");
    expect(await turnOf(service, turn.id)).toMatchObject({ status: "running", response: "half ", length: 5 });
    held.send("whole");
    held.finish();
    await untilEnded(service, turn.id);
    const ended = await turnOf(service, turn.id);
    expect(ended).toMatchObject({ status: "completed", response: "half whole", length: 10 });
    expect(ended.ended_at).toBeGreaterThanOrEqual(ended.created_at);
  });

  test.each(["", "/v1"])("an unknown turn is 404 at %p/turns", async (prefix) => {
    for (const id of [
      "turn_01890a5d-ac96-774b-bcce-b302099a8057",
      "turn_1",
      "x",
      "conv_01890a5d-ac96-774b-bcce-b302099a8057",
    ]) {
      for (const [method, path] of [
        ["GET", ""],
        ["GET", "/stream"],
        ["POST", "/stop"],
      ] as const) {
        const answer = await service.send<Problem>(method, `${prefix}/turns/${id}${path}`);
        expect([answer.status, answer.body.code]).toEqual([404, "not_found"]);
      }
    }
  });
});

describe("a ticket", () => {
  const start = (body: Record<string, unknown> = {}) => startTurn(locked, body, { authorization });

  test("opens the stream of its turn without a key", async () => {
    model.reply(["by ", "ticket"]);
    const { stream_url } = await start();
    expect((await readTranscript(await locked.fetch(stream_url))).text).toBe("by ticket");
    // A client that lost the connection sends the same address again, with Last-Event-ID or `after`.
    expect((await readTranscript(await locked.fetch(`${stream_url}&after=3`))).text).toBe("ticket");
    expect((await locked.fetch(stream_url, { method: "HEAD" })).status).toBe(200);
  });

  test("still works after a restart", async () => {
    model.reply(["kept"]);
    const { stream_url, id } = await start();
    const read = () => locked.get<Turn>(`/v1/turns/${id}`, { authorization });
    await until("the turn has ended", async () => (await read()).body.status !== "running");
    await locked.kill();
    await locked.restart();
    expect((await readTranscript(await locked.fetch(stream_url))).text).toBe("kept");
  });

  test("opens nothing else: not another turn, not the turn itself, not stopping it", async () => {
    const silent = [silence().received, silence(2).received];
    const one = await start();
    const other = await start();
    await Promise.all(silent);
    const ticket = new URL(one.stream_url, locked.url).searchParams.get("ticket")!;
    const refused: [string, string][] = [
      ["GET", `/v1/turns/${other.id}/stream?ticket=${ticket}`],
      ["HEAD", `/v1/turns/${other.id}/stream?ticket=${ticket}`],
      ["GET", `/v1/turns/${one.id}?ticket=${ticket}`],
      ["POST", `/v1/turns/${one.id}/stop?ticket=${ticket}`],
      ["GET", `/v1/turns/${one.id}/stream`],
      ["GET", `/v1/turns/${one.id}/stream?ticket=`],
      ["GET", `/v1/turns/${one.id}/stream?ticket=${ticket.slice(0, -1)}`],
      ["GET", `/v1/turns/${one.id}/stream?ticket=${ticket.slice(0, -2)}AA`],
      ["GET", `/v1/turns/${one.id}/stream?ticket=${encodeURIComponent("é".repeat(43))}`],
      ["GET", `/v1/turns/turn_01890a5d-ac96-774b-bcce-b302099a8057/stream?ticket=${ticket}`],
    ];
    for (const [method, path] of refused) {
      const { status, body } = await locked.fetch(path, { method });
      await body?.cancel();
      expect([method, path, status]).toEqual([method, path, 401]);
    }
    for (const { id } of [one, other]) {
      await locked.post(`/v1/turns/${id}/stop`, undefined, { authorization });
    }
  });
});

describe("stopping", () => {
  test("keeps the partial text and its usage, tells the watchers, and closes the connection to the model", async () => {
    const { turn, held } = await holdTurn(service, model, "as far as this");
    const request = await held.request;
    const watcher = readTranscript(await service.fetch(turn.stream_url));
    const { status, body } = await service.post<Turn>(`/v1/turns/${turn.id}/stop`, undefined);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      id: turn.id,
      status: "stopped",
      response: "as far as this",
      length: 14,
      finish_reason: null,
      error: null,
      ended_at: expect.any(Number),
    });
    expect(body.usage.completion_tokens).toBeGreaterThan(0);
    expect(body.usage.prompt_tokens).toBeGreaterThan(0);
    expect(body.tokens_used).toBe(body.usage.total_tokens);
    await request.closed;
    const { text, done } = await watcher;
    expect([text, done.status, done.length]).toEqual(["as far as this", "stopped", 14]);
    expect(done.usage).toEqual(body.usage);
    const conversation = await conversationOf(service, turn.conversation_id);
    expect(conversation).toMatchObject({ active_turn_id: null, tokens_used: body.tokens_used });
  });

  test("again, it changes nothing", async () => {
    const { turn } = await holdTurn(service, model, "once");
    const first = await service.post<Turn>(`/v1/turns/${turn.id}/stop`, undefined);
    const again = await Promise.all(
      Array.from({ length: 5 }, () => service.post<Turn>(`/v1/turns/${turn.id}/stop`, undefined)),
    );
    for (const { status, body } of again) expect([status, body]).toEqual([200, first.body]);
    expect((await conversationOf(service, turn.conversation_id)).tokens_used).toBe(first.body.tokens_used);
  });

  test("many times at once, it ends once", async () => {
    const { turn } = await holdTurn(service, model, "at once");
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => service.post<Turn>(`/v1/turns/${turn.id}/stop`, undefined)),
    );
    for (const { status, body } of answers) expect([status, body]).toEqual([200, answers[0]!.body]);
    expect(answers[0]!.body).toMatchObject({ status: "stopped", response: "at once" });
  });

  test("after the end, it changes nothing", async () => {
    const { turn_id } = await wholeTurn(service, model, ["complete"]);
    const before = await turnOf(service, turn_id);
    const { status, body } = await service.post<Turn>(`/v1/turns/${turn_id}/stop`, undefined);
    expect([status, body]).toEqual([200, before]);
    expect(body.status).toBe("completed");
    expect(await turnOf(service, turn_id)).toEqual(before);
  });

  test("before the model has said anything leaves an empty reply, and the conversation goes on", async () => {
    const { turn } = await holdTurn(service, model);
    const { body } = await service.post<Turn>(`/turns/${turn.id}/stop`, undefined);
    expect(body).toMatchObject({ status: "stopped", response: "", length: 0 });
    const { conversation_id } = turn;
    const next = await wholeTurn(service, model, ["next"], { conversation_id });
    expect(next).toMatchObject({ response: "next", conversation_id });
    // The empty reply is no message that a model could make sense of.
    expect(model.requests.at(-1)!.body.messages.map(({ role }) => role)).toEqual(["system", "user", "user"]);
  });

  test("a text that came right before is not lost to its watchers", async () => {
    const { turn, held } = await holdTurn(service, model, "first ");
    const events = sseEvents(await service.fetch(turn.stream_url));
    await events.next();
    held.send("second");
    await untilText(service, turn.id, "first second");
    await service.post(`/v1/turns/${turn.id}/stop`, undefined);
    let text = "";
    for await (const { data } of events) text += (JSON.parse(data) as { token?: string }).token ?? "";
    expect(text).toBe("first second");
  });
});

describe("a turn that takes longer than it may", () => {
  test("fails as model_timeout, with what there is", async () => {
    await using hasty = await startService({ model, env: { PARLEY_TURN_SECONDS_MAX: "4" } });
    const { turn } = await holdTurn(hasty, model, "too slow");
    await untilEnded(hasty, turn.id);
    expect(await turnOf(hasty, turn.id)).toMatchObject({
      status: "failed",
      response: "too slow",
      error: { code: "model_timeout" },
    });
  });
});

describe("limits of a reply", () => {
  test("a reply that reaches PARLEY_REPLY_CHARS_MAX is truncated there, and no pair is cut in two", async () => {
    await using short = await startService({ model, env: { PARLEY_REPLY_CHARS_MAX: "10" } });
    const held = model.hold();
    const turn = await startTurn(short);
    held.send("12345678");
    held.send("9😀abc");
    await untilEnded(short, turn.id);
    expect(await turnOf(short, turn.id)).toMatchObject({
      status: "truncated",
      finish_reason: "length",
      response: "123456789",
    });
    await (await held.request).closed;
  });

  test("turns beyond PARLEY_TURNS_RUNNING_MAX are refused as overloaded, with Retry-After", async () => {
    await using small = await startService({ model, env: { PARLEY_TURNS_RUNNING_MAX: "2" } });
    const running = [await holdTurn(small, model), await holdTurn(small, model)];
    const asked = model.requests.length;
    const refused = await small.post<Problem>("/v1/chat", { user_id: "late", message: "Me too" });
    expect([refused.status, refused.body.code]).toEqual([503, "overloaded"]);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(model.requests.length).toBe(asked);
    running[0]!.held.finish();
    await untilEnded(small, running[0]!.turn.id);
    expect((await wholeTurn(small, model, ["room"])).response).toBe("room");
  });
});
