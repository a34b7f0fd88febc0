/** All that is kept about a user, as one document. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { ExportedUser, Memory } from "../../src/users/schema.ts";
import { addDocument } from "../support/library.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());

const chat = async (body: Record<string, unknown>): Promise<ChatResponse> =>
  (await service.post<ChatResponse>("/v1/chat", { max_tokens: 1, ...body })).body;

const exportOf = async (user_id: string, prefix = "/v1"): Promise<ExportedUser> => {
  const response = await service.fetch(`${prefix}/users/${encodeURIComponent(user_id)}/export`);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("application/json");
  expect(response.headers.get("content-disposition")).toBe('attachment; filename="user.json"');
  return (await response.json()) as ExportedUser;
};

test("holds profile, memories and conversations with all their messages", async () => {
  const user_id = "ada/lovelace";
  const path = `/v1/users/${encodeURIComponent(user_id)}`;
  await service.send("PATCH", `${path}/profile`, { display_name: "Ada", metadata: { plan: "team" } });
  const memories: Memory[] = [];
  for (const home of ["Rome", "Oslo"]) {
    const body = { text: `Lives in ${home}.`, slot: "home" };
    memories.unshift((await service.post<Memory>(`${path}/memories`, body)).body);
  }
  const { conversation_id } = await chat({ user_id, message: 'First "quoted" 😀\n' });
  await chat({ user_id, message: "Second", conversation_id });
  const { body: empty } = await service.post<{ id: string }>("/v1/conversations", {
    user_id,
    title: "Empty",
    metadata: { a: "1" },
  });
  await chat({ user_id: "somebody else", message: "Not this" });
  const text = `# Notes\n\nA "quoted" 😀 note.\n\n${"Long notes. 💡\n".repeat(6_000)}`;
  const about = { collection: "notes", metadata: { a: "1" } };
  const notes = await addDocument(service, { name: "notes.md", text, user_id, ...about });
  await addDocument(service, { name: "shared.md", text: "For everybody." });
  await addDocument(service, { name: "notes.md", text: "Somebody else's.", user_id: "somebody else" });

  const whole = await exportOf(user_id);
  const { body: profile } = await service.get<ExportedUser["profile"]>(`${path}/profile`);
  expect(Object.keys(whole).toSorted()).toEqual([
    "conversations",
    "documents",
    "exported_at",
    "memories",
    "object",
    "profile",
    "user_id",
  ]);
  expect(whole).toMatchObject({ object: "user.export", user_id, profile });
  expect(whole.exported_at).toBeWithin(Date.now() / 1000 - 60, Date.now() / 1000 + 60);
  expect(whole.memories).toEqual([memories[0]!, { ...memories[1]!, superseded_by: memories[0]!.id }]);
  expect(whole.documents).toEqual([{ ...notes, text }]);
  expect(whole.conversations.map(({ id }) => id)).toEqual([conversation_id, empty.id]);
  for (const { summary, ...conversation } of whole.conversations) {
    expect(summary).toEqual({ text: "", through_seq: 0 });
    const alone = await service.get(`/v1/conversations/${conversation.id}/export`);
    expect(conversation).toEqual(alone.body as typeof conversation);
  }
  expect(whole.conversations[0]!.messages.map(({ seq, role }) => [seq, role])).toEqual([
    [1, "user"],
    [2, "assistant"],
    [3, "user"],
    [4, "assistant"],
  ]);
  expect(whole.conversations[0]!.messages[0]!.content).toBe('First "quoted" 😀\n');
  expect({ ...(await exportOf(user_id, "")), exported_at: 0 }).toEqual({ ...whole, exported_at: 0 });
});

test("goes through many pages of memories, conversations and messages", async () => {
  const user_id = "busy";
  const { conversation_id } = await chat({ user_id, message: "0", use_memory: false });
  for (let index = 1; index < 105; index++) {
    await chat({ user_id, message: `${index}`, conversation_id, use_memory: false });
  }
  await Promise.all(
    Array.from({ length: 110 }, (_, index) =>
      service.post("/v1/conversations", { user_id, title: `Title ${index}` }),
    ),
  );
  await Promise.all(
    Array.from({ length: 210 }, (_, index) =>
      service.post(`/v1/users/${user_id}/memories`, { text: `Fact ${index}` }),
    ),
  );
  for (let index = 0; index < 53; index++) {
    await addDocument(service, { name: `${index}.txt`, text: `Text ${index}`, user_id });
  }
  const { memories, conversations, documents } = await exportOf(user_id);
  const textsOf = (of: { text: string }[]) => new Set(of.map(({ text }) => text));
  expect(textsOf(documents)).toEqual(new Set(Array.from({ length: 53 }, (_, index) => `Text ${index}`)));
  expect(new Set(memories.map(({ text }) => text)).size).toBe(210);
  expect(memories.map(({ id }) => id)).toEqual(
    memories
      .map(({ id }) => id)
      .toSorted()
      .reverse(),
  );
  expect(new Set(conversations.map(({ id }) => id)).size).toBe(111);
  const [first] = conversations;
  expect(first!.id).toBe(conversation_id);
  expect(first!.messages.map(({ seq }) => seq)).toEqual(Array.from({ length: 210 }, (_, index) => index + 1));
});

test("of a user nobody has heard of says that nothing is kept", async () => {
  const { exported_at: _, ...rest } = await exportOf("nobody");
  expect(rest).toEqual({
    object: "user.export",
    user_id: "nobody",
    profile: {
      object: "profile",
      user_id: "nobody",
      display_name: null,
      language: null,
      timezone: null,
      instructions: null,
      metadata: {},
      created_at: null,
      updated_at: null,
    },
    memories: [],
    conversations: [],
    documents: [],
  });
});
