/** Conversations: create, read, change, delete, export, messages, and whose they are. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse, Message, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testModel, testMsMax } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { conversationOf, holdTurn, resume, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

type WithMessages = Conversation & { messages: Message[] };
interface MessagePage {
  messages: Message[];
  has_more: boolean;
  next_before: string | null;
}

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

const create = async (body: Record<string, unknown> = {}): Promise<Conversation> =>
  (await service.post<Conversation>("/v1/conversations", { user_id: "ada", ...body })).body;

describe.each(["/v1", ""])("%s/conversations", (prefix) => {
  const path = (id: string) => `${prefix}/conversations/${id}`;

  test("creates one, with a Location", async () => {
    const { status, headers, body } = await service.post<Conversation>(`${prefix}/conversations`, {
      user_id: "ada",
      title: "Ideas 💡",
      metadata: { channel: "web" },
    });
    expect(status).toBe(201);
    expect(headers.get("location")).toBe(`/v1/conversations/${body.id}`);
    expect(body).toEqual({
      id: expect.stringMatching(/^conv_[0-9a-f-]{36}$/),
      object: "conversation",
      user_id: "ada",
      title: "Ideas 💡",
      metadata: { channel: "web" },
      message_count: 0,
      tokens_used: 0,
      active_turn_id: null,
      created_at: expect.any(Number),
      updated_at: expect.any(Number),
      last_message_at: expect.any(Number),
    });
    expect(body.created_at).toBeWithin(Date.now() / 1000 - 60, Date.now() / 1000 + 60);
  });

  test("creates one without title and metadata", async () => {
    const { body } = await service.post<Conversation>(`${prefix}/conversations`, { user_id: "ada" });
    expect([body.title, body.metadata]).toEqual([null, {}]);
  });

  test("reads one with its messages, oldest first", async () => {
    const { conversation_id } = await wholeTurn(service, model, ["answer 1"], { message: "question 1" });
    await wholeTurn(service, model, ["answer 2"], { message: "question 2", conversation_id });
    const { status, body } = await service.get<WithMessages>(path(conversation_id));
    expect(status).toBe(200);
    expect(body.messages.map(({ seq, content }) => [seq, content])).toEqual([
      [1, "question 1"],
      [2, "answer 1"],
      [3, "question 2"],
      [4, "answer 2"],
    ]);
    expect(body.messages[1]).toEqual({
      id: expect.stringMatching(/^msg_/),
      object: "message",
      conversation_id,
      turn_id: expect.stringMatching(/^turn_/),
      seq: 2,
      role: "assistant",
      content: "answer 1",
      status: "completed",
      model: testModel,
      sources: [],
      citations: [],
      tokens: expect.any(Number),
      created_at: expect.any(Number),
    });
    expect(body.messages[0]).toMatchObject({ role: "user", model: null, turn_id: body.messages[1]!.turn_id });
  });

  test("a running reply shows what it holds by now", async () => {
    const { turn, held } = await holdTurn(service, model, "half a re");
    const { body } = await service.get<WithMessages>(path(turn.conversation_id));
    expect(body.active_turn_id).toBe(turn.id);
    expect(body.messages.at(-1)).toMatchObject({
      role: "assistant",
      status: "running",
      content: "half a re",
    });
    held.finish();
  });

  test("changes title and metadata, each alone or both, and nothing else", async () => {
    const { id } = await create({ title: "Before", metadata: { a: "1" } });
    const patch = async (body: Record<string, unknown>) =>
      (await service.send<Conversation>("PATCH", path(id), body)).body;
    expect(await patch({ title: "After" })).toMatchObject({ id, title: "After", metadata: { a: "1" } });
    expect(await patch({ metadata: { b: "2" } })).toMatchObject({ title: "After", metadata: { b: "2" } });
    expect(await patch({ title: null, metadata: null })).toMatchObject({ title: null, metadata: {} });
    expect(await patch({})).toMatchObject({ title: null, metadata: {} });
    expect(await conversationOf(service, id)).toMatchObject({ title: null, metadata: {}, user_id: "ada" });
  });

  test("deletes one with all that hangs on it", async () => {
    const { conversation_id: id, turn_id } = await wholeTurn(service, model, ["soon gone"]);
    const { status, body } = await service.send("DELETE", path(id));
    expect(status).toBe(200);
    expect(body).toEqual({ status: "deleted", id, object: "conversation.deleted", deleted: true });
    for (const gone of [
      path(id),
      `${path(id)}/messages`,
      `${path(id)}/export`,
      `/v1/turns/${turn_id}`,
      `/v1/turns/${turn_id}/stream`,
    ]) {
      expect([gone, (await service.get<Problem>(gone)).status]).toEqual([gone, 404]);
    }
    expect((await service.send("DELETE", path(id))).status).toBe(404);
    const chat = await service.post<Problem>("/v1/chat", {
      user_id: "ada",
      message: "Hi",
      conversation_id: id,
    });
    expect(chat.status).toBe(404);
  });

  test("stops a running turn before it deletes", async () => {
    const { turn, held } = await holdTurn(service, model, "never to be finished");
    const request = await held.request;
    const watcher = readTranscript(await resume(service, turn.id, 0));
    expect((await service.send("DELETE", path(turn.conversation_id))).status).toBe(200);
    await request.closed;
    expect(await watcher).toMatchObject({ text: "never to be finished", done: { status: "stopped" } });
    expect((await service.get<Problem>(`/v1/turns/${turn.id}`)).status).toBe(404);
  });
});

describe("the pages of messages", () => {
  let id: string;
  beforeAll(async () => {
    for (let round = 1; round <= 15; round++) {
      const chat = await wholeTurn(service, model, [`a${round}`], {
        message: `q${round}`,
        ...(id && { conversation_id: id }),
      });
      id = chat.conversation_id;
    }
  });
  const page = async (query: string): Promise<MessagePage> =>
    (await service.get<MessagePage>(`/v1/conversations/${id}/messages${query}`)).body;

  test("go back from the newest, oldest first within a page", async () => {
    const newest = await page("?limit=4");
    expect(newest.messages.map(({ seq }) => seq)).toEqual([27, 28, 29, 30]);
    expect(newest.has_more).toBe(true);
    const before = await page(`?limit=4&before=${newest.next_before}`);
    expect(before.messages.map(({ seq }) => seq)).toEqual([23, 24, 25, 26]);
  });

  test.each([1, 7, 15, 29, 30, 31, 100])("of %d hold each message once", async (limit) => {
    const seen: number[] = [];
    for (let before: string | null = ""; before !== null; ) {
      const { messages, has_more, next_before }: MessagePage = await page(
        `?limit=${limit}${before === "" ? "" : `&before=${before}`}`,
      );
      expect(has_more).toBe(next_before !== null);
      seen.unshift(...messages.map(({ seq }) => seq));
      before = next_before;
    }
    expect(seen).toEqual(Array.from({ length: 30 }, (_, index) => index + 1));
  });

  test("stay where they are while the conversation goes on", async () => {
    const first = await page("?limit=10");
    await wholeTurn(service, model, ["one more"], { conversation_id: id, message: "And?" });
    const second = await page(`?limit=10&before=${first.next_before}`);
    expect(second.messages.map(({ seq }) => seq)).toEqual([11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
  });

  test("of a conversation without messages are empty", async () => {
    const { id } = await create();
    const { body } = await service.get<MessagePage>(`/v1/conversations/${id}/messages`);
    expect(body).toEqual({ messages: [], has_more: false, next_before: null });
  });
});

describe("the export", () => {
  test("as JSON holds the conversation and all its messages, many pages of them", async () => {
    await using offline = await startService();
    let id = "";
    for (let round = 0; round < 105; round++) {
      const { body } = await offline.post<ChatResponse>("/v1/chat", {
        user_id: "ada",
        message: `Message ${round} "quoted" 😀\n`,
        max_tokens: 1,
        ...(id && { conversation_id: id }),
      });
      id = body.conversation_id;
    }
    const response = await offline.fetch(`/v1/conversations/${id}/export`);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(response.headers.get("content-disposition")).toBe(`attachment; filename="${id}.json"`);
    const { messages, ...conversation } = (await response.json()) as WithMessages;
    expect(conversation).toMatchObject({ id, object: "conversation", message_count: 210 });
    expect(messages.map(({ seq }) => seq)).toEqual(Array.from({ length: 210 }, (_, index) => index + 1));
    expect(messages[208]!.content).toBe('Message 104 "quoted" 😀\n');
    expect(await (await offline.fetch(`/v1/conversations/${id}/export?format=json`)).json()).toEqual({
      ...conversation,
      messages,
    });
  });

  test("as Markdown is for reading", async () => {
    const { id } = await create({ title: "For *readers*" });
    await wholeTurn(service, model, ["**Yes.**"], { message: "Is it?", conversation_id: id });
    const response = await service.fetch(`/conversations/${id}/export?format=markdown`);
    expect(response.headers.get("content-type")).toBe("text/markdown; charset=utf-8");
    expect(response.headers.get("content-disposition")).toBe(`attachment; filename="${id}.md"`);
    const time = "\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.000Z";
    expect(await response.text()).toMatch(
      new RegExp(
        `^# For \\*readers\\*\n\n## User, ${time}\n\nIs it\\?\n\n## Assistant \\(${testModel}\\), ${time}\n\n\\*\\*Yes\\.\\*\\*\n$`,
      ),
    );
  });
});

describe("whose they are", () => {
  test("another user's conversation can't be gone on with: it is 404, like an unknown one", async () => {
    const { conversation_id } = await wholeTurn(service, model, ["for Ada"], { user_id: "ada" });
    const asked = model.requests.length;
    for (const path of ["/v1/chat", "/v1/chat/stream", "/v1/turns", "/chat"]) {
      const { status, body } = await service.post<Problem>(path, {
        user_id: "eve",
        message: "Hi",
        conversation_id,
      });
      expect([path, status, body.code]).toEqual([path, 404, "not_found"]);
    }
    const query = new URLSearchParams({ user_id: "eve", message: "Hi", conversation_id });
    expect((await service.fetch(`/v1/chat/stream?${query}`)).status).toBe(404);
    expect(model.requests.length).toBe(asked);
    expect((await conversationOf(service, conversation_id)).message_count).toBe(2);
  });

  test("the list of a user holds nobody else's", async () => {
    await wholeTurn(service, model, ["x"], { user_id: "iso-1", message: "aardvark" });
    await wholeTurn(service, model, ["x"], { user_id: "iso-2", message: "aardvark" });
    for (const query of ["", "&q=aardvark"]) {
      const { body } = await service.get<{ conversations: Conversation[] }>(
        `/v1/conversations?user_id=iso-1${query}`,
      );
      expect(body.conversations.map(({ user_id }) => user_id)).toEqual(["iso-1"]);
    }
    const { body } = await service.get<{ conversations: Conversation[] }>("/v1/conversations?q=aardvark");
    expect(body.conversations.map(({ user_id }) => user_id).toSorted()).toEqual(["iso-1", "iso-2"]);
  });

  test("user ids are compared exactly", async () => {
    await wholeTurn(service, model, ["x"], { user_id: "Émile" });
    for (const other of ["émile", "E\u0301mile", "Emile", "Émile ", "%", "_____", "*"]) {
      const { body } = await service.get<{ conversations: Conversation[] }>(
        `/v1/conversations?${new URLSearchParams({ user_id: other })}`,
      );
      expect(body.conversations).toEqual([]);
    }
  });
});

describe("what a chat changes", () => {
  test("metadata replaces the conversation's, and stays where none is sent", async () => {
    const { conversation_id } = await wholeTurn(service, model, ["x"], { metadata: { a: "1" } });
    await wholeTurn(service, model, ["x"], { conversation_id });
    expect((await conversationOf(service, conversation_id)).metadata).toEqual({ a: "1" });
    await wholeTurn(service, model, ["x"], { conversation_id, metadata: { b: "2" } });
    expect((await conversationOf(service, conversation_id)).metadata).toEqual({ b: "2" });
  });

  test("tokens_used adds up over all turns, the stopped ones too", async () => {
    model.reply(["x"], { usage: { prompt_tokens: 10, completion_tokens: 1 } });
    const { body: one } = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "Hi" });
    const { conversation_id } = one;
    const { turn } = await holdTurn(service, model, "partial", { conversation_id });
    const { body: stopped } = await service.post<Turn>(`/v1/turns/${turn.id}/stop`, undefined);
    expect((await conversationOf(service, conversation_id)).tokens_used).toBe(11 + stopped.tokens_used);
  });
});
