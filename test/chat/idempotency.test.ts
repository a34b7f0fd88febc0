/** Idempotency-Key: the same request again is the same turn. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { type StartedTurn, startTurn, turnOf, untilText } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const adaKey = "the-first-service-key";
const benKey = "the-other-service-key";

let model: ModelServer;
let service: Service;
let keys = 0;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const newKey = (): string => `key-${++keys}`;

/** The three ways to start a turn, each giving the turn's id and the text of its reply. */
const views = {
  "POST /v1/chat": async (body: object, key: string) => {
    const answer = await service.post<ChatResponse>("/v1/chat", body, { "idempotency-key": key });
    expect(answer.status).toBe(200);
    return { id: answer.body.turn_id, text: answer.body.response };
  },
  "POST /v1/chat/stream": async (body: object, key: string) => {
    const response = await service.fetch("/v1/chat/stream", {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": key },
      body: JSON.stringify(body),
    });
    const { start, text } = await readTranscript(response);
    return { id: start.turn_id, text };
  },
  "GET /v1/chat/stream": async (body: object, key: string) => {
    const query = new URLSearchParams({ ...body, idempotency_key: key });
    const { start, text } = await readTranscript(await service.fetch(`/v1/chat/stream?${query}`));
    return { id: start.turn_id, text };
  },
  "POST /v1/turns": async (body: object, key: string) => {
    const { body: turn, status } = await service.post<StartedTurn>("/v1/turns", body, {
      "idempotency-key": key,
    });
    expect(status).toBe(202);
    const { text } = await readTranscript(await service.fetch(turn.stream_url));
    return { id: turn.id, text };
  },
};
type View = keyof typeof views;
const pairs = (Object.keys(views) as View[]).flatMap((first) =>
  (Object.keys(views) as View[]).map((second): [View, View] => [first, second]),
);

describe("the same key and body", () => {
  test.each(pairs)("%s, then %s: one turn and one request to the model", async (first, second) => {
    const key = newKey();
    const body = { user_id: "ada", message: `Once, by ${key}` };
    const asked = model.requests.length;
    model.reply(["one ", "reply"]);
    const one = await views[first](body, key);
    const other = await views[second](body, key);
    expect(other).toEqual(one);
    expect(one.text).toBe("one reply");
    expect(model.requests.length).toBe(asked + 1);
  });

  test.each(Object.keys(views) as View[])("%s attaches to the turn while it still runs", async (view) => {
    const key = newKey();
    const body = { user_id: "ada", message: "Still running?" };
    const held = model.hold();
    held.send("first ");
    const turn = await startTurn(service, body, { "idempotency-key": key });
    await untilText(service, turn.id, "first ");
    const attached = views[view](body, key);
    held.send("and last");
    held.finish();
    expect(await attached).toEqual({ id: turn.id, text: "first and last" });
  });

  test("again and again while it is being committed, it attaches each time", async () => {
    for (let round = 0; round < 10; round++) {
      model.reply(["one ", "reply"], { delayMs: 20 });
      const key = { "idempotency-key": newKey() };
      const asked = model.requests.length;
      const answers = await Promise.all(
        Array.from({ length: 40 }, async (_, index) => {
          await Bun.sleep(index / 3);
          return service.post<ChatResponse>("/v1/chat", { user_id: "impatient", message: "Now!" }, key);
        }),
      );
      for (const { status, body } of answers) {
        expect([status, body.response, body.turn_id]).toEqual([200, "one reply", answers[0]!.body.turn_id]);
      }
      expect(model.requests.length).toBe(asked + 1);
    }
  });

  test("is answered although no further turn may run", async () => {
    await using small = await startService({ model, env: { PARLEY_TURNS_RUNNING_MAX: "1" } });
    const key = { "idempotency-key": newKey() };
    const body = { user_id: "ada", message: "Still mine?" };
    const held = model.hold();
    const turn = await startTurn(small, body, key);
    await held.request;
    const other = await small.post<Problem>("/v1/chat", { ...body, message: "Another" });
    expect([other.status, other.body.code]).toEqual([503, "overloaded"]);
    const retry = small.post<ChatResponse>("/v1/chat", body, key);
    expect((await small.post<StartedTurn>("/v1/turns", body, key)).body.id).toBe(turn.id);
    held.send("yours");
    held.finish();
    expect((await retry).body).toMatchObject({ turn_id: turn.id, response: "yours" });
  });

  test("a hundred at once, in all views, make one turn and one request to the model", async () => {
    const key = newKey();
    const user_id = "hasty";
    const asked = model.requests.length;
    const held = model.hold();
    held.send("a single ");
    const all = Array.from({ length: 100 }, (_, index) =>
      Object.values(views)[index % 4]!({ user_id, message: "Now!" }, key),
    );
    await held.request;
    held.send("reply");
    held.finish();
    const answers = await Promise.all(all);
    for (const answer of answers) expect(answer).toEqual({ id: answers[0]!.id, text: "a single reply" });
    expect(model.requests.length).toBe(asked + 1);
    const { body } = await service.get<{ conversations: Conversation[] }>(
      `/v1/conversations?user_id=${user_id}`,
    );
    expect(body.conversations.map(({ message_count }) => message_count)).toEqual([2]);
  });

  test("the order of properties doesn't count, and null is as good as absent", async () => {
    const key = { "idempotency-key": newKey() };
    model.reply(["same"]);
    const one = await service.post<ChatResponse>(
      "/v1/chat",
      { user_id: "ada", message: "Hi", metadata: { a: "1", b: "2" } },
      key,
    );
    const other = await service.post<ChatResponse>(
      "/v1/chat",
      { temperature: null, metadata: { b: "2", a: "1" }, message: "Hi", user_id: "ada" },
      key,
    );
    expect([other.status, other.body]).toEqual([200, one.body]);
  });

  test("the stream goes on from Last-Event-ID", async () => {
    const key = newKey();
    model.reply(["0123456789"]);
    const query = `user_id=ada&message=digits&idempotency_key=${key}`;
    const { start } = await readTranscript(await service.fetch(`/v1/chat/stream?${query}`));
    const again = await service.fetch(`/v1/chat/stream?${query}`, {
      headers: { "last-event-id": `${start.turn_id}:7` },
    });
    expect((await readTranscript(again)).text).toBe("789");
  });

  test("a failed turn is answered with the same failure, and the model isn't asked again", async () => {
    const key = { "idempotency-key": newKey() };
    model.failAfter(1, "end");
    const body = { user_id: "ada", message: "Will it fail?" };
    const first = await service.post<Problem>("/v1/chat", body, key);
    const asked = model.requests.length;
    const again = await service.post<Problem>("/v1/chat", body, key);
    expect(first.status).toBe(502);
    const { request_id: _, instance: __, ...failure } = first.body;
    expect(again.body).toMatchObject(failure);
    expect(model.requests.length).toBe(asked);
  });

  test("survive a restart", async () => {
    const key = newKey();
    const body = { user_id: "ada", message: "Remember me" };
    model.reply(["kept"]);
    const before = await views["POST /v1/chat"](body, key);
    const asked = model.requests.length;
    await service.kill();
    await service.restart();
    for (const view of Object.values(views)) expect(await view(body, key)).toEqual(before);
    expect(model.requests.length).toBe(asked);
    const other = await service.post<Problem>(
      "/v1/chat",
      { ...body, message: "Something else" },
      { "idempotency-key": key },
    );
    expect(other.status).toBe(422);
  });

  test("after its conversation was deleted it is 404: nothing is done twice", async () => {
    const key = { "idempotency-key": newKey() };
    const body = { user_id: "ada", message: "Forget it" };
    model.reply(["gone"]);
    const { body: chat } = await service.post<ChatResponse>("/v1/chat", body, key);
    await service.send("DELETE", `/v1/conversations/${chat.conversation_id}`);
    const asked = model.requests.length;
    for (const path of ["/v1/chat", "/v1/chat/stream", "/v1/turns"]) {
      const { status, body: problem } = await service.post<Problem>(path, body, key);
      expect([path, status, problem.detail]).toEqual([
        path,
        404,
        "The turn that this Idempotency-Key started was deleted.",
      ]);
    }
    expect(model.requests.length).toBe(asked);
  });
});

describe("the same key with another body", () => {
  const changes: Record<string, unknown>[] = [
    { message: "Another message" },
    { user_id: "ben" },
    { temperature: 1 },
    { metadata: { a: "b" } },
  ];
  test.each(changes)("%j is 422, on every route", async (change) => {
    const key = { "idempotency-key": newKey() };
    const body = { user_id: "ada", message: "The message" };
    model.reply(["first"]);
    await service.post("/v1/chat", body, key);
    const asked = model.requests.length;
    for (const path of ["/v1/chat", "/v1/chat/stream", "/v1/turns", "/chat", "/turns"]) {
      const { status, body: problem } = await service.post<Problem>(path, { ...body, ...change }, key);
      expect([path, status, problem.code]).toEqual([path, 422, "idempotency_key_reused"]);
    }
    const query = new URLSearchParams({
      user_id: "ben",
      message: "Another",
      idempotency_key: key["idempotency-key"],
    });
    for (const path of ["/v1/chat/stream", "/chat/stream"]) {
      const { status, body: problem } = await service.get<Problem>(`${path}?${query}`);
      expect([path, status, problem.code]).toEqual([path, 422, "idempotency_key_reused"]);
    }
    expect(model.requests.length).toBe(asked);
  });

  test("a refused request leaves its key unused", async () => {
    const key = { "idempotency-key": newKey() };
    const bad = await service.post<Problem>("/v1/chat", { user_id: "ada", message: "" }, key);
    expect(bad.status).toBe(400);
    model.reply(["now"]);
    const good = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "Better" }, key);
    expect(good.body.response).toBe("now");
  });
});

describe("whose a key is", () => {
  test("it belongs to its principal: another one's request with it is a turn of its own", async () => {
    await using locked = await startService({ model, env: { PARLEY_API_KEYS: `${adaKey},${benKey}` } });
    const key = newKey();
    const ask = (secret: string, message: string) => {
      model.reply([message]);
      return locked.post<ChatResponse>(
        "/v1/chat",
        { user_id: "ada", message },
        { authorization: `Bearer ${secret}`, "idempotency-key": key },
      );
    };
    const one = await ask(adaKey, "from the first");
    const other = await ask(benKey, "from the second");
    expect([one.status, other.status]).toEqual([200, 200]);
    expect(other.body.response).toBe("from the second");
    expect(other.body.turn_id).not.toBe(one.body.turn_id);
    await locked.kill();
    await locked.restart();
    const again = await locked.post<ChatResponse>(
      "/v1/chat",
      { user_id: "ada", message: "from the first" },
      { authorization: `Bearer ${adaKey}`, "idempotency-key": key },
    );
    expect(again.body).toEqual(one.body);
  });

  test("conversations have keys of their own", async () => {
    const key = { "idempotency-key": newKey() };
    const body = { user_id: "ada", title: "Once" };
    const all = await Promise.all(
      Array.from({ length: 20 }, () => service.post<Conversation>("/v1/conversations", body, key)),
    );
    for (const answer of all) expect([answer.status, answer.body.id]).toEqual([201, all[0]!.body.id]);
    const other = await service.post<Problem>("/v1/conversations", { ...body, title: "Twice" }, key);
    expect(other.status).toBe(422);
    model.reply(["a turn"]);
    const turn = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "Hi" }, key);
    expect(turn.status).toBe(200);
    expect((await turnOf(service, turn.body.turn_id)).status).toBe("completed");
  });
});
