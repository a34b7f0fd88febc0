/** Search by vectors in turns: what shares no word with a question but means the like is before the model, and cited. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { type EmbeddingServer, startEmbeddingServer } from "../support/embedding-server.ts";
import { addDocument, search } from "../support/library.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";
import { wholeTurn } from "../support/turns.ts";
import { untilEmbedded, vectorsIn } from "../support/vectors.ts";

setDefaultTimeout(testMsMax);

const said = "My father purchased a small red vehicle at the fair.";
const asked = "Which automobile did dad acquire?";
const fees = "The doctor asks for a fee of ninety pounds.";
const askedFees = "What does the physician charge?";
const lockers = "Bring a towel and a padlock for your locker.";

let model: ModelServer;
let embeddings: EmbeddingServer;
beforeAll(() => {
  model = startModelServer();
  model.default((script) => script.reply(["Noted."]));
  embeddings = startEmbeddingServer();
});
afterAll(async () => {
  await model.close();
  await embeddings.close();
});

const withVectors = (server: { url: string } = embeddings) => ({
  PARLEY_EMBEDDING_MODEL: `test-embedding@${server.url}`,
});

const say = (service: Service, message: string, body: Record<string, unknown> = {}): Promise<ChatResponse> =>
  wholeTurn(service, model, ["Noted."], { message, ...body });

/** What the model was sent before the message. */
async function promptFor(service: Service, message: string, body: Record<string, unknown> = {}) {
  const answer = await say(service, message, body);
  const { messages } = model.requests.findLast(({ body }) => body.messages.at(-1)!.content === message)!.body;
  return { answer, system: String(messages[0]!.content) };
}

const loggedBy = (service: Service, event: string): Record<string, unknown>[] =>
  service.logs
    .filter((line) => line.includes(`"event":"${event}"`))
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("with an embedding model", () => {
  let service: Service;
  let plain: Service;
  /** For one memory. */
  const littleRoom = { PARLEY_MEMORY_TOKENS: "20" };
  const seed = async (service: Service): Promise<void> => {
    await say(service, said);
    await say(service, "Tomorrow I have to water the tomatoes.", { user_id: "bob" });
    await addDocument(service, { name: "clinic.md", text: `# Clinic\n\n${fees}`, collection: "town" });
    await addDocument(service, {
      name: "pool.md",
      text: `# Pool\n\n${lockers}`,
      collection: "sport",
      metadata: { kind: "rules" },
    });
    const tickets = "Tickets for the trip are cheap after six in the evening.";
    await addDocument(service, { name: "private.md", text: `# Mine\n\n${tickets}`, user_id: "ada" });
  };
  beforeAll(async () => {
    [service, plain] = await Promise.all([
      startService({ model, env: { ...withVectors(), ...littleRoom } }),
      startService({ model, env: littleRoom }),
    ]);
    await seed(service);
    await seed(plain);
    await untilEmbedded(service, { messages: 4, passages: 3 });
  });
  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await plain[Symbol.asyncDispose]();
  });

  test("a message that shares no word with the question is recalled, and by words alone it isn't", async () => {
    const { system, answer } = await promptFor(service, asked);
    expect(system).toContain(`> ${said}`);
    const { body } = await service.get<{ chosen: { section: string; score: number }[] }>(
      `/v1/turns/${answer.turn_id}/receipt`,
    );
    const recalled = body.chosen.filter(({ section }) => section === "recall");
    expect(recalled.length).toBeGreaterThan(0);
    for (const { score } of recalled) expect(score).toBeWithin(0.001, 1.001);
    expect((await promptFor(plain, asked)).system).not.toContain(said);
  });

  test("another user's isn't", async () => {
    expect((await promptFor(service, asked, { user_id: "bob" })).system).not.toContain(said);
    expect((await promptFor(service, asked, { user_id: "nobody" })).system).not.toContain(said);
  });

  test("nor is anything for a turn without memory", async () => {
    expect((await promptFor(service, asked, { use_memory: false })).system).not.toContain(said);
  });

  test("a passage that shares no word with the question is quoted and cited, and by words alone it isn't", async () => {
    const { system, answer } = await promptFor(service, askedFees);
    expect(system).toContain("[1] clinic.md > Clinic\n");
    expect(system).toContain(`> ${fees}`);
    expect(system).not.toContain(lockers);
    expect(answer.sources).toEqual(["clinic.md"]);
    expect(answer.citations.map(({ name }) => name)).toEqual(["clinic.md"]);
    expect(answer.citations[0]!.quote).toContain(fees);
    expect(answer.citations[0]!.score).toBeWithin(0.001, 1.001);
    const without = await promptFor(plain, askedFees);
    expect(without.system).not.toContain(fees);
    expect(without.answer.sources).toEqual([]);
  });

  test("a question about something else is answered without any", async () => {
    const { system, answer } = await promptFor(service, "Glaciers?", { user_id: "nobody" });
    expect(answer.sources).toEqual([]);
    for (const text of [said, fees, lockers]) expect(system).not.toContain(text);
  });

  test("of memories the one that means the like is before the model, where there is no room for all", async () => {
    const memories = ["Has a dog called Rex.", "Grows tomatoes.", "Plays chess on Mondays."];
    const question = "What is my hund?";
    for (const one of [service, plain]) {
      for (const text of memories) await one.post("/v1/users/dora/memories", { text });
    }
    await untilEmbedded(service, { memories: memories.length }, "dora");
    expect((await promptFor(service, question, { user_id: "dora" })).system).toContain("Has a dog");
    expect((await promptFor(plain, question, { user_id: "dora" })).system).not.toContain("Has a dog");
  });

  test("a user's own document is for them alone", async () => {
    const question = "How inexpensive is the journey?";
    expect((await promptFor(service, question)).answer.sources).toEqual(["private.md"]);
    const { system, answer } = await promptFor(service, question, { user_id: "bob" });
    expect(answer.sources).toEqual([]);
    expect(system).not.toContain("Tickets");
  });

  test("collections and metadata limit what is searched", async () => {
    const found = async (body: Record<string, unknown>): Promise<string[]> =>
      (await search(service, askedFees, body)).map(({ name }) => name);
    expect((await found({}))[0]).toBe("clinic.md");
    expect(await found({ collections: ["town"] })).toEqual(["clinic.md"]);
    expect(await found({ collections: ["sport"] })).not.toContain("clinic.md");
    expect(await found({ filter: { kind: "rules" } })).not.toContain("clinic.md");
    expect(await found({ filter: { kind: "rules" }, collections: [] })).toEqual([]);
    expect(await search(plain, askedFees)).toEqual([]);
    expect((await promptFor(service, askedFees, { collections: ["sport"] })).answer.sources).toEqual([]);
  });

  test("a turn asks for one vector, and for none where nothing can be found", async () => {
    const requestsOf = (text: string): number =>
      embeddings.requests.filter(({ body }) => body.input.length === 1 && body.input[0] === text).length;
    const question = "Which unique thing is asked here once?";
    await promptFor(service, question);
    expect(requestsOf(question)).toBe(1);
    await using empty = await startService({ model, env: withVectors() });
    await until("the model is known", () => loggedBy(empty, "embedding").length === 1);
    const alone = "Is there anything to be found at all?";
    await promptFor(empty, alone);
    expect(requestsOf(alone)).toBe(0);
  });

  test("a conversation's vectors go with it, and a document's with it", async () => {
    const { conversation_id } = await say(service, "The lighthouse keeper writes letters.", {
      user_id: "carl",
    });
    await untilEmbedded(service, { messages: 2 }, "carl");
    const document = await addDocument(service, { name: "gone.md", text: "# Gone\n\nIt will be deleted." });
    await untilEmbedded(service, { passages: 4 });
    await service.send("DELETE", `/v1/conversations/${conversation_id}`);
    expect(vectorsIn(service.dataDir, "carl")[0]!.messages).toBe(0);
    await service.send("DELETE", `/v1/documents/${document.id}`);
    await untilEmbedded(service, { passages: 3 });
  });

  test("without one nothing is stored or asked for", () => {
    expect(vectorsIn(plain.dataDir)).toEqual([]);
  });
});

describe("an embedding server", () => {
  const slow = "Is there a slow answer to this?";

  test("that is silent holds a turn up for a moment, and those after it not at all", async () => {
    const silent = startEmbeddingServer();
    await using service = await startService({ model, env: withVectors(silent) });
    await say(service, "The drawbridge opens at noon.");
    await untilEmbedded(service, { messages: 2 });
    silent.default((script) => script.silence());
    const { system } = await promptFor(service, "When does the drawbridge open?");
    expect(system).toContain("> The drawbridge opens at noon.");
    await until("it is logged", () => loggedBy(service, "question_not_embedded").length > 0);
    const failure = loggedBy(service, "question_not_embedded")[0]!;
    expect(failure.code).toBe("model_timeout");
    expect((await promptFor(service, slow)).answer.status).toBe("completed");
    const askedFor = silent.requests.filter(({ body }) => body.input[0] === slow);
    // On a machine that stood still the pause may be over.
    const pausedUntil = Date.parse(String(failure.time)) + Number(failure.pause_ms);
    if (Date.now() < pausedUntil) expect(askedFor).toEqual([]);
    await silent.close();
  });

  test.each([
    ["refuses", (server: EmbeddingServer) => server.default((script) => script.status(500))],
    ["cuts connections", (server: EmbeddingServer) => server.default((script) => script.reset())],
    ["answers with a page", (server: EmbeddingServer) => server.default((s) => s.raw("<p>", "text/html"))],
    ["changes its vectors' length", (server: EmbeddingServer) => server.default((s) => s.dimensions(7))],
  ])("that %s leaves turns the words", async (_how, breakIt) => {
    const broken = startEmbeddingServer();
    await using service = await startService({ model, env: withVectors(broken) });
    await say(service, "The drawbridge opens at noon.");
    await untilEmbedded(service, { messages: 2 });
    breakIt(broken);
    const { system, answer } = await promptFor(service, "When does the drawbridge open?");
    expect(answer.status).toBe("completed");
    expect(system).toContain("> The drawbridge opens at noon.");
    await until("it is logged", () => loggedBy(service, "question_not_embedded").length === 1);
    for (const line of service.logs) expect(line).not.toContain("drawbridge");
    await broken.close();
  });

  test("that comes later finds what was said before", async () => {
    const late = startEmbeddingServer();
    late.default((script) => script.status(503));
    await using service = await startService({ model, env: withVectors(late) });
    await say(service, said);
    await until("it has failed", () => loggedBy(service, "embedding_failed").length > 0);
    expect((await promptFor(service, asked)).system).not.toContain(said);
    late.default((script) => script.answer());
    await untilEmbedded(service, { messages: 4 });
    expect((await promptFor(service, asked)).system).toContain(`> ${said}`);
    await late.close();
  });
});
