/** What the tests of `parley migrate` share. */
import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { BudgetView } from "../../src/limits/schema.ts";
import type { Moved, MoveOptions } from "../../src/storage/moving.ts";
import { moveToPostgres } from "../../src/storage/postgres/moving/move.ts";
import { openForWriting } from "../../src/storage/sqlite/database.ts";
import { indexedMessage } from "../../src/storage/sqlite/indexed.ts";
import { openMoveSource } from "../../src/storage/sqlite/move-source.ts";
import { startEmbeddingServer } from "./embedding-server.ts";
import { ask } from "./keeping.ts";
import { adminKey, bearer, guardedEnv, makeKey } from "./keys.ts";
import { addDocument } from "./library.ts";
import { untilRemembered } from "./memories.ts";
import { startModelServer } from "./model-server.ts";
import { runParley, serviceEnv, startService, until } from "./service.ts";
import { untilEmbedded } from "./vectors.ts";

/** Runs `parley migrate` to its end. */
export const migrate = (dataDir: string, url: string, ...more: string[]) =>
  runParley(["migrate", ...more], serviceEnv(dataDir, { env: { DATABASE_URL: url } }));

/** Starts it, for whoever kills it. */
export const startMigrate = (dataDir: string, url: string) =>
  Bun.spawn([process.execPath, "src/main.ts", "migrate"], {
    cwd: new URL("../..", import.meta.url).pathname,
    env: serviceEnv(dataDir, { env: { DATABASE_URL: url } }),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });

/** A run in this process. */
export async function moveHere(
  dataDir: string,
  url: string,
  options: Partial<MoveOptions> = {},
): Promise<Moved> {
  const source = openMoveSource(dataDir, () => {});
  const signal = new AbortController().signal;
  try {
    return await moveToPostgres(source, url, { restart: false, onProgress() {}, signal, ...options });
  } finally {
    source.close();
  }
}

/** The same, ended when all is copied and nothing compared. */
export async function copyOnly(dataDir: string, url: string): Promise<void> {
  const interruption = new AbortController();
  const half = (part: number): void => {
    if (part >= 0.5) interruption.abort(new Error("half of it is done"));
  };
  const run = moveHere(dataDir, url, { onProgress: half, signal: interruption.signal });
  await expect(run).rejects.toThrow("half of it is done");
}

/** Asks PostgreSQL. */
export async function askThere<Row>(url: string, query: string): Promise<Row[]> {
  await using sql = new Bun.SQL(url, { max: 1 });
  return [...(await sql.unsafe<Row[]>(query))];
}

/** Changes the database of a directory that nobody serves. */
export function change(dataDir: string, ...statements: string[]): void {
  using db = new Database(join(dataDir, "parley.db"));
  for (const sql of statements) db.run(sql);
}

export const done = "done: all is there and the same on both sides";

/** Of SQLite alone: the full-text indexes, whose texts are in other tables, and what belongs to them. */
const indexTables = /^(message_index|title_words|passage_index|sqlite_)/;
const ownColumns = ["document_revisions.scope"];

export interface Difference {
  table: string;
  source: unknown[];
  target: unknown[];
}

/** Where the rows of both sides differ: all tables and columns of SQLite are read, and compared by their names. */
export async function differencesOf(dataDir: string, url: string): Promise<Difference[]> {
  await using sql = new Bun.SQL(url, { max: 1 });
  using db = new Database(join(dataDir, "parley.db"), { readonly: true });
  const tables = db
    .query<{ name: string }, []>("select name from sqlite_schema where type = 'table' order by name")
    .all()
    .map(({ name }) => name)
    .filter((name) => !indexTables.test(name));
  const differences: Difference[] = [];
  for (const table of tables) {
    const target = (await sql.unsafe<{ row: Row }[]>(`select row_to_json(t) as row from "${table}" t`)).map(
      ({ row }) => row,
    );
    const source = db.query<Row, []>(`select * from "${table}"`).all();
    const expected = inOrder(source.filter((row) => !isOwn(table, row)).map((row) => plainRow(table, row)));
    const found = inOrder(
      target.filter(({ name }) => name !== "moved_from").map((row) => plainRow(table, row)),
    );
    // Columns that PostgreSQL alone has are no matter.
    const columns = Object.keys(expected[0] ?? {});
    const there = found.map((row) => Object.fromEntries(columns.map((column) => [column, row[column]])));
    if (found.length !== expected.length || !isDeepStrictEqual(there, expected)) {
      differences.push({ table, source: expected, target: there });
    }
  }
  return differences;
}

type Row = Record<string, unknown>;

const isOwn = (table: string, { name }: Row): boolean =>
  table === "settings" && String(name).startsWith("uncleaned ");

/** A row as both sides can be told: booleans are 0 and 1, JSON parsed, bytes hex, times seconds. */
function plainRow(table: string, row: Row): Row {
  const entries = Object.entries(row).filter(([column]) => !ownColumns.includes(`${table}.${column}`));
  const plain = Object.fromEntries(entries.map(([column, value]) => [column, plainValue(value)]));
  // Nobody runs it any more.
  if (table === "turns" && row.status === "running") plain.lease_until = 0;
  return plain;
}

function plainValue(value: unknown): unknown {
  if (typeof value === "boolean") return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (typeof value !== "string") return value;
  if (/^([01]{8})+$/.test(value))
    return Buffer.from(value.match(/.{8}/g)!.map((byte) => Number.parseInt(byte, 2))).toString("hex");
  if (/^\\x[0-9a-f]*$/.test(value)) return value.slice(2);
  if (/^\d{4}-\d\d-\d\dT[\d:]{8}\+00:00$/.test(value)) return Date.parse(value) / 1000;
  if (/^[[{]/.test(value)) return JSON.parse(value);
  return value;
}

const inOrder = (rows: Row[]): Row[] =>
  rows
    .map((row) => ({
      row,
      key: JSON.stringify([row.n, ...Object.values(row).filter((v) => typeof v !== "object")].slice(0, 9)),
    }))
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ row }) => row);

export interface Filled {
  dataDir: string;
  /** One that ran when its service was killed, with this much of its reply. */
  running: { id: string; text: string };
  conversations: string[];
  /** A key's text and id. */
  key: { key: string; id: string };
  /** The upload that nobody has read yet. */
  upload: Uint8Array;
  uploadOf: string;
}

/** A data directory with everything that a service keeps, made by one over HTTP and killed in the middle of a turn. */
export async function fillDataDir(dataDir: string): Promise<Filled> {
  const conversations: string[] = [];
  const auth = bearer(adminKey);
  const embeddings = startEmbeddingServer();
  let key: Filled["key"];
  {
    const env = { ...guardedEnv, PARLEY_EMBEDDING_MODEL: `small@${embeddings.url}` };
    await using service = await startService({ dataDir, env });
    key = await makeKey(service, { name: "Zürich's own", workspace: "zurich" });
    const document = { name: "handbook.md", metadata: { lang: "en", 分類: "規則" }, collection: "shop" };
    await addDocument(
      service,
      { ...document, text: "# Returns\n\nDevices may be returned within 30 days." },
      auth,
    );
    await addDocument(
      service,
      { ...document, text: "# Returns\n\nDevices may be returned within 60 days. 😀" },
      auth,
    );
    await addDocument(
      service,
      { name: "diary.md", text: "Ada's own boat is called Nelly.", user_id: "ada" },
      auth,
    );
    for (const [user_id, message, by] of [
      ["ada", "My name is Ada and I live in Zürich.", auth],
      ["ada", "When may devices be returned?", auth],
      ["bob", "東京は日本の首都です。", bearer(key.key)],
    ] as const) {
      const headers = { ...by, "idempotency-key": `key-${conversations.length}` };
      const body = { user_id, message, metadata: { channel: "web" } };
      const answer = await service.post<{ conversation_id: string }>("/v1/chat", body, headers);
      if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
      conversations.push(answer.body.conversation_id);
    }
    await service.post("/v1/conversations", { user_id: "ada", title: 'Kept "apart"' }, auth);
    await service.send("PATCH", "/v1/users/ada/profile", { display_name: "Ada", language: "de-CH" }, auth);
    await service.post(
      "/v1/users/ada/memories",
      { text: "Her daughter Lena plays the cello.", slot: "daughter" },
      auth,
    );
    const limits = { tokens_day: 100_000, tokens_month: 2_000_000 };
    const budget = await service.send<BudgetView>("PUT", "/v1/budgets/users/ada", limits, auth);
    if (budget.status !== 200) throw new Error(JSON.stringify(budget.body));
    await untilRemembered(service);
    await untilEmbedded(service, { messages: 3, memories: 3, passages: 2 });
    await service.stop();
  }
  await embeddings.close();
  const model = startModelServer();
  const text = "The process will die";
  await using service = await startService({ dataDir, model, env: guardedEnv });
  model.reply(["A whole ", "reply."]);
  await service.post("/v1/chat", { user_id: "ada", message: "Hello" }, auth);
  const held = model.hold();
  held.send(text);
  const { body: turn } = await service.post<{ id: string }>(
    "/v1/turns",
    { user_id: "ada", message: "Cut me" },
    auth,
  );
  await held.request;
  await until("what it said is checkpointed", () => {
    const sql = "select content from messages where turn_id = ? and role = 'assistant'";
    return ask<{ content: string }>(join(dataDir, "parley.db"), sql, turn.id)[0]?.content === text;
  });
  await service.kill();
  await model.close();
  return { dataDir, running: { id: turn.id, text }, conversations, key, ...putUpload(dataDir) };
}

/** An upload that waits to be read, of several pieces, as a service that is killed leaves it. */
function putUpload(dataDir: string): { upload: Uint8Array; uploadOf: string } {
  const upload = Buffer.alloc(2_500_000, "An upload. ");
  upload.set(Array.from({ length: 256 }, (_, byte) => byte));
  const uploadOf = "rev_01a20eec-c7d5-7010-8bf8-6efaf2326bda";
  using db = new Database(join(dataDir, "parley.db"), { strict: true });
  db.run(
    `insert into document_revisions (id, document_n, version, status, scope, media_type, metadata, content_hash, bytes, progress, created_at)
     select ?, n, 9, 'processing', '', 'text/plain', '{}', 'none', ?, 0.1, 1 from documents limit 1`,
    [uploadOf, upload.length],
  );
  mkdirSync(join(dataDir, "uploads"), { recursive: true });
  writeFileSync(join(dataDir, "uploads", uploadOf), upload);
  return { upload, uploadOf };
}

/** Adds many turns to a database, of as many words each. */
export function addTurns(dataDir: string, turns: number, words: number): void {
  const db = openForWriting(dataDir);
  const run = (sql: string, ...values: (string | number)[]): void => {
    db.query<unknown, (string | number)[]>(sql).run(...values);
  };
  db.run("begin");
  const firstN = 1_000_000;
  run(
    "insert into users (n, workspace_id, user_id, created_at, updated_at) values (?, 'default', 'many', 1, 1)",
    firstN,
  );
  run(
    `insert into conversations (n, id, workspace_id, user_id, user_n, metadata, created_at, updated_at, last_active_ms)
     values (?, 'conv_many', 'default', 'many', ?, '{}', 1, 1, 1)`,
    firstN,
    firstN,
  );
  const message = `insert into messages (n, id, conversation_n, turn_id, seq, role, content, status, tokens, created_at)
    values (?, ?, ?, ?, ?, ?, ?, 'completed', 1, 1)`;
  for (let turn = 0; turn < turns; turn++) {
    const n = firstN + 2 * turn;
    for (const [at, role] of ["user", "assistant"].entries()) {
      const text = Array.from(
        { length: words },
        (_, word) => `w${(turn * 31 + word * word + at) % 5_000}`,
      ).join(" ");
      run(message, n + at, `msg_${n + at}`, firstN, `turn_${turn}`, n + at, role, text);
      const { scope, words: indexed, terms } = indexedMessage(firstN, text);
      run(
        "insert into message_index (rowid, scope, words, terms) values (?, ?, ?, ?)",
        n + at,
        scope,
        indexed,
        terms,
      );
    }
    run(
      `insert into turns (n, id, user_message_n, status, model, instance_id, lease_until, created_at)
       values (?, ?, ?, 'completed', 'none', 'inst_gone', 1, 1)`,
      n + 1,
      `turn_${turn}`,
      n,
    );
  }
  db.run("commit");
  db.close();
}
