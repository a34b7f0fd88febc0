/** What `parley migrate` has moved, served: from PostgreSQL the service answers as it does from SQLite. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Recording } from "../fixtures/databases/record.ts";
import { type EmbeddingServer, startEmbeddingServer } from "../support/embedding-server.ts";
import { adminKey, bearer, guardedEnv } from "../support/keys.ts";
import { type Filled, fillDataDir, migrate } from "../support/moving.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { type Service, startService, temporaryDirectory, until } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { resume } from "../support/turns.ts";

setDefaultTimeout(60_000);

const newDatabase = databasesOfFile();
const directory = temporaryDirectory();
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const newDirectory = (): string => mkdtempSync(join(directory, "data-"));

/** Moves a directory to a new database. */
async function moved(dataDir: string): Promise<string> {
  const url = await newDatabase();
  const { exitCode, stdout, stderr } = await migrate(dataDir, url);
  if (exitCode !== 0) throw new Error(stdout + stderr);
  return url;
}

/** Members that an answer has gained since a recording are fine; what was there must be the same. */
const asRecorded = (body: unknown): unknown => {
  if (Array.isArray(body)) return body.map(asRecorded);
  if (typeof body !== "object" || body === null) return body;
  const members = Object.entries(body).map(([key, value]) => [key, asRecorded(value)]);
  return expect.objectContaining(Object.fromEntries(members));
};

describe("databases of earlier versions", () => {
  const fixtures = new URL("../fixtures/databases/", import.meta.url).pathname;
  for (const file of readdirSync(fixtures).filter((file) => file.endsWith(".db"))) {
    test(`${file} is read from PostgreSQL as it was written`, async () => {
      const dataDir = newDirectory();
      cpSync(join(fixtures, file), join(dataDir, "parley.db"));
      await using service = await startService({ env: { DATABASE_URL: await moved(dataDir) } });
      const recordings = (await Bun.file(join(fixtures, file.replace(".db", ".json"))).json()) as Recording[];
      expect(recordings.length).toBeGreaterThan(10);
      for (const { path, body } of recordings) {
        const answer = await service.get(path);
        expect([path, answer.status, answer.body]).toEqual([path, 200, asRecorded(body)]);
      }
      const turns = recordings.filter(({ path }) => path.startsWith("/v1/turns/"));
      for (const { body } of turns as { body: { id: string; response: string } }[]) {
        const { text } = await readTranscript(await resume(service, body.id, 4));
        expect(text).toBe(body.response.slice(4));
      }
    });
  }
});

/** What differs from one run of a service to the next. */
const ofItsTime =
  /^(request_id|instance|ended_at|updated_at|last_used_at|duration_ms|exported_at|resets_at)$/;

function lasting(body: unknown): unknown {
  if (Array.isArray(body)) return body.map(lasting);
  if (typeof body !== "object" || body === null) return body;
  return Object.fromEntries(
    Object.entries(body)
      .filter(([key]) => !ofItsTime.test(key))
      .map(([key, value]) => [key, lasting(value)]),
  );
}

describe("a data directory that was in use", () => {
  let filled: Filled;
  let embeddings: EmbeddingServer;
  /** From SQLite, and from PostgreSQL. */
  let services: [Service, Service];
  const auth = bearer(adminKey);

  beforeAll(async () => {
    filled = await fillDataDir(newDirectory());
    embeddings = startEmbeddingServer();
    const url = await moved(filled.dataDir);
    const env = { ...guardedEnv, PARLEY_EMBEDDING_MODEL: `small@${embeddings.url}` };
    services = [
      await startService({ dataDir: filled.dataDir, env }),
      await startService({ env: { ...env, DATABASE_URL: url } }),
    ];
    for (const service of services) {
      await until("the turn that ran is ended", async () => {
        const { body } = await service.get<{ status: string }>(`/v1/turns/${filled.running.id}`, auth);
        return body.status !== "running";
      });
      await until("the upload that waited is read", async () => {
        const { body } = await service.get<{ documents: { status: string }[] }>("/v1/documents", auth);
        return body.documents.every(({ status }) => status !== "processing");
      });
    }
  });
  afterAll(async () => {
    await Promise.all(services.map((service) => service[Symbol.asyncDispose]()));
    await embeddings.close();
  });

  const paths = (): string[] => [
    "/v1/conversations?limit=100",
    "/v1/conversations?user_id=ada",
    "/v1/conversations?q=zurich",
    "/v1/conversations?q=apart",
    "/v1/conversations?q=dev",
    ...filled.conversations
      .slice(0, 2)
      .flatMap((id) => [
        `/v1/conversations/${id}`,
        `/v1/conversations/${id}/messages?limit=1`,
        `/v1/conversations/${id}/export`,
      ]),
    `/v1/turns/${filled.running.id}`,
    "/v1/documents",
    "/v1/documents?user_id=ada",
    "/v1/users/ada/profile",
    "/v1/users/ada/memories",
    "/v1/usage",
    "/v1/usage?group_by=user",
    "/v1/budgets",
    "/v1/budgets/users/ada",
    "/v1/keys",
  ];

  test("answers the same to whoever reads", async () => {
    for (const path of paths()) {
      const [here, there] = await Promise.all(services.map((service) => service.get<unknown>(path, auth)));
      expect([path, there!.status, lasting(there!.body)]).toEqual([path, here!.status, lasting(here!.body)]);
      expect([path, here!.status]).toEqual([path, 200]);
    }
  });

  test("ends the turn that ran, with what it had said", async () => {
    for (const service of services) {
      const { body } = await service.get(`/v1/turns/${filled.running.id}`, auth);
      expect(body).toMatchObject({ status: "interrupted", response: filled.running.text });
    }
  });

  test("finds the same passages, by words and by vectors", async () => {
    for (const query of ["When may devices be returned?", "boat", "returns 60", "nothing of that kind"]) {
      for (const user_id of ["ada", "bob"]) {
        const [here, there] = await Promise.all(
          services.map((service) =>
            service.post<{ results: { name: string; quote: string }[] }>(
              "/v1/documents/search",
              { query, user_id },
              auth,
            ),
          ),
        );
        const found = (answer: typeof here) => answer!.body.results.map(({ name, quote }) => [name, quote]);
        expect([query, user_id, found(there)]).toEqual([query, user_id, found(here)]);
      }
    }
  });

  test("knows its keys, and each in its workspace", async () => {
    for (const service of services) {
      const { status, body } = await service.get<{ conversations: { id: string }[] }>(
        "/v1/conversations",
        bearer(filled.key.key),
      );
      expect([status, body.conversations.map(({ id }) => id)]).toEqual([200, [filled.conversations[2]!]]);
    }
  });

  test("starts nothing a second time", async () => {
    const body = { user_id: "ada", message: "When may devices be returned?", metadata: { channel: "web" } };
    const headers = { ...auth, "idempotency-key": "key-1" };
    const [here, there] = await Promise.all(
      services.map((service) => service.post<{ turn_id: string }>("/v1/chat", body, headers)),
    );
    expect([there!.status, there!.body]).toEqual([200, here!.body]);
  });

  test("remembers its users, and goes on with their conversations", async () => {
    const body = { user_id: "ada", message: "What is my name?", conversation_id: filled.conversations[0] };
    const [here, there] = await Promise.all(
      services.map((service) =>
        service.post<{ response: string; memories_used: string[] }>("/v1/chat", body, auth),
      ),
    );
    expect([here!.status, here!.body.response]).toEqual([200, expect.stringContaining("Ada")]);
    expect(there!.body.response).toBe(here!.body.response);
    expect(there!.body.memories_used).toEqual(here!.body.memories_used);
  });

  test("has no vectors made anew", async () => {
    const texts = embeddings.requests.flatMap(({ body }) => body.input);
    expect(texts.length).toBeGreaterThan(0);
    expect(texts.filter((text) => text.includes("I live in Zürich"))).toEqual([]);
    expect(texts.filter((text) => text.includes("Nelly"))).toEqual([]);
  });
});
