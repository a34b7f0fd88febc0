/** Exports and imports between real services: all comes back, byte by byte, is found, and adds up. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ChatResponse, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import { startEmbeddingServer } from "../support/embedding-server.ts";
import { ask, exported, keep, leftIn } from "../support/keeping.ts";
import { addDocument, search, textOf } from "../support/library.ts";
import { allMemories, untilRemembered } from "../support/memories.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { databasesOfFile } from "../support/postgres.ts";
import {
  runParley,
  type Service,
  serviceEnv,
  startService,
  temporaryDirectory,
  testModel,
  until,
} from "../support/service.ts";
import { holdTurn, turnOf, untilEnded, wholeTurn } from "../support/turns.ts";
import { awayFromMidnight, countedIn, sumOf, totalsIn, usageOf, writePrices } from "../support/usage.ts";
import { untilEmbedded } from "../support/vectors.ts";

setDefaultTimeout(60_000);

const directory = temporaryDirectory();
const newDatabase = databasesOfFile();
const newDirectory = (): string => mkdtempSync(join(directory, "data-"));

let model: ModelServer;
let source: Service;
/** What it holds, while a turn runs. */
let lines: string;
const file = join(directory, "export.jsonl");
let running: Turn;
let handbook: string;
/** A conversation that was deleted: its row of the ledger is left. */
let deleted: string;
/** The ledger's sums when it was exported, by what they are grouped by. */
let sums: Sums;

interface Exported {
  type: string;
  [member: string]: unknown;
}
const recordsIn = (text: string): Exported[] =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Exported);

type Sums = Awaited<ReturnType<typeof sumsOf>>;

/** Sums over all but the turn that runs: where it is imported, it ends. */
async function sumsOf(service: Service) {
  const by = async (group: string) => (await usageOf(service, `?group_by=${group}&limit=100`)).usage;
  return {
    conversations: (await by("conversation")).filter(({ group }) => group !== running.conversation_id),
    users: (await by("user")).filter(({ group }) => group !== "bob"),
  };
}

type BudgetState = { limit: number; used: number; reserved: number; remaining: number };
const budgetOf = async (service: Service, user: string) =>
  (await service.get<{ states: BudgetState[] }>(`/v1/budgets/users/${user}`)).body;

/** A service with something of every kind. */
async function fill(service: Service): Promise<void> {
  const ada = { user_id: "ada" };
  const first = await wholeTurn(service, model, ["Zürich ", "liegt am See. 😀\n"], {
    ...ada,
    message: "My daughter Lena plays the cello. I live in Zurich.",
    metadata: { channel: "web", ключ: "“value”" },
  });
  const { conversation_id } = first;
  const again = (message: string, script: () => void, more = {}) => {
    script();
    return service.post<ChatResponse>("/v1/chat", { ...ada, conversation_id, message, ...more });
  };
  await again("長い文章を書いてください。", () =>
    model.reply(["東京は日本の首都です。"], { finish: "length" }),
  );
  await again("Something bad", () => model.reply(["I won"], { finish: "content_filter" }));
  await again("Fail", () => model.failAfter(2, { error: { message: "no", code: "insufficient_quota" } }));
  await again("Forget this secret: xylophone", () => model.reply(["Forgotten."]), { use_memory: false });
  const stopped = await holdTurn(service, model, "Until here ", {
    ...ada,
    conversation_id,
    message: "Stop me",
  });
  await service.post(`/v1/turns/${stopped.turn.id}/stop`, {});
  await untilEnded(service, stopped.turn.id);
  deleted = (await wholeTurn(service, model, ["Soon gone."], ada)).conversation_id;
  await service.send("DELETE", `/v1/conversations/${deleted}`);
  await wholeTurn(service, model, ["I forget you."], { user_id: "dora" });
  await service.send("DELETE", "/v1/users/dora");
  await service.send("PUT", "/v1/budgets/users/bob", { tokens_day: 1_000_000 });
  const bob = { user_id: "bob", title: "Bob's mountains" };
  const { body } = await service.post<Conversation>("/v1/conversations", bob);
  await wholeTurn(service, model, ["Hello, Bob."], { user_id: "bob", conversation_id: body.id });
  await service.post("/v1/conversations", { user_id: "bob" });
  await service.send("PATCH", "/v1/users/ada/profile", { language: "de-CH", metadata: { plan: "gold" } });
  await service.post("/v1/users/ada/memories", { text: "Ada likes tea.", kind: "preference" });
  await service.post("/v1/users/ada/memories", { text: "Ada lives in Bern.", slot: "home" });
  const long = Array.from(
    { length: 900 },
    (_, n) => `## Part ${n}\n\nAbout thing ${n}: 😀 it is number ${n}.\n`,
  );
  handbook = (
    await addDocument(service, {
      name: "handbook.md",
      text: `# Warranty\n\nThe Falcon drone has a warranty of three years.\n\n${long.join("\n")}`,
      collection: "guides",
      metadata: { lang: "en" },
    })
  ).id;
  await addDocument(service, { name: "notes.txt", text: "Ada keeps bees in the garden.", user_id: "ada" });
  await addDocument(service, { name: "notes.txt", text: "Ada keeps bees and hens.", user_id: "ada" });
  await untilRemembered(service);
  running = (await holdTurn(service, model, "half of it", { user_id: "bob", message: "What will happen?" }))
    .turn;
  await until("what it said is checkpointed", () => {
    const sql = "select content from messages where turn_id = ? and role = 'assistant'";
    return (
      ask<{ content: string }>(join(service.dataDir, "parley.db"), sql, running.id)[0]?.content ===
      "half of it"
    );
  });
}

beforeAll(async () => {
  await awayFromMidnight();
  model = startModelServer();
  const table = { [testModel]: { prompt: 0.25, completion: 2 } };
  source = await startService({ model, env: { PARLEY_PRICES_FILE: await writePrices(directory, table) } });
  await fill(source);
  sums = await sumsOf(source);
  lines = await exported(source.dataDir);
  writeFileSync(file, lines);
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  await model.close();
  rmSync(directory, { recursive: true, force: true });
});

describe("an export", () => {
  test("begins with its form, ends with its count, and has every kind of record in between", () => {
    const records = recordsIn(lines);
    expect(records[0]).toEqual({ type: "parley.export", version: 1 });
    expect(records.at(-1)).toEqual({ type: "end", records: records.length - 2 });
    const count = (type: string): number => records.filter((record) => record.type === type).length;
    const counts = ["workspace", "user", "conversation", "turn", "memory", "document", "budget"].map(count);
    expect(counts).toEqual([1, 2, 4, 8, 4, 2, 1]);
    const left = records.filter(({ type, kind }) => type === "ledger_entry" && kind === "turn");
    expect(left.map(({ user_id, conversation_id }) => [user_id, conversation_id])).toEqual([
      ["ada", deleted],
      [null, null],
    ]);
    // Of ada, bob, dora, the key and the workspace, each in a day and a month.
    expect(count("budget_counter")).toBeGreaterThanOrEqual(10);
    const statuses = records.filter(({ type }) => type === "turn").map(({ status }) => status);
    const each = ["completed", "truncated", "filtered", "failed", "stopped", "running"];
    expect([...new Set(statuses)].toSorted()).toEqual(each.toSorted());
  });

  test("holds no secret, nothing that is derived, and no idempotency key", async () => {
    const [{ value }] = ask<{ value: string }>(
      join(source.dataDir, "parley.db"),
      "select value from settings where name = 'ticket_secret'",
    ) as [{ value: string }];
    const key = { "idempotency-key": "a-key-of-a-client" };
    model.reply(["once"]);
    await source.post("/v1/chat", { user_id: "carol", message: "Hello" }, key);
    const now = await exported(source.dataDir);
    expect(now).toContain('"carol"');
    for (const secret of [value, "a-key-of-a-client", "idempotency", "vector", "stems"]) {
      expect(now).not.toContain(secret);
    }
    await source.send("DELETE", "/v1/users/carol");
    const after = await exported(source.dataDir);
    expect(after).not.toContain('"carol"');
    // What she took is counted under no name.
    const kept = (text: string) =>
      recordsIn(text).filter(({ type }) => !["ledger_entry", "budget_counter", "end"].includes(type));
    expect(kept(after)).toEqual(kept(lines));
  });

  test("to a file is readable by its owner alone, and takes no other's place unless told to", async () => {
    const path = join(directory, "file.jsonl");
    writeFileSync(path, "mine");
    const refused = await keep(source.dataDir, ["export", path]);
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      `parley: ${path} is there already: --force puts the export in its place\n`,
    ]);
    expect(await Bun.file(path).text()).toBe("mine");
    rmSync(path);
    expect(await keep(source.dataDir, ["export", path])).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    const now = await exported(source.dataDir);
    expect([await Bun.file(path).text(), statSync(path).mode & 0o777]).toEqual([now, 0o600]);
    expect(leftIn(directory)).toEqual([]);
  });

  test("holds nothing of who is being erased, or of what is", async () => {
    const dataDir = newDirectory();
    expect((await keep(dataDir, ["import", file])).exitCode).toBe(0);
    {
      // As a process that died in the middle leaves it.
      using db = new Database(join(dataDir, "parley.db"));
      db.run("update users set user_id = null, erased_user_id = user_id where user_id = 'ada'");
      db.run("update conversations set deleted = 1 where title = 'Bob''s mountains'");
    }
    const left = await exported(dataDir);
    const holds = (words: string[]): string[] => words.filter((word) => left.includes(word));
    expect(holds(['"ada"', "de-CH", "Lena", "bees", "mountains", "Hello, Bob.", deleted])).toEqual([]);
    // What they took is in it, under no name: each turn is there once, in one way or the other.
    const turns = recordsIn(left).filter(({ type, kind }) => type === "turn" || kind === "turn");
    expect(turns).toHaveLength(10);
    expect(holds(['"bob"', "half of it", "handbook.md"])).toHaveLength(3);
  });

  test("stops where nobody reads on", () => {
    const script = '"$0" src/main.ts export | head -c 20';
    const { stdout, stderr } = Bun.spawnSync(["bash", "-c", script, process.execPath], {
      env: serviceEnv(source.dataDir, {}),
    });
    expect([stdout.toString(), stderr.toString()]).toEqual(['{"type":"parley.expo', ""]);
  });

  test("leaves out documents that have no text yet, and says so", async () => {
    await using service = await startService({ env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
    const long = "Some words about nothing in particular. ".repeat(25_000);
    await service.post("/v1/documents", { name: "long.txt", text: long });
    await service.kill();
    const { stdout, stderr } = await keep(service.dataDir, ["export"]);
    expect(stderr).toBe("parley: documents that are still being processed are not in it: 1\n");
    expect(stdout).not.toContain("long.txt");
  });

  test("of a directory without a database, or with an older one, is refused in a line", async () => {
    const dataDir = newDirectory();
    const none = await keep(dataDir, ["export"]);
    expect([none.exitCode, none.stdout, none.stderr]).toEqual([
      1,
      "",
      `parley: there is no database in ${dataDir}\n`,
    ]);
    expect(readdirSync(dataDir)).toEqual([]);
    await Bun.write(
      join(dataDir, "parley.db"),
      Bun.file(new URL("../fixtures/databases/v1.db", import.meta.url)),
    );
    const old = await keep(dataDir, ["export"]);
    expect([old.exitCode, old.stdout]).toEqual([1, ""]);
    expect(old.stderr).toMatch(/is of an older version: start parley serve once, which upgrades it\n$/);
  });
});

/**
 * The words of an index, in no order: rows are others.
 * @param coded the columns whose words begin with a code, which is made of a row
 */
const indexOf = (dataDir: string, table: string, columns: string, coded: readonly string[]): string[] =>
  ask<Record<string, string | number>>(join(dataDir, "parley.db"), `select ${columns} from ${table}`)
    .map((row) =>
      JSON.stringify(row, (column, value) => (coded.includes(column) ? withoutCodes(value) : value)),
    )
    .filter((row) => row !== '{"words":""}')
    .toSorted();

const withoutCodes = (words: string): string =>
  words.replaceAll(/\S+/g, (word) => {
    const digits = Number(word[0]);
    if (!/^\d+$/.test(word.slice(0, 1 + digits))) throw new Error(`no code before ${word}`);
    return word.slice(1 + digits);
  });

describe("an import", () => {
  test("into a new directory gives the same export, byte by byte, also a second time", async () => {
    const dataDir = join(directory, "new", "data");
    const first = await keep(dataDir, ["import", file]);
    expect(first).toEqual({
      exitCode: 0,
      stdout:
        "imported: 2 users, 4 conversations with 8 turns, 4 memories, 2 documents, 2 ledger entries without a turn, 1 budgets; records that were there already: 0\n",
      stderr: "",
    });
    expect(await exported(dataDir)).toBe(lines);
    const again = await keep(dataDir, ["import", "-"], lines);
    expect([again.exitCode, again.stdout]).toEqual([
      0,
      `imported: 0 users, 0 conversations with 0 turns, 0 memories, 0 documents, 0 ledger entries without a turn, 0 budgets; records that were there already: ${recordsIn(lines).length - 2}\n`,
    ]);
    expect(await exported(dataDir)).toBe(lines);
  });

  test("into PostgreSQL gives the same export, byte by byte, and so does the way back", async () => {
    const env = { ...serviceEnv(directory, {}), DATABASE_URL: await newDatabase() };
    for (const there of [0, recordsIn(lines).length - 2]) {
      const { exitCode, stdout, stderr } = await runParley(["import", file], env);
      expect([exitCode, stderr]).toEqual([0, ""]);
      expect(stdout).toEndWith(`; records that were there already: ${there}\n`);
      const back = await runParley(["export"], env);
      expect(back).toEqual({ exitCode: 0, stdout: lines, stderr: "" });
    }
    await using sql = new Bun.SQL(env.DATABASE_URL, { max: 1 });
    const [indexed] = await sql`select (select count(*)::int from message_index) as messages,
      (select count(*)::int from title_index) as titles, (select count(*)::int from passage_index) as passages`;
    const rows = (sql: string): number =>
      ask<{ count: number }>(join(source.dataDir, "parley.db"), `select count(*) as count from ${sql}`)[0]!
        .count;
    expect(indexed).toEqual({
      messages: rows("message_index"),
      titles: rows("title_words where words <> ''"),
      passages: rows("passage_index"),
    });
  });

  test("makes the same indexes again, and all is served, found and gone on with", async () => {
    const dataDir = newDirectory();
    expect((await keep(dataDir, ["import", file])).exitCode).toBe(0);
    for (const [table, columns, coded] of [
      ["message_index", "words, terms, scope <> '' as found", ["terms"]],
      ["title_words", "words", []],
      ["passage_index", "heading, words, stems", ["heading", "words", "stems"]],
    ] as const) {
      const [then, now] = [source.dataDir, dataDir].map((dir) => indexOf(dir, table, columns, coded));
      expect(now).toEqual(then!);
    }
    await using service = await startService({ dataDir, env: { PARLEY_MEMORY: "on" } });
    const listed = await source.get<{ conversations: Conversation[] }>("/v1/conversations?limit=100");
    for (const { id } of listed.body.conversations) {
      const [then, now] = await Promise.all(
        [source, service].map((each) => each.get<Conversation>(`/v1/conversations/${id}`)),
      );
      if (id !== running.conversation_id) expect(now!.body).toEqual(then!.body);
    }
    expect(await turnOf(service, running.id)).toMatchObject({
      status: "interrupted",
      response: "half of it",
    });
    const found = async (q: string): Promise<string[]> => {
      const query = new URLSearchParams({ q });
      const { body } = await service.get<{ conversations: Conversation[] }>(`/v1/conversations?${query}`);
      return body.conversations.map(({ title }) => title ?? "");
    };
    expect(await found("mountains")).toEqual(["Bob's mountains"]);
    expect(await found("首都")).toHaveLength(1);
    expect(await allMemories(service)).toEqual(await allMemories(source));
    expect(await textOf(service, handbook)).toBe(await textOf(source, handbook));
    for (const [query, body] of [
      ["Falcon warranty", { collections: ["guides"], filter: { lang: "en" } }],
      ["thing 877", {}],
      ["bees and hens", { user_id: "ada" }],
    ] as const) {
      const [then, now] = await Promise.all([source, service].map((each) => search(each, query, body)));
      // Scores depend on how many rows there were, also of what is gone.
      expect(now![0]).toEqual({ ...then![0]!, score: expect.any(Number) });
    }
    expect(await search(service, "bees and hens", { user_id: "bob" })).toEqual([]);
    // What was said not to be remembered isn't recalled here either.
    const asked = (message: string) => service.post<ChatResponse>("/v1/chat", { user_id: "ada", message });
    expect((await asked("What about Lena and the cello?")).body.response).toContain("cello");
    expect((await asked("What about the xylophone?")).body.response).not.toContain("Forget this secret");
  });

  test("brings the ledger, whose sums are those of before and of the turns, and the budgets, of which nothing is reserved", async () => {
    const dataDir = newDirectory();
    expect((await keep(dataDir, ["import", file])).exitCode).toBe(0);
    expect(countedIn(source.dataDir).reserved_tokens).toBeGreaterThan(0);
    expect(countedIn(dataDir)).toMatchObject({ reserved_tokens: 0, reserved_nano_usd: 0 });
    await using service = await startService({ dataDir });
    await untilEnded(service, running.id);
    const left = [deleted, null];
    const gone = sums.conversations.filter(({ group }) => left.includes(group));
    expect(gone).toHaveLength(2);
    expect(sums.conversations.every(({ cost_usd }) => Number(cost_usd) > 0)).toBe(true);
    expect(await sumsOf(service)).toEqual(sums);
    const { usage } = await turnOf(service, running.id);
    const { ledger, turns, conversations } = totalsIn(dataDir);
    expect(turns.turns).toBe(8);
    expect(conversations).toBe(turns.total_tokens);
    const sumOfGone = (member: "turns" | "prompt_tokens" | "completion_tokens" | "total_tokens"): number =>
      gone.reduce((sum, row) => sum + row[member], 0);
    for (const member of ["turns", "prompt_tokens", "completion_tokens", "total_tokens"] as const) {
      expect([member, ledger[member]]).toEqual([member, turns[member] + sumOfGone(member)]);
    }
    // The turn that ran counts where it ended, and gives nothing back that was reserved elsewhere.
    const [then, now] = await Promise.all([source, service].map((each) => budgetOf(each, "bob")));
    const [state] = then!.states as [BudgetState];
    const used = state.used + usage.total_tokens;
    expect([state.used > 0, state.reserved > 0, usage.total_tokens > 0]).toEqual([true, true, true]);
    expect(now).toEqual({
      ...then!,
      states: [{ ...state, reserved: 0, used, remaining: state.limit - used }],
    });
    await service.stop();
    const before = await exported(dataDir);
    expect((await keep(dataDir, ["import", file])).exitCode).toBe(0);
    expect(await exported(dataDir)).toBe(before);
  });

  test("of a conversation that was deleted since counts it once", async () => {
    const dataDir = newDirectory();
    await keep(dataDir, ["import", file]);
    await using service = await startService({ dataDir });
    const { body } = await service.get<{ conversations: Conversation[] }>("/v1/conversations?user_id=ada");
    const [{ id }] = body.conversations as [Conversation];
    const then = await sumOf(service);
    await service.send("DELETE", `/v1/conversations/${id}`);
    const gone = "select id from conversations";
    await until("it is gone", () => ask(join(dataDir, "parley.db"), gone).length === 3);
    await service.stop();
    const { stdout } = await keep(dataDir, ["import", file]);
    expect(stdout).toStartWith("imported: 0 users, 1 conversations with 6 turns");
    await service.restart();
    expect(await sumOf(service)).toEqual(then);
  });

  test("leaves what is there as it is, and adds what isn't", async () => {
    await using service = await startService({ model });
    const own = await wholeTurn(service, model, ["mine"], { user_id: "ada", message: "My own" });
    await service.send("PATCH", "/v1/users/ada/profile", { display_name: "Ada L." });
    await service.stop();
    const { exitCode, stdout } = await keep(service.dataDir, ["import", file]);
    expect(exitCode).toBe(0);
    expect(stdout).toStartWith("imported: 1 users, 4 conversations with 8 turns");
    await service.restart();
    expect((await turnOf(service, own.turn_id)).response).toBe("mine");
    const profile = await service.get<{ display_name: string; language: null }>("/v1/users/ada/profile");
    expect(profile.body).toMatchObject({ display_name: "Ada L.", language: null });
    const { body } = await service.get<{ conversations: unknown[] }>("/v1/conversations?user_id=ada");
    expect(body.conversations).toHaveLength(2);
  });

  test("leaves a conversation that went on since as it is", async () => {
    const dataDir = newDirectory();
    await keep(dataDir, ["import", file]);
    await using service = await startService({ model, dataDir });
    const { body } = await service.get<{ conversations: Conversation[] }>("/v1/conversations?q=mountains");
    await wholeTurn(service, model, ["on"], { user_id: "bob", conversation_id: body.conversations[0]!.id });
    await service.stop();
    const before = await exported(dataDir);
    expect((await keep(dataDir, ["import", file])).exitCode).toBe(0);
    expect(await exported(dataDir)).toBe(before);
  });

  test("is refused while a service runs", async () => {
    const { exitCode, stdout, stderr } = await keep(source.dataDir, ["import", file]);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toBe(
      `parley: ${source.dataDir} is in use, by a parley serve, restore or import: stop it first\n`,
    );
    expect((await source.get("/ready")).status).toBe(200);
  });

  test("gets vectors when it is served with an embedding model", async () => {
    const dataDir = newDirectory();
    await keep(dataDir, ["import", file]);
    const embeddings = startEmbeddingServer();
    await using service = await startService({
      dataDir,
      env: { PARLEY_EMBEDDING_MODEL: `some-model@${embeddings.url}` },
    });
    const held = (await allMemories(service)).filter(({ superseded_by }) => superseded_by === null);
    await untilEmbedded(service, { memories: held.length }, "ada");
    await embeddings.close();
  });

  test("that is killed in the middle has changed nothing", async () => {
    const dataDir = newDirectory();
    const importing = Bun.spawn([process.execPath, "src/main.ts", "import", "-"], {
      env: serviceEnv(dataDir, {}),
      stdin: "pipe",
    });
    importing.stdin.write(lines.slice(0, lines.lastIndexOf("\n{")));
    await importing.stdin.flush();
    const path = join(dataDir, "parley.db");
    await until("the database is there", () => {
      try {
        return ask(path, "select 1 from sqlite_schema where name = 'conversations'").length > 0;
      } catch {
        return false;
      }
    });
    importing.kill("SIGKILL");
    await importing.exited;
    expect(recordsIn(await exported(dataDir)).map(({ type }) => type)).toEqual([
      "parley.export",
      "workspace",
      "end",
    ]);
    expect((await keep(dataDir, ["import", file])).exitCode).toBe(0);
    expect(await exported(dataDir)).toBe(lines);
  });
});
