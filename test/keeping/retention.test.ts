/** Retention: the real service deletes what nobody has gone on with for so many days, and nothing else. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Conversation } from "../../src/conversations/schema.ts";
import { startEmbeddingServer } from "../support/embedding-server.ts";
import { ask, exported, keep } from "../support/keeping.ts";
import { addDocument, search } from "../support/library.ts";
import { allMemories, untilRemembered } from "../support/memories.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, temporaryDirectory, until } from "../support/service.ts";
import { wholeTurn } from "../support/turns.ts";
import { untilEmbedded } from "../support/vectors.ts";

setDefaultTimeout(60_000);

const directory = temporaryDirectory();
let model: ModelServer;
/** Conversations of which all but the last are ten days old, one of them with a memory; and a document. */
let aged: string;

const dayMs = 24 * 3600 * 1000;

beforeAll(async () => {
  model = startModelServer();
  await using service = await startService({ model });
  await wholeTurn(service, model, ["How nice."], { message: "My daughter Lena plays the cello." });
  for (let round = 0; round < 8; round++)
    await wholeTurn(service, model, ["Yes."], { message: `Round ${round}` });
  const { conversation_id } = await wholeTurn(service, model, ["Still here."], { message: "A young one" });
  await addDocument(service, { name: "handbook.md", text: "The Falcon drone has a warranty." });
  await untilRemembered(service);
  const shifted = (ms: number): number => ms - 10 * dayMs;
  aged = (await exported(service.dataDir))
    .split("\n")
    .map((line) => {
      if (!line.startsWith('{"type":"conversation"') || line.includes(conversation_id)) return line;
      const conversation = JSON.parse(line) as { last_active_ms: number };
      return JSON.stringify({ ...conversation, last_active_ms: shifted(conversation.last_active_ms) });
    })
    .join("\n");
});
afterAll(async () => {
  await model.close();
  rmSync(directory, { recursive: true, force: true });
});

async function serving(env: Record<string, string>): Promise<Service> {
  const dataDir = mkdtempSync(join(directory, "data-"));
  expect((await keep(dataDir, ["import", "-"], aged)).exitCode).toBe(0);
  return await startService({ model, dataDir, env });
}

const titlesOf = async (service: Service): Promise<(string | null)[]> => {
  const { body } = await service.get<{ conversations: Conversation[] }>("/v1/conversations?limit=100");
  return body.conversations.map(({ title }) => title);
};

test("conversations older than PARLEY_RETENTION_DAYS go, with all that hangs on them; memories and documents stay", async () => {
  const embeddings = startEmbeddingServer();
  const env = { PARLEY_EMBEDDING_MODEL: `some-model@${embeddings.url}` };
  await using service = await serving(env);
  await untilEmbedded(service, { messages: 20, memories: 1, passages: 1 });
  // Without it they stay.
  expect(await titlesOf(service)).toHaveLength(10);
  await service.stop();
  await service.restart({ PARLEY_RETENTION_DAYS: "9" });
  await until("the old ones are gone", async () => (await titlesOf(service)).length === 1);
  expect(await titlesOf(service)).toEqual(["A young one"]);
  await until("that is told", () => service.logs.some((line) => line.includes('"event":"retention"')));
  expect(service.logs.find((line) => line.includes('"event":"retention"'))).toContain(
    '"conversations":9,"days":9',
  );
  const path = join(service.dataDir, "parley.db");
  for (const [table, rows] of [
    ["messages", 2],
    ["turns", 1],
    // The ledger forgets nothing.
    ["usage", 10],
    ["message_vectors", 2],
    ["message_index", 2],
  ] as const) {
    // A row that stands for no message may be left by the cleaning of an index.
    expect([table, ask(path, `select rowid from ${table} where rowid > 0`).length]).toEqual([table, rows]);
  }
  expect((await service.get<{ conversations: [] }>("/v1/conversations?q=cello")).body.conversations).toEqual(
    [],
  );
  const [memory] = await allMemories(service);
  expect(memory).toMatchObject({
    text: "The user's daughter Lena plays the cello.",
    source_message_id: null,
  });
  expect((await search(service, "Falcon warranty"))[0]).toMatchObject({ name: "handbook.md" });
  await wholeTurn(service, model, ["on"]);
  await embeddings.close();
});

test("a service that is stopped in the middle of it goes on at the next start", async () => {
  await using service = await serving({ PARLEY_RETENTION_DAYS: "9" });
  await service.kill();
  await service.restart();
  await until("the old ones are gone", async () => (await titlesOf(service)).length === 1);
});

test("nothing goes before its time", async () => {
  await using service = await serving({ PARLEY_RETENTION_DAYS: "11" });
  // The first look is at the start; what follows needs the writer that it would have asked before.
  await wholeTurn(service, model, ["on"]);
  await service.stop();
  expect(
    ask(join(service.dataDir, "parley.db"), "select id from conversations where deleted = 0"),
  ).toHaveLength(11);
});
