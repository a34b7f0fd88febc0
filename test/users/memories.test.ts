/** What is remembered about a user, under their control: list, add, correct, forget. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Problem } from "../../src/http/problem.ts";
import { countTokens } from "../../src/models/tokens.ts";
import type { Memory } from "../../src/users/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";
import { wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

interface MemoryPage {
  memories: Memory[];
  has_more: boolean;
  next_after: string | null;
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

const pathOf = (user_id: string, prefix = "/v1"): string =>
  `${prefix}/users/${encodeURIComponent(user_id)}/memories`;
const remember = async (user_id: string, body: Record<string, unknown>): Promise<Memory> => {
  const answer = await service.post<Memory>(pathOf(user_id), body);
  expect(answer.status).toBe(201);
  return answer.body;
};
const list = async (user_id: string, query = ""): Promise<MemoryPage> =>
  (await service.get<MemoryPage>(pathOf(user_id) + query)).body;
const textsOf = ({ memories }: MemoryPage): string[] => memories.map(({ text }) => text);

describe.each(["/v1", ""])("%s/users/:user_id/memories", (prefix) => {
  test("adds one, with a Location where it is", async () => {
    const user_id = `adder ${prefix}`;
    const path = pathOf(user_id, prefix);
    const given = { text: "Her daughter Lena plays the cello. 🎻", kind: "event", slot: "lena" };
    const { status, headers, body } = await service.post<Memory>(path, given);
    expect(status).toBe(201);
    expect(body).toEqual({
      id: expect.stringMatching(/^mem_[0-9a-f-]{36}$/),
      object: "memory",
      user_id,
      ...given,
      kind: "event",
      tokens: countTokens(given.text),
      source_message_id: null,
      superseded_by: null,
      uses: 0,
      used_at: null,
      created_at: expect.any(Number),
      updated_at: expect.any(Number),
    });
    expect(body.created_at).toBeWithin(Date.now() / 1000 - 60, Date.now() / 1000 + 60);
    expect(headers.get("location")).toBe(`${pathOf(user_id)}/${body.id}`);
    expect((await service.get(headers.get("location")!)).body).toEqual(body);
    expect((await service.get<MemoryPage>(path)).body).toEqual({
      memories: [body],
      has_more: false,
      next_after: null,
    });
  });

  test("adds a fact where no kind is given, and nothing in a slot", async () => {
    const { body } = await service.post<Memory>(pathOf("plain", prefix), { text: "Likes tea." });
    expect([body.kind, body.slot]).toEqual(["fact", null]);
    const nulls = { text: "Likes rain.", kind: null, slot: null };
    const other = await service.post<Memory>(pathOf("plain", prefix), nulls);
    expect([other.body.kind, other.body.slot]).toEqual(["fact", null]);
  });

  test("corrects one: text and kind, each alone, and counts the text again", async () => {
    const { id } = await remember("corrector", { text: "x", kind: "preference" });
    const path = `${pathOf("corrector", prefix)}/${id}`;
    const text = "She prefers trains to planes, and ships to both of them.";
    const changed = await service.send<Memory>("PATCH", path, { text });
    expect(changed.status).toBe(200);
    expect(changed.body).toMatchObject({ id, text, kind: "preference", tokens: countTokens(text) });
    const kind = await service.send<Memory>("PATCH", path, { kind: "instruction" });
    expect(kind.body).toMatchObject({ text, kind: "instruction", tokens: countTokens(text) });
    expect((await service.send<Memory>("PATCH", path, {})).body).toMatchObject({ text, kind: "instruction" });
    expect((await service.get<Memory>(path)).body).toMatchObject({ text, kind: "instruction" });
  });

  test("forgets one", async () => {
    const { id } = await remember("forgetter", { text: "Soon gone." });
    const path = `${pathOf("forgetter", prefix)}/${id}`;
    const { status, body } = await service.send("DELETE", path);
    expect(status).toBe(200);
    expect(body).toEqual({ status: "deleted", id, object: "memory.deleted", deleted: true });
    expect((await service.get(path)).status).toBe(404);
    expect((await service.send("DELETE", path)).status).toBe(404);
    expect((await service.send("PATCH", path, { text: "x" })).status).toBe(404);
    expect((await list("forgetter")).memories).toEqual([]);
  });
});

describe("the pages of memories", () => {
  beforeAll(async () => {
    for (let index = 1; index <= 25; index++) await remember("pager", { text: `memory ${index}` });
  });
  const newestFirst = Array.from({ length: 25 }, (_, index) => `memory ${25 - index}`);

  test("are 20 long where no limit is given", async () => {
    const page = await list("pager");
    expect([textsOf(page), page.has_more]).toEqual([newestFirst.slice(0, 20), true]);
  });

  test.each([1, 7, 24, 25, 26, 100])("of %d hold each memory once, newest first", async (limit) => {
    const seen: string[] = [];
    for (let after: string | null = ""; after !== null; ) {
      const page: MemoryPage = await list("pager", `?limit=${limit}${after === "" ? "" : `&after=${after}`}`);
      expect(page.has_more).toBe(page.next_after !== null);
      seen.push(...textsOf(page));
      after = page.next_after;
    }
    expect(seen).toEqual(newestFirst);
  });

  test("go on where they were while memories come and go", async () => {
    for (let index = 1; index <= 6; index++) await remember("churning", { text: `${index}` });
    const first = await list("churning", "?limit=2");
    expect(textsOf(first)).toEqual(["6", "5"]);
    await remember("churning", { text: "7" });
    await service.send("DELETE", `${pathOf("churning")}/${first.memories[1]!.id}`);
    expect(textsOf(await list("churning", `?limit=2&after=${first.next_after}`))).toEqual(["4", "3"]);
  });

  test("of a user nobody has heard of are empty", async () => {
    expect(await list("nobody")).toEqual({ memories: [], has_more: false, next_after: null });
  });
});

describe("a memory", () => {
  test("supersedes the one of the same slot, which is shown by its id alone", async () => {
    const rome = await remember("mover", { text: "Lives in Rome.", slot: "home" });
    const dog = await remember("mover", { text: "Has a dog.", slot: "pet" });
    const oslo = await remember("mover", { text: "Lives in Oslo.", slot: "home" });
    expect((await list("mover")).memories.map(({ id }) => id)).toEqual([oslo.id, dog.id]);
    const { body } = await service.get<Memory>(`${pathOf("mover")}/${rome.id}`);
    expect(body.superseded_by).toBe(oslo.id);
  });

  test("of two at once of the same slot supersedes the other", async () => {
    const made = await Promise.all(
      Array.from({ length: 8 }, (_, index) => remember("hasty", { text: `home ${index}`, slot: "home" })),
    );
    const { memories } = await list("hasty");
    expect(memories.length).toBe(1);
    expect(made.map(({ id }) => id)).toContain(memories[0]!.id);
  });

  test("of another user is 404, like an unknown one, and stays as it is", async () => {
    const theirs = await remember("owner", { text: "Theirs." });
    const path = `${pathOf("eve")}/${theirs.id}`;
    for (const [method, body] of [["GET"], ["PATCH", { text: "x" }], ["DELETE"]] as const) {
      const answer = await service.send<Problem>(method, path, body);
      expect([method, answer.status, answer.body.code]).toEqual([method, 404, "not_found"]);
    }
    expect((await list("eve")).memories).toEqual([]);
    expect((await list("owner")).memories).toEqual([theirs]);
  });

  test("beyond PARLEY_MEMORIES_MAX drops the oldest, and is itself kept", async () => {
    await using small = await startService({ env: { PARLEY_MEMORIES_MAX: "3" } });
    for (let index = 1; index <= 5; index++) {
      const { status } = await small.post(pathOf("full"), { text: `memory ${index}` });
      expect(status).toBe(201);
    }
    const { body } = await small.get<MemoryPage>(pathOf("full"));
    expect(textsOf(body)).toEqual(["memory 5", "memory 4", "memory 3"]);
  });
});

describe("the prompt of a user's turn", () => {
  const promptOf = async (user_id: string, message: string, more: Record<string, unknown> = {}) => {
    const answer = await wholeTurn(service, model, ["Hi"], { user_id, message, ...more });
    return { system: model.requests.at(-1)!.body.messages[0]!.content as string, answer };
  };

  test("holds what is remembered, as it is by then", async () => {
    const { id } = await remember("asker", { text: "Her cat is called Schrödinger." });
    const path = `${pathOf("asker")}/${id}`;
    const first = await promptOf("asker", "What is my cat called?");
    expect(first.system).toMatch(/^- \d{4}-\d\d-\d\d: Her cat is called Schrödinger\.$/m);
    expect(first.answer.memories_used).toEqual([id]);
    await service.send("PATCH", path, { text: "Her cat is called Wigner." });
    const second = await promptOf("asker", "What is my cat called?");
    expect(second.system).toContain("Her cat is called Wigner.");
    expect(second.system).not.toContain("Schrödinger");
    await service.send("DELETE", path);
    const third = await promptOf("asker", "What is my cat called?");
    expect(third.system).not.toMatch(/Wigner|Schrödinger/);
    expect(third.answer.memories_used).toEqual([]);
  });

  test("holds nothing that was superseded, nothing of others, and nothing where memory is not used", async () => {
    await remember("careful", { text: "Lives in Rome.", slot: "home" });
    await remember("careful", { text: "Lives in Oslo.", slot: "home" });
    const { system } = await promptOf("careful", "Where do I live?");
    expect(system).toContain("Lives in Oslo.");
    expect(system).not.toContain("Rome");
    expect((await promptOf("eve", "Where do I live?")).system).not.toContain("Oslo");
    const without = await promptOf("careful", "Where do I live?", { use_memory: false });
    expect(without.system).not.toContain("Oslo");
    expect(without.answer.memories_used).toEqual([]);
  });
});
