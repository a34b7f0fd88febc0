/** The one file that `bun run build` makes, in an empty directory, with an empty home and hostile neighbours. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { ChatResponse } from "../src/chat/schema.ts";
import type { Source } from "../src/documents/media-type.ts";
import { buildBinary } from "./support/binary.ts";
import { endlessDocument, source } from "./support/documents.ts";
import { docxOf, heading, paragraph } from "./support/docx.ts";
import { startEmbeddingServer } from "./support/embedding-server.ts";
import { Exposition } from "./support/exposition.ts";
import { expectNoFetchLimit } from "./support/fetch-limit.ts";
import { addDocument, search } from "./support/library.ts";
import { pdfBomb, pdfWith } from "./support/pdf.ts";
import { databasesOfFile } from "./support/postgres.ts";
import { type ServiceOptions, startService, temporaryDirectory } from "./support/service.ts";
import { readTranscript } from "./support/sse.ts";
import { untilEmbedded } from "./support/vectors.ts";

interface Chat {
  response: string;
  conversation_id: string;
  status: string;
  model: string;
}

interface Problem {
  code: string;
  errors: { path: string; message: string }[];
}

const directory = temporaryDirectory();
const newDatabase = databasesOfFile();
let binary: string;

beforeAll(async () => {
  binary = await buildBinary(directory);
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** An empty directory to start the binary in. */
const emptyDirectory = (): string => {
  const cwd = join(directory, `cwd-${Bun.randomUUIDv7()}`);
  mkdirSync(cwd);
  return cwd;
};

const startBinary = (cwd: string, options: ServiceOptions = {}) =>
  startService({ command: [binary], cwd, ...options });

const chat = { user_id: "ada", message: "What is a turn?" };

describe("the binary", () => {
  test("starts in an empty directory and keeps its data there, across restarts", async () => {
    const cwd = emptyDirectory();
    await using service = await startBinary(cwd, { env: { PARLEY_DATA_DIR: "", HOME: cwd } });
    expect(readdirSync(cwd)).toEqual(["data"]);
    expect((await service.get("/ready")).status).toBe(200);
    const metrics = new Exposition(await (await service.fetch("/metrics")).text());
    expect(metrics.sum("process_resident_memory_bytes")).toBeGreaterThan(0);

    const { status, body } = await service.post<Chat>("/v1/chat", chat);
    expect(status).toBe(200);
    expect(body).toMatchObject({ status: "completed", model: "embedded" });

    const { conversation_id } = body;
    const request = { ...chat, conversation_id, message: "And a reply?" };
    const response = await service.fetch("/v1/chat/stream", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request),
    });
    const transcript = await readTranscript(response);
    expect(transcript.done).toMatchObject({ conversation_id, status: "completed" });
    expect(transcript.text).toHaveLength(transcript.done.length);

    expect(await service.stop()).toBe(0);
    await service.restart();
    const kept = await service.get<{ messages: { content: string }[] }>(
      `/v1/conversations/${conversation_id}`,
    );
    expect(kept.body.messages.map(({ content }) => content)).toEqual([
      chat.message,
      body.response,
      request.message,
      transcript.text,
    ]);
    const found = await service.get<{ conversations: { id: string }[] }>("/v1/conversations?q=reply");
    expect(found.body.conversations.map(({ id }) => id)).toEqual([conversation_id]);
    expect(await service.stop()).toBe(0);
  });

  test("keeps its data in PostgreSQL where it is told to, several at once, and writes no file", async () => {
    const DATABASE_URL = await newDatabase();
    const directories = [emptyDirectory(), emptyDirectory()];
    const [one, other] = await Promise.all(
      directories.map((cwd) =>
        startBinary(cwd, { env: { DATABASE_URL, HOME: cwd, TMPDIR: cwd, PARLEY_DATA_DIR: "" } }),
      ),
    );
    await using first = one!;
    await using second = other!;
    expect((await first.get("/ready")).status).toBe(200);
    const { status, body } = await first.post<Chat>("/v1/chat", chat);
    expect({ status, model: body.model }).toEqual({ status: 200, model: "embedded" });
    const kept = await second.get<{ messages: { content: string }[] }>(
      `/v1/conversations/${body.conversation_id}`,
    );
    expect(kept.body.messages.map(({ content }) => content)).toEqual([chat.message, body.response]);
    const text = "A turn is one message and the reply to it.";
    await addDocument(second, { name: "turns.md", text });
    const asked = await first.post<Chat>("/v1/chat", chat);
    expect(asked.body.response).toContain(`> ${text}`);
    expect([await first.stop(), await second.stop()]).toEqual([0, 0]);
    expect(directories.map((directory) => readdirSync(directory))).toEqual([[], []]);
  });

  test("answers a bad request with every fault", async () => {
    await using service = await startBinary(emptyDirectory());
    const answer = await service.post<Problem>("/v1/chat", {
      message: "",
      colour: "red",
      metadata: { a: 1 },
    });
    expect(answer.status).toBe(400);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.body.code).toBe("invalid_request");
    expect([...new Set(answer.body.errors.map(({ path }) => path))].toSorted()).toEqual([
      "body.colour",
      "body.message",
      "body.metadata.a",
      "body.user_id",
    ]);
    expect((await service.get<{ conversations: unknown[] }>("/v1/conversations")).body.conversations).toEqual(
      [],
    );
  });

  test("documents itself without any file or network", async () => {
    await using service = await startBinary(emptyDirectory());
    const page = await service.fetch("/docs");
    expect(page.status).toBe(200);
    const html = await page.text();
    const files = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path!);
    expect(files.length).toBeGreaterThanOrEqual(3);
    for (const path of files) {
      const file = await fetch(new URL(path, `${service.url}/docs`));
      expect({ path, status: file.status }).toEqual({ path, status: 200 });
      expect((await file.arrayBuffer()).byteLength).toBeGreaterThan(100);
    }
    const spec = await service.get<{ openapi: string; paths: Record<string, unknown> }>("/openapi.json");
    expect(spec.body.openapi).toStartWith("3.");
    expect(Object.keys(spec.body.paths)).toContain("/v1/chat");
  });

  test("takes nothing from what lies where it is started", async () => {
    const cwd = emptyDirectory();
    const marker = join(cwd, "marker");
    const mark = `require("node:fs").writeFileSync(${JSON.stringify(marker)}, "ran");`;
    const dotenv =
      'PORT=1\nPARLEY_API_KEYS="0123456789abcdef"\nPARLEY_MODEL=evil\nOPENAI_BASE_URL=http://127.0.0.1:9/v1\n';
    const hostile: Record<string, string> = {
      ".env": dotenv,
      ".env.local": dotenv,
      ".env.production": dotenv,
      ".env.development": dotenv,
      "bunfig.toml": 'preload = ["./preload.ts"]\n[test]\npreload = ["./preload.ts"]\n',
      "preload.ts": mark,
      "package.json": '{"main": "./preload.ts", "imports": {"#*": "./preload.ts"}}',
      "tsconfig.json": '{"compilerOptions": {"paths": {"*": ["./preload.ts"]}}}',
      "storage/sqlite/writer.ts": mark,
      "storage/sqlite/writer.js": mark,
      "src/storage/sqlite/writer.ts": mark,
      "node_modules/openai/index.js": mark,
      "node_modules/elysia/index.js": mark,
    };
    for (const [name, text] of Object.entries(hostile)) await Bun.write(join(cwd, name), text);
    await using service = await startBinary(cwd, { env: { HOME: cwd } });
    const { status, body } = await service.post<Chat>("/v1/chat", chat);
    expect({ status, model: body.model }).toEqual({ status: 200, model: "embedded" });
    expect(service.port).not.toBe(1);
    expect(await service.stop()).toBe(0);
    expect(existsSync(marker)).toBe(false);

    // The same files do harm where Bun itself is asked: the test would notice.
    const bun = Bun.spawn([process.execPath, "-e", "console.log(process.env.PARLEY_MODEL)"], {
      cwd,
      stdout: "pipe",
    });
    expect(await new Response(bun.stdout).text()).toBe("evil\n");
    expect(existsSync(marker)).toBe(true);
  });

  test("runs more replies at once than Bun's fetch would, with and without an argument", async () => {
    await expectNoFetchLimit({ command: [binary], cwd: emptyDirectory() });
    await expectNoFetchLimit({ command: [binary, "serve"], cwd: emptyDirectory() });
  });

  test("carries sqlite-vec, and writes it out only where an embedding model is configured", async () => {
    const embeddings = startEmbeddingServer();
    const env = { PARLEY_EMBEDDING_MODEL: `test-embedding@${embeddings.url}` };
    await using service = await startBinary(emptyDirectory(), { env });
    await addDocument(service, { name: "clinic.txt", text: "The doctor asks for a fee of ninety pounds." });
    await untilEmbedded(service, { passages: 1 });
    const question = "What does the physician charge?";
    expect((await search(service, question)).map(({ name }) => name)).toEqual(["clinic.txt"]);
    const { body } = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: question });
    expect(body.response).toContain("> The doctor asks for a fee of ninety pounds.");
    expect(body.sources).toEqual(["clinic.txt"]);
    expect(await service.stop()).toBe(0);

    await service.restart({ PARLEY_EMBEDDING_MODEL: "" });
    expect(await search(service, question)).toEqual([]);
    expect(await service.stop()).toBe(0);
    await embeddings.close();

    // Where it can't be written out, the start says so.
    const library = join(service.dataDir, "vec0.so");
    rmSync(library);
    mkdirSync(library);
    const refused = await service.restart(env).catch((error: Error) => error.message);
    expect(refused).toContain("parley: PARLEY_EMBEDDING_MODEL needs sqlite-vec, which can't be loaded (");
    rmSync(library, { recursive: true });
    await using plain = await startBinary(emptyDirectory());
    expect(readdirSync(plain.dataDir)).not.toContain("vec0.so");
  });

  test("examines what it needs, beside a service", async () => {
    await using service = await startBinary(emptyDirectory());
    const doctor = Bun.spawn([binary, "doctor"], {
      cwd: emptyDirectory(),
      env: { PARLEY_DATA_DIR: service.dataDir },
      stdout: "pipe",
    });
    const said = await new Response(doctor.stdout).text();
    expect(said).toMatch(/^ok +database +it is whole/m);
    expect(said).toMatch(/^ok +lock +a running service holds the data directory$/m);
    expect(await doctor.exited).toBe(0);
  });

  test("is restarted in place, as the same process", async () => {
    await using service = await startBinary(emptyDirectory());
    expect((JSON.parse(service.logs[0]!) as { pid: number }).pid).toBe(service.pid);
  });

  describe("reads documents, in a process without any variable,", () => {
    /** What its hidden command answers, and how the process ended. */
    const read = async ({ name, media_type, bytes }: Source, documentSecondsMax = 120) => {
      const limits = { documentSecondsMax, documentMemoryMibMax: 512, documentCharsMax: 50_000_000 };
      const request = JSON.stringify({ name, media_type, bytes: bytes.length, limits });
      const command = Bun.spawn([binary, "extract"], {
        cwd: emptyDirectory(),
        env: {},
        stdin: "pipe",
        stdout: "pipe",
        stderr: "pipe",
      });
      command.stdin.write(`${request}\n`);
      command.stdin.write(bytes);
      await command.stdin.flush();
      const decoder = new TextDecoder();
      let said = "";
      for await (const chunk of command.stdout) {
        said += decoder.decode(chunk, { stream: true });
        // It waits for another document until stdin ends.
        if (said.endsWith('{"ready":true}\n')) command.stdin.end();
      }
      await command.exited;
      const answers: unknown[] = said
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
      return { answers, stderr: await new Response(command.stderr).text() };
    };

    test.each([
      ["text", source("a.txt", "Hello"), "Hello", ""],
      ["Markdown", source("a.md", "# Title\n\nHello"), "# Title\n\nHello", "Title"],
      ["HTML", source("a.html", "<h1>Title</h1><p>Hello"), "Title\n\nHello", "Title"],
      [
        "PDF",
        source(
          "a.pdf",
          pdfWith([
            [
              { text: "Title", y: 740, size: 24 },
              { text: "A text of some words", y: 700 },
            ],
          ]),
        ),
        "Title\n\nA text of some words",
        "Title",
      ],
      ["DOCX", source("a.docx", docxOf(heading(1, "Title") + paragraph("Hello"))), "Title\n\nHello", "Title"],
      ["CSV", source("a.csv", "name,age\nAda,36"), "name: Ada; age: 36", ""],
      ["JSON", source("a.json", '{"name": "Ada"}'), "name: Ada", ""],
    ])("%s", async (_kind, document, text, heading) => {
      const { answers, stderr } = await read(document);
      expect(stderr).toBe("");
      expect(answers).toMatchObject([
        { text },
        { passages: [{ start: 0, end: text.length, heading }] },
        { done: {} },
        { ready: true },
      ]);
    });

    test("within its bounds of time and memory", async () => {
      const refusal = (detail: string) => [{ error: { code: "document_unreadable", detail } }];
      expect((await read(endlessDocument(), 1)).answers).toEqual(
        refusal("The document takes more than 1 s to read."),
      );
      expect((await read(source("a.pdf", pdfBomb()))).answers).toEqual(
        refusal("The document takes more than 512 MiB of memory to read."),
      );
    });
  });

  test("backs up and restores, exports and imports", async () => {
    const cwd = emptyDirectory();
    await using service = await startBinary(cwd);
    // Nothing is drawn from it in the background.
    await service.post<Chat>("/v1/chat", { ...chat, use_memory: false });
    await Bun.write(join(cwd, "backup.db"), await service.fetch("/v1/admin/backup", { method: "POST" }));
    const run = (dataDir: string, ...args: string[]): string => {
      const { exitCode, stdout, stderr } = Bun.spawnSync([binary, ...args], {
        cwd,
        env: { PARLEY_DATA_DIR: dataDir },
      });
      expect([exitCode, stderr.toString()]).toEqual([0, ""]);
      return stdout.toString();
    };
    run("restored", "restore", "backup.db");
    run(service.dataDir, "export", "all.jsonl");
    run("moved", "import", "all.jsonl");
    const all = await Bun.file(join(cwd, "all.jsonl")).text();
    expect(all).toContain(chat.message);
    expect([run("restored", "export"), run("moved", "export")]).toEqual([all, all]);
  });

  test("moves its data to PostgreSQL, and serves it from there", async () => {
    const cwd = emptyDirectory();
    const env = { DATABASE_URL: await newDatabase() };
    await using service = await startBinary(cwd);
    const { body } = await service.post<Chat>("/v1/chat", chat);
    await service.stop();
    const moving = Bun.spawn([binary, "migrate", "--from", `sqlite:${service.dataDir}`], {
      cwd,
      env,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    expect([await moving.exited, await new Response(moving.stderr).text()]).toEqual([0, ""]);
    expect(await new Response(moving.stdout).text()).toMatch(
      /^messages +2 +([0-9a-f]{16}) +2 +\1$.*^done: /ms,
    );
    await using there = await startBinary(cwd, { env });
    const kept = await there.get<{ messages: { content: string }[] }>(
      `/v1/conversations/${body.conversation_id}`,
    );
    expect(kept.body.messages.map(({ content }) => content)).toEqual([chat.message, body.response]);
  });

  test("has the commands", async () => {
    await using service = await startBinary(emptyDirectory());
    const run = async (...args: string[]) => {
      const command = Bun.spawn([binary, ...args], {
        cwd: emptyDirectory(),
        env: { PORT: String(service.port), PATH: "", PARLEY_DATA_DIR: service.dataDir },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      });
      return { stdout: await new Response(command.stdout).text(), exitCode: await command.exited };
    };
    expect(await run("version")).toEqual({ exitCode: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
    expect(await run("health")).toEqual({ exitCode: 0, stdout: expect.stringContaining("healthy") });
    expect((await run("config")).stdout).toContain(`PORT=${service.port}\n`);
    expect((await run("sing")).exitCode).toBe(2);
    const said = await run("chat", "hello");
    expect(said).toEqual({ exitCode: 0, stdout: expect.stringContaining("No language model is configured") });
    const made = await run("keys", "create", "web");
    expect(made).toEqual({ exitCode: 0, stdout: expect.stringMatching(/^parley_/) });
    const headers = { authorization: `Bearer ${made.stdout.trim()}` };
    expect((await service.get("/v1/conversations", headers)).status).toBe(200);
    expect((await service.get("/v1/conversations")).status).toBe(401);
    expect(await service.stop()).toBe(0);
    expect((await run("health")).exitCode).toBe(1);
  });
});
