/** What an Idempotency-Key stands for: whatever became of its first request, for 48 hours, and nothing that was refused. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { ChatResponse, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";
import { readTranscript, type StartData, sseEvents } from "../support/sse.ts";
import { conversationOf, holdTurn, startTurn, turnOf, untilEnded, untilText } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
let service: Service;
let keys = 0;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model, env: { PARLEY_SHUTDOWN_SECONDS: "0" } });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const newKey = (): { "idempotency-key": string } => ({ "idempotency-key": `outcome-${++keys}` });
const ask = { user_id: "ada", message: "Hello" };
/** An answer or a problem. */
type Answered = Omit<ChatResponse, "status"> & Partial<Omit<Problem, "status">> & { status: string | number };
const chat = (headers: Record<string, string>, body: object = ask, to = service) =>
  to.post<Answered>("/v1/chat", body, headers);
const stream = (headers: Record<string, string>): Promise<Response> =>
  service.fetch("/v1/chat/stream", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(ask),
  });

describe("every outcome is given again, in every view, and no model is asked for it", () => {
  interface Outcome {
    status: Turn["status"];
    /** Brings a turn with this key to its end; the model has said "part" by then. */
    end: (key: Record<string, string>) => Promise<unknown>;
    answer: number;
    code?: string;
  }
  const held = async (key: Record<string, string>): Promise<string> => {
    const reply = model.hold();
    reply.send("part");
    const { id } = await startTurn(service, ask, key);
    await untilText(service, id, "part");
    return id;
  };
  const finished = (finish: string) => (key: Record<string, string>) => {
    model.reply(["part"], { finish });
    return chat(key);
  };
  const outcomes: Outcome[] = [
    { status: "completed", end: finished("stop"), answer: 200 },
    { status: "truncated", end: finished("length"), answer: 200 },
    { status: "filtered", end: finished("content_filter"), answer: 200 },
    {
      status: "stopped",
      end: async (key) => service.post(`/v1/turns/${await held(key)}/stop`, undefined),
      answer: 200,
    },
    {
      status: "failed",
      end: async (key) => {
        model.raw([`data: {"choices":[{"index":0,"delta":{"content":"part"}}]}\n\n`]);
        await chat(key);
      },
      answer: 502,
      code: "model_stream_incomplete",
    },
    {
      status: "interrupted",
      end: async (key) => {
        const id = await held(key);
        // What is checkpointed survives.
        await until("the text is stored", async () => storedText(service, id) === "part");
        await service.kill();
        await service.restart();
      },
      answer: 503,
      code: "turn_interrupted",
    },
    {
      status: "interrupted",
      end: async (key) => {
        await held(key);
        await service.stop();
        await service.restart();
      },
      answer: 503,
      code: "shutting_down",
    },
  ];

  test.each(outcomes)("$status $code", async ({ status, end, answer, code }) => {
    const key = newKey();
    await end(key);
    const asked = model.requests.length;

    const started = await startTurn(service, ask, key);
    expect(started).toMatchObject({ status, response: "part" });

    const json = await chat(key);
    expect([json.status, json.body.response, json.body.turn_id]).toEqual([answer, "part", started.id]);
    if (answer === 200) expect(json.body.status).toBe(status);
    else expect(json.body.code).toBe(code!);
    // A retry would bring nothing else.
    expect(json.headers.get("retry-after")).toBeNull();

    const query = new URLSearchParams({ ...ask, idempotency_key: key["idempotency-key"] });
    for (const response of [await stream(key), await service.fetch(`/v1/chat/stream?${query}`)]) {
      const { start, text, done } = await readTranscript(response);
      expect([start.turn_id, text, done.status]).toEqual([started.id, "part", status]);
      expect(done.error?.code).toBe(code as never);
    }
    expect(model.requests.length).toBe(asked);
    expect((await conversationOf(service, started.conversation_id)).message_count).toBe(2);
  });
});

/** The text of a reply as it is on the disk. */
function storedText(of: Service, turnId: string): string | undefined {
  using db = new Database(join(of.dataDir, "parley.db"), { readonly: true });
  return db
    .query<{ content: string }, [string]>(
      "select content from messages where turn_id = ? and role = 'assistant'",
    )
    .get(turnId)?.content;
}

test.each(["POST", "GET"])("a running turn is taken up again from Last-Event-ID by %s", async (method) => {
  const key = newKey();
  const reply = model.hold();
  const events = sseEvents(await stream(key));
  const { turn_id } = JSON.parse((await events.next()).value!.data) as StartData;
  reply.send("seen, ");
  await events.next();
  await events.return();
  reply.send("unseen, ");
  await untilText(service, turn_id, "seen, unseen, ");
  const from = { "last-event-id": `${turn_id}:6` };
  const query = new URLSearchParams({ ...ask, idempotency_key: key["idempotency-key"] });
  const again =
    method === "POST"
      ? await stream({ ...key, ...from })
      : await service.fetch(`/v1/chat/stream?${query}`, { headers: from });
  reply.send("new");
  reply.finish();
  const { startId, text } = await readTranscript(again);
  expect([startId, text]).toEqual([`${turn_id}:6`, "unseen, new"]);
});

describe("a refused request leaves its key unused", () => {
  test("where the conversation is unknown", async () => {
    const key = newKey();
    const refused = await chat(key, { ...ask, conversation_id: "conv_01890a5d-ac96-774b-bcce-b302099a8057" });
    expect(refused.status).toBe(404);
    model.reply(["now"]);
    expect((await chat(key)).body.response).toBe("now");
  });

  test("where the conversation has a running turn", async () => {
    const key = newKey();
    const { turn, held } = await holdTurn(service, model);
    const next = { ...ask, conversation_id: turn.conversation_id };
    expect((await chat(key, next)).status).toBe(409);
    held.finish();
    await untilEnded(service, turn.id);
    model.reply(["next"]);
    const { body } = await chat(key, next);
    expect([body.response, body.conversation_id]).toEqual(["next", turn.conversation_id]);
  });

  test("where too many turns run", async () => {
    await using small = await startService({ model, env: { PARLEY_TURNS_RUNNING_MAX: "1" } });
    const key = newKey();
    const { turn, held } = await holdTurn(small, model);
    const refused = await chat(key, ask, small);
    expect([refused.status, refused.body.code]).toEqual([503, "overloaded"]);
    held.finish();
    await untilEnded(small, turn.id);
    model.reply(["with room"]);
    expect((await chat(key, ask, small)).body.response).toBe("with room");
  });

  test("where the service was shutting down", async () => {
    await using leaving = await startService({ model });
    const key = newKey();
    const { held } = await holdTurn(leaving, model);
    leaving.signal("SIGTERM");
    await until("it isn't ready", async () => (await leaving.get("/ready")).status === 503);
    const refused = await chat(key, ask, leaving);
    expect([refused.status, refused.body.code]).toEqual([503, "shutting_down"]);
    held.finish();
    expect(await leaving.exited()).toBe(0);
    await leaving.restart();
    model.reply(["back"]);
    expect((await chat(key, ask, leaving)).body.response).toBe("back");
  });
});

test("keys are known for 48 hours, over restarts, and then forgotten", async () => {
  await using aging = await startService({ model });
  const [day, almost, old] = [newKey(), newKey(), newKey()];
  const create = (headers: Record<string, string>) =>
    aging.post<Conversation>("/v1/conversations", { user_id: "ada" }, headers);
  const made = [];
  for (const key of [day, almost, old]) {
    model.reply([`said to ${key["idempotency-key"]}`]);
    made.push({ turn: (await chat(key, ask, aging)).body, conversation: (await create(key)).body });
  }
  expect(await aging.stop()).toBe(0);
  {
    using db = new Database(join(aging.dataDir, "parley.db"));
    const hours = [24, 47.9, 48.1];
    for (const [index, key] of [day, almost, old].entries()) {
      const change = "update idempotency_keys set created_at = created_at - ? where key = ?";
      expect(db.run(change, [hours[index]! * 3600, key["idempotency-key"]]).changes).toBe(2);
    }
  }
  await aging.restart();
  const asked = model.requests.length;
  for (const [index, key] of [day, almost].entries()) {
    expect((await chat(key, ask, aging)).body).toEqual(made[index]!.turn);
    expect((await create(key)).body).toEqual(made[index]!.conversation);
  }
  expect(model.requests.length).toBe(asked);
  model.reply(["anew"]);
  expect((await chat(old, ask, aging)).body.response).toBe("anew");
  expect((await create(old)).body.id).not.toBe(made[2]!.conversation.id);
});

describe("a key", () => {
  test("of 255 characters counts to its last one, in the header and in the query", async () => {
    const start = `${++keys}-`.padEnd(254, "~");
    const turns = [];
    for (const key of [`${start}!`, `${start}"`]) {
      model.reply([key.slice(-1)]);
      const { body } = await chat({ "idempotency-key": key });
      const query = new URLSearchParams({ ...ask, idempotency_key: key });
      const { start } = await readTranscript(await service.fetch(`/v1/chat/stream?${query}`));
      expect([body.response, start.turn_id]).toEqual([key.slice(-1), body.turn_id]);
      turns.push(body.turn_id);
    }
    expect(new Set(turns).size).toBe(2);
  });

  test("works the same on the paths without /v1", async () => {
    const key = newKey();
    model.reply(["bare"]);
    const first = await service.post<ChatResponse>("/chat", ask, key);
    expect((await chat(key)).body).toEqual(first.body);
    const created = await service.post<Conversation>("/conversations", { user_id: "ada" }, key);
    const again = await service.post<Conversation>("/v1/conversations", { user_id: "ada" }, key);
    expect(again.body).toEqual(created.body);
  });
});

describe("a conversation's key", () => {
  const body = { user_id: "ada", title: "Once" };
  const create = (headers: Record<string, string>) =>
    service.post<Conversation & Problem>("/v1/conversations", body, headers);

  test("gives the conversation again, as it is by then, after kill -9", async () => {
    const key = newKey();
    const { id } = (await create(key)).body;
    await service.send("PATCH", `/v1/conversations/${id}`, { title: "Renamed" });
    await service.kill();
    await service.restart();
    const again = await create(key);
    expect([again.status, again.headers.get("location")]).toEqual([201, `/v1/conversations/${id}`]);
    expect([again.body.id, again.body.title]).toEqual([id, "Renamed"]);
  });

  test("is 404 after the conversation was deleted, and makes no other one", async () => {
    const key = newKey();
    const { id } = (await create(key)).body;
    await service.send("DELETE", `/v1/conversations/${id}`);
    const again = await create(key);
    expect([again.status, again.body.detail]).toEqual([
      404,
      "The conversation that this Idempotency-Key created was deleted.",
    ]);
  });

  test("belongs to its principal", async () => {
    const secrets = ["the-first-service-key", "the-other-service-key"];
    await using locked = await startService({ env: { PARLEY_API_KEYS: secrets.join(",") } });
    const key = newKey();
    const ids = [];
    for (const secret of [...secrets, ...secrets]) {
      const headers = { ...key, authorization: `Bearer ${secret}` };
      ids.push((await locked.post<Conversation>("/v1/conversations", body, headers)).body.id);
    }
    expect(ids.slice(2)).toEqual(ids.slice(0, 2));
    expect(ids[0]).not.toBe(ids[1]);
  });
});

test("a turn goes on for the next request with its key when the first one hangs up", async () => {
  const key = newKey();
  const reply = model.hold();
  const leaving = new AbortController();
  const first = service.fetch("/v1/chat", {
    method: "POST",
    headers: { "content-type": "application/json", ...key },
    body: JSON.stringify(ask),
    signal: leaving.signal,
  });
  await reply.request;
  const asked = model.requests.length;
  leaving.abort();
  await expect(first).rejects.toThrow();
  const second = chat(key);
  reply.send("still said");
  reply.finish();
  const { body } = await second;
  expect(body.response).toBe("still said");
  expect(model.requests.length).toBe(asked);
  expect((await turnOf(service, body.turn_id)).status).toBe("completed");
});
