/** What a data directory holds, for who moves it to another store: read in one transaction, under the directory's lock. */
import { Database, type SQLQueryBindings } from "bun:sqlite";
import { createHash } from "node:crypto";
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { MovedRow, MovedTable, MoveSource, Position } from "../moving.ts";
import { StorageUnusableError } from "../unusable.ts";
import { refuseUnknown } from "./backup.ts";
import { busyMs, databaseFile, openForWriting } from "./database.ts";
import { lockUnservedDir } from "./lock.ts";
import { migrations } from "./migrations.ts";
import { type Upgrade, versionOf } from "./upgrade.ts";
import { uploadsDirectory } from "./uploads.ts";

interface Step {
  table: string;
  key: readonly string[];
  /** A query in place of the table, with the columns of the target's. */
  from?: string;
  where?: string;
  /** Columns that hold something else there. */
  instead?: Readonly<Record<string, string>>;
  /** Columns that are of use to SQLite alone. */
  without?: readonly string[];
  derived?: true;
}

const byN = (table: string): Step => ({ table, key: ["n"] });

/** All tables, each after those that it points to. */
const steps: readonly Step[] = [
  { table: "workspaces", key: ["id"] },
  // Notes of what is still to be cleared from SQLite's files.
  { table: "settings", key: ["name"], where: "name not like 'uncleaned %'" },
  byN("users"),
  byN("conversations"),
  byN("messages"),
  byN("usage"),
  // Whoever ran a turn is dead: nobody is serving. Their leases lapsed long ago, and the first service ends those turns.
  { ...byN("turns"), instead: { lease_until: "case when status = 'running' then 0 else lease_until end" } },
  {
    table: "instances",
    key: ["id"],
    from: "select distinct instance_id as id, 0 as lease_until from turns where status = 'running'",
  },
  { table: "idempotency_keys", key: ["principal_id", "operation", "key"] },
  byN("memories"),
  byN("document_scopes"),
  byN("documents"),
  { ...byN("document_revisions"), without: ["scope"] },
  { table: "document_parts", key: ["revision_n", "start"] },
  byN("passages"),
  byN("vector_spaces"),
  { ...byN("message_vectors"), derived: true },
  { ...byN("memory_vectors"), derived: true },
  { ...byN("passage_vectors"), derived: true },
  byN("keys"),
  { table: "budgets", key: ["workspace_id", "scope", "subject"] },
  { table: "budget_counters", key: ["scope", "period"] },
  // The texts that the full-text index has, and whose recall may find them.
  {
    ...byN("message_index"),
    derived: true,
    from: `select i.rowid as n, i.scope <> '' as recallable, case when i.scope <> '' then c.user_n end as user_n, m.content
      from message_index i join messages m on m.n = i.rowid join conversations c on c.n = m.conversation_n`,
  },
  {
    ...byN("title_index"),
    derived: true,
    from: "select c.n, c.title from title_words w join conversations c on c.n = w.rowid where w.words <> ''",
  },
  {
    ...byN("passage_index"),
    derived: true,
    from: `select p.n, p.revision_n, p.heading, p.text from passages p join document_revisions r on r.n = p.revision_n
      where r.document_n is not null`,
  },
];

const uploads = {
  name: "uploads",
  columns: ["revision_n", "start", "bytes"],
  key: ["revision_n", "start"],
  derived: false,
};
/** So large is a piece of an upload at most. */
const uploadPieceBytes = 1024 * 1024;

/**
 * The directory that `--from` names: itself, or its database.
 * @throws StorageUnusableError where there is no database
 */
export function dataDirOf(path: string): string {
  const isFile = basename(path) === basename(databaseFile("")) && !existsSync(databaseFile(path));
  const dataDir = isFile ? dirname(path) : path;
  if (existsSync(databaseFile(dataDir))) return dataDir;
  throw new StorageUnusableError(
    `there is no parley.db in ${dataDir}: a backup is put in place by parley restore first`,
  );
}

/**
 * Locks a data directory and opens what is in it; an older database is brought to this version first, as a start would.
 * Nothing else is changed.
 * @throws StorageUnusableError, DataDirInUseError where a service runs
 */
export function openMoveSource(path: string, onUpgrade: (upgrade: Upgrade) => void): MoveSource {
  const dataDir = dataDirOf(path);
  const unlock = lockUnservedDir(dataDir);
  const opened: Database[] = [];
  const close = (): void => {
    for (const db of opened.splice(0).reverse()) db.close();
    unlock();
  };
  const open = (): Database => {
    const db = new Database(databaseFile(dataDir), { strict: true, readonly: true, safeIntegers: true });
    opened.push(db);
    db.run(`pragma busy_timeout = ${busyMs}`);
    return db;
  };
  try {
    upgradeOlder(dataDir, onUpgrade);
    const watcher = open();
    const versionOfData = () =>
      watcher.query<{ v: bigint }, []>("select data_version as v from pragma_data_version").get()!.v;
    const before = versionOfData();
    const db = open();
    db.run("begin");
    return { ...sourceOf(db, dataDir), hasChanged: () => versionOfData() !== before, close };
  } catch (error) {
    close();
    throw error;
  }
}

function upgradeOlder(dataDir: string, onUpgrade: (upgrade: Upgrade) => void): void {
  {
    using db = new Database(databaseFile(dataDir), { strict: true, readonly: true });
    db.run(`pragma busy_timeout = ${busyMs}`);
    refuseUnknown(db, databaseFile(dataDir));
    if (versionOf(db) === migrations.length) return;
  }
  openForWriting(dataDir, onUpgrade).close();
}

function sourceOf(db: Database, dataDir: string): Omit<MoveSource, "hasChanged" | "close"> {
  const files = uploadsOf(db, dataDir);
  const walks = new Map(steps.map((step) => [step.table, walkOf(db, step)]));
  const tables: MovedTable[] = steps.map((step) => {
    const { columns, from } = walks.get(step.table)!;
    const { rows } = db.query<{ rows: bigint }, []>(`select count(*) as rows from ${from}`).get()!;
    return { name: step.table, columns, key: step.key, rows: Number(rows), derived: step.derived ?? false };
  });
  // After the revisions that they are of.
  const place = 1 + tables.findIndex(({ name }) => name === "document_revisions");
  tables.splice(place, 0, { ...uploads, rows: files.reduce((sum, { pieces }) => sum + pieces, 0) });

  const settings = db
    .query<{ name: string; value: string }, []>("select name, value from settings order by name")
    .all();
  const secret = settings.find(({ name }) => name === "ticket_secret")?.value ?? "";
  const lasts = steps.map(({ table, key }) => last(db, walks.get(table)!.from, key));
  return {
    identity: hash("identity", secret),
    state: hash(
      "state",
      JSON.stringify([settings, tables, lasts], (_, value) =>
        typeof value === "bigint" ? String(value) : value,
      ),
    ),
    tables,
    rows: (table, after) =>
      table === uploads.name ? pieces(files, after) : rows(db, walks.get(table)!, after),
    lastNumber(table) {
      const row = db
        .query<{ seq: bigint }, [string]>("select seq from sqlite_sequence where name = ?")
        .get(table);
      return row?.seq ?? null;
    },
  };
}

interface Walk {
  columns: string[];
  /** What stands behind `from`. */
  from: string;
  query: string;
  key: readonly string[];
}

function walkOf(db: Database, { table, key, from, where, instead = {}, without = [] }: Step): Walk {
  const rows = from === undefined ? `"${table}"` : `(${from})`;
  const columns = db
    .prepare<unknown, []>(`select * from ${rows} limit 0`)
    .columnNames.filter((column) => !without.includes(column));
  const list = columns.map((column) =>
    instead[column] ? `${instead[column]} as "${column}"` : `"${column}"`,
  );
  const filtered = `${rows} where ${where ?? "true"}`;
  return { columns, key, from: filtered, query: `select ${list.join(", ")} from ${filtered}` };
}

function* rows(db: Database, { query, key }: Walk, after: Position | null): Iterable<MovedRow> {
  const names = key.map((column) => `"${column}"`).join(", ");
  const behind = after === null ? "" : ` and (${names}) > (${key.map(() => "?").join(", ")})`;
  using statement = db.prepare<MovedRow, SQLQueryBindings[]>(`${query}${behind} order by ${names}`);
  yield* statement.iterate(...(after ?? []));
}

function last(db: Database, from: string, key: readonly string[]): unknown {
  const names = key.map((column) => `"${column}" desc`).join(", ");
  return db
    .query<Record<string, unknown>, []>(
      `select ${key.map((column) => `"${column}"`).join(", ")} from ${from} order by ${names} limit 1`,
    )
    .get();
}

interface UploadFile {
  revision_n: bigint;
  path: string;
  pieces: number;
}

/** The uploads that wait to be processed; of one that is missing there is nothing to move. */
function uploadsOf(db: Database, dataDir: string): UploadFile[] {
  return db
    .query<{ n: bigint; id: string }, []>(
      "select n, id from document_revisions where status = 'processing' and document_n is not null order by n",
    )
    .all()
    .map(({ n, id }) => ({ revision_n: n, path: join(uploadsDirectory(dataDir), id) }))
    .filter(({ path }) => existsSync(path))
    .map((file) => ({ ...file, pieces: Math.ceil(Bun.file(file.path).size / uploadPieceBytes) }));
}

function* pieces(files: readonly UploadFile[], after: Position | null): Iterable<MovedRow> {
  const [afterN, afterStart] = (after ?? [-1n, -1n]).map(BigInt);
  for (const { revision_n, path } of files) {
    if (revision_n < afterN!) continue;
    const file = openSync(path, "r");
    try {
      const { size } = fstatSync(file);
      for (let start = 0; start < size; start += uploadPieceBytes) {
        if (revision_n === afterN && BigInt(start) <= afterStart!) continue;
        const bytes = Buffer.alloc(Math.min(uploadPieceBytes, size - start));
        readSync(file, bytes, 0, bytes.length, start);
        yield { revision_n, start: BigInt(start), bytes };
      }
    } finally {
      closeSync(file);
    }
  }
}

const hash = (...parts: string[]): string => createHash("sha256").update(parts.join("\0")).digest("hex");
