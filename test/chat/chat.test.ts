/** POST /v1/chat: a turn, waited for. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse, Message, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testModel, testMsMax, until } from "../support/service.ts";

type FailedChat = Problem & { turn_id: string; conversation_id: string; response: string };

const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";

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

const ask = (body: Record<string, unknown> = {}) =>
  service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "Hello there", ...body });

describe("a whole reply", () => {
  test("has exactly the members of ChatResponse", async () => {
    model.reply(["Hel", "lo", "!"], { usage: { prompt_tokens: 12, completion_tokens: 3 } });
    const { status, headers, body } = await ask();
    expect(status).toBe(200);
    expect(headers.get("content-type")).toStartWith("application/json");
    expect(headers.get("x-request-id")).toMatch(new RegExp(`^req_${uuid}$`));
    expect(body).toEqual({
      response: "Hello!",
      conversation_id: expect.stringMatching(new RegExp(`^conv_${uuid}$`)),
      turn_id: expect.stringMatching(new RegExp(`^turn_${uuid}$`)),
      message_id: expect.stringMatching(new RegExp(`^msg_${uuid}$`)),
      status: "completed",
      finish_reason: "stop",
      model: testModel,
      sources: [],
      citations: [],
      memories_used: [],
      tokens_used: 15,
      usage: { prompt_tokens: 12, completion_tokens: 3, total_tokens: 15, estimated: false },
    });
  });

  test("is stored as turn, messages and conversation before it is answered", async () => {
    model.reply(["Stored."], { usage: { prompt_tokens: 20, completion_tokens: 2 } });
    const { body: chat } = await ask({ message: "Is it stored?", metadata: { channel: "web" } });
    const { body: turn } = await service.get<Turn>(`/v1/turns/${chat.turn_id}`);
    expect(turn).toEqual({
      id: chat.turn_id,
      object: "turn",
      conversation_id: chat.conversation_id,
      user_message_id: expect.stringMatching(new RegExp(`^msg_${uuid}$`)),
      message_id: chat.message_id,
      status: "completed",
      response: "Stored.",
      length: 7,
      finish_reason: "stop",
      model: testModel,
      sources: [],
      citations: [],
      memories_used: [],
      tokens_used: 22,
      usage: chat.usage,
      error: null,
      created_at: expect.any(Number),
      ended_at: expect.any(Number),
    });
    const { body: conversation } = await service.get<Conversation & { messages: Message[] }>(
      `/v1/conversations/${chat.conversation_id}`,
    );
    expect(conversation).toMatchObject({
      id: chat.conversation_id,
      object: "conversation",
      user_id: "ada",
      title: "Is it stored?",
      metadata: { channel: "web" },
      message_count: 2,
      tokens_used: 22,
      active_turn_id: null,
    });
    expect(
      conversation.messages.map(({ id, seq, role, content, status }) => [id, seq, role, content, status]),
    ).toEqual([
      [turn.user_message_id, 1, "user", "Is it stored?", "completed"],
      [chat.message_id, 2, "assistant", "Stored.", "completed"],
    ]);
  });

  test("without usage from the provider it is counted, and says so", async () => {
    model.reply(["One two three."]);
    const { usage, tokens_used } = (await ask()).body;
    expect(usage.estimated).toBe(true);
    expect(usage.completion_tokens).toBeGreaterThan(0);
    expect(usage.prompt_tokens).toBeGreaterThan(0);
    expect(usage.total_tokens).toBe(usage.prompt_tokens + usage.completion_tokens);
    expect(tokens_used).toBe(usage.total_tokens);
  });

  test("goes on with a conversation", async () => {
    model.reply(["first"]);
    const { conversation_id } = (await ask()).body;
    model.reply(["second"]);
    const { body } = await ask({ conversation_id });
    expect(body).toMatchObject({ conversation_id, response: "second" });
    const { body: conversation } = await service.get<Conversation>(`/v1/conversations/${conversation_id}`);
    expect(conversation.message_count).toBe(4);
  });

  test("may be empty", async () => {
    model.reply([]);
    expect((await ask()).body).toMatchObject({ response: "", status: "completed" });
  });

  test("NUL and unpaired surrogates become U+FFFD, pairs split over chunks stay whole", async () => {
    model.reply(["a\0b", "\ud83d", "\ude00", "\ud83dx", "\ude00"]);
    expect((await ask()).body.response).toBe("a\ufffdb😀\ufffdx\ufffd");
  });

  test("the bare path answers the same way", async () => {
    model.reply(["bare"]);
    const { status, body } = await service.post<ChatResponse>("/chat", { user_id: "ada", message: "Hi" });
    expect([status, body.response]).toEqual([200, "bare"]);
  });

  test("null is as good as left out, for every optional member", async () => {
    model.reply(["nothing given"]);
    const none = Object.fromEntries(
      ["conversation_id", "metadata", "model", "temperature", "max_tokens", "collections", "use_memory"].map(
        (name) => [name, null],
      ),
    );
    expect((await ask(none)).status).toBe(200);
  });
});

describe("other ends", () => {
  test("cut by the length limit it is truncated, with 200", async () => {
    model.reply(["too lo"], { finish: "length" });
    const { status, body } = await ask();
    expect(status).toBe(200);
    expect(body).toMatchObject({ status: "truncated", finish_reason: "length", response: "too lo" });
  });

  test("cut by the provider's filter it is filtered, with 200", async () => {
    model.reply(["hm"], { finish: "content_filter" });
    const { status, body } = await ask();
    expect(status).toBe(200);
    expect(body).toMatchObject({ status: "filtered", finish_reason: "content_filter", response: "hm" });
  });

  test("stopped by the user it answers 200 with the partial text", async () => {
    const held = model.hold();
    held.send("so far");
    const chat = ask();
    const turn = await runningTurn(held.request);
    await until("the text is there", async () => (await turnOf(turn)).response === "so far");
    await service.post(`/v1/turns/${turn}/stop`, undefined);
    const { status, body } = await chat;
    expect(status).toBe(200);
    expect(body).toMatchObject({ status: "stopped", finish_reason: null, response: "so far", turn_id: turn });
    expect(body.usage.completion_tokens).toBeGreaterThan(0);
  });
});

describe("one running turn a conversation", () => {
  test("a second one is refused and names the first; afterwards there is room again", async () => {
    const held = model.hold();
    const first = ask({ message: "the first" });
    const turn_id = await runningTurn(held.request);
    const { conversation_id } = await turnOf(turn_id);
    const before = model.requests.length;
    const second = await service.post<FailedChat>("/v1/chat", {
      user_id: "ada",
      message: "x",
      conversation_id,
    });
    expect([second.status, second.body.code, second.body.turn_id]).toEqual([
      409,
      "turn_in_progress",
      turn_id,
    ]);
    expect(model.requests.length).toBe(before);
    held.send("done");
    held.finish();
    expect((await first).body.response).toBe("done");
    model.reply(["next"]);
    expect((await ask({ conversation_id })).body.response).toBe("next");
    const { body } = await service.get<Conversation>(`/v1/conversations/${conversation_id}`);
    expect(body.message_count).toBe(4);
  });
});

describe("the client goes away", () => {
  test("the turn runs on to its end", async () => {
    const held = model.hold();
    const client = new AbortController();
    const chat = service.fetch("/v1/chat", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user_id: "leaver", message: "bye" }),
      signal: client.signal,
    });
    const turn_id = await runningTurn(held.request, "leaver");
    client.abort();
    await expect(chat).rejects.toThrow();
    held.send("still here");
    held.finish();
    await until("the turn has ended", async () => (await turnOf(turn_id)).status !== "running");
    expect(await turnOf(turn_id)).toMatchObject({ status: "completed", response: "still here" });
  });
});

const turnOf = async (id: string): Promise<Turn> => (await service.get<Turn>(`/v1/turns/${id}`)).body;

/** The running turn of a user, once the model has been asked. */
async function runningTurn(asked: Promise<unknown>, user = "ada"): Promise<string> {
  await asked;
  const { body } = await service.get<{ conversations: Conversation[] }>(`/v1/conversations?user_id=${user}`);
  return body.conversations.find(({ active_turn_id }) => active_turn_id !== null)!.active_turn_id!;
}
