/**
 * Moving a data directory to PostgreSQL: begin or go on, copy table by table, compare both sides, finish. Nothing is
 * finished that isn't the same on both sides.
 */
import { createHash } from "node:crypto";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { AppError } from "../../../errors.ts";
import {
  type CheckedTable,
  isSame,
  type Moved,
  type MovedRow,
  type MovedTable,
  type MoveOptions,
  type MoveSource,
  type Position,
  type TableChecksum,
} from "../../moving.ts";
import { StorageUnusableError } from "../../unusable.ts";
import { Database } from "../database.ts";
import { indexes } from "./indexes.ts";
import {
  AtWorkTooError,
  add,
  begin,
  type Column,
  checksumIn,
  checksumOf,
  columnsOf,
  type Destination,
  finish,
  type Progress,
  proceed,
  progressOf,
} from "./target.ts";
import { canonical, canonicalRow, sent, storable } from "./values.ts";

/** What is sent at once, in UTF-16 code units; a row that is larger comes alone. */
const chunkCharsMax = 1024 * 1024;
const chunkRowsMax = 5_000;
/** A whole table is hashed by one query. */
const statementSecondsMax = 24 * 3600;
/** Tries in all, while no connection holds: each success counts anew. */
/** No step takes as long. */
const restMs = 3_000;
const triesMax = 8;
const retryMs = 250;
/** Rows that are hashed before anything else gets its turn. */
const rowsAtOnce = 1_000;

interface Target extends MovedTable {
  destination: Destination;
  /** A row as it is sent. */
  toSent(row: MovedRow): MovedRow;
  compared: readonly Column[];
}

/**
 * @param url `postgres://user:password@host:port/database`, which no error tells
 * @throws StorageUnusableError
 */
export async function moveToPostgres(source: MoveSource, url: string, options: MoveOptions): Promise<Moved> {
  const database = new Database(url, {
    connectionsMax: 2,
    waitingMax: 1_000,
    statementSecondsMax,
    waitSecondsMax: 10,
    // The last commit waits for the disk, and with it all before.
    settings: { application_name: "parley migrate", synchronous_commit: "off" },
  });
  try {
    const begun = await telling("", () => begin(database, source, options.restart));
    if (begun === null) return { already: true, resumed: false, tables: [], repaired: 0 };
    return await telling(". What was moved is kept: the same command goes on", async () => {
      const work = new Work(source, database, options, await targetsOf(source, database));
      await work.copyAll(begun.progress);
      const tables = await work.checkAll();
      if (source.hasChanged()) {
        throw new StorageUnusableError("the data was changed while it was moved: begin again with --restart");
      }
      if (tables.every(isSame)) await finish(database, source);
      return { already: false, resumed: begun.resumed, tables, repaired: work.repaired };
    });
  } finally {
    await database.close();
  }
}

/** Says in a line what the database or the way to it does wrong. @param then what comes of it */
async function telling<T>(then: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    const why = cause.cause instanceof Error ? cause.cause.message : String(cause.cause);
    throw new StorageUnusableError(`the database can't be used: ${why}${then}`, { cause });
  }
}

async function targetsOf(source: MoveSource, database: Database): Promise<Target[]> {
  const targets: Target[] = [];
  for (const table of source.tables) {
    const { name } = table;
    const index = indexes[name];
    if (index !== undefined) {
      const { sent, call, ...rest } = index;
      targets.push({ ...table, ...rest, destination: { name, sent, call } });
      continue;
    }
    const there = await columnsOf(database, name);
    const sent = table.columns.map((column) => {
      const found = there.find((each) => each.name === column);
      if (found === undefined) throw new Error(`nothing takes ${name}.${column}`);
      return found;
    });
    targets.push({ ...table, compared: sent, toSent: (row) => row, destination: { name, sent, call: null } });
  }
  return targets;
}

class Work {
  /** Values that no PostgreSQL takes as they were; counted while they are compared, once. */
  repaired = 0;
  #done = 0;
  readonly #all: number;

  constructor(
    readonly source: MoveSource,
    readonly database: Database,
    readonly options: MoveOptions,
    readonly targets: readonly Target[],
  ) {
    // Each row is copied, and compared.
    this.#all = 2 * targets.reduce((sum, { rows }) => sum + rows, 0);
  }

  /** Copies what is missing, also when connections are lost meanwhile. */
  async copyAll(progress: Progress): Promise<void> {
    let at = progress;
    for (let tries = 1; ; tries++) {
      const before = JSON.stringify(at);
      try {
        return await this.#copyFrom(at);
      } catch (error) {
        if (error instanceof AtWorkTooError) {
          at = await this.#whereItRests(error);
          continue;
        }
        if (!(error instanceof AppError && error.code === "storage_unavailable")) throw error;
        if (tries === triesMax) throw error;
        await sleep(retryMs * 2 ** tries, undefined, { signal: this.options.signal });
        // Nobody knows whether the last commit came through.
        at = await progressOf(this.database);
        if (JSON.stringify(at) !== before) tries = 0;
      }
    }
  }

  /** The step may have been the last one of a run that was killed: whoever lives takes another one soon. */
  async #whereItRests(error: AtWorkTooError): Promise<Progress> {
    const before = await progressOf(this.database);
    await sleep(restMs, undefined, { signal: this.options.signal });
    const at = await progressOf(this.database);
    if (JSON.stringify(at) !== JSON.stringify(before)) throw error;
    return at;
  }

  async #copyFrom(progress: Progress): Promise<void> {
    const first =
      progress.table === null
        ? this.targets.length
        : this.targets.findIndex(({ name }) => name === progress.table);
    if (first < 0)
      throw new StorageUnusableError(
        "another version of Parley has begun this migration: go on with that one, or begin again with --restart",
      );
    this.#done = this.targets.slice(0, first).reduce((sum, { rows }) => sum + rows, 0);
    let at = progress;
    for (const [index, table] of this.targets.entries()) {
      if (index < first) continue;
      at = await this.#copy(table, at);
      const next = { table: this.targets[index + 1]?.name ?? null, position: null };
      await proceed(this.database, at, next);
      at = next;
    }
  }

  async #copy(table: Target, progress: Progress): Promise<Progress> {
    let at = progress;
    let sending: Promise<void> = Promise.resolve();
    // The next chunk is made while the last one is stored.
    for (const chunk of chunksOf(this.source, table, positionFrom(progress.position))) {
      await sending;
      this.options.signal.throwIfAborted();
      const to = { table: table.name, position: positionTo(chunk.last) };
      sending = add(this.database, table.destination, chunk.rows, at, to);
      sending.catch(() => {});
      at = to;
      this.#progress(chunk.count);
      await setImmediate();
    }
    await sending;
    return at;
  }

  async checkAll(): Promise<CheckedTable[]> {
    const checked: CheckedTable[] = [];
    for (const table of this.targets) {
      this.options.signal.throwIfAborted();
      const there = checksumIn(this.database, table.name, table.compared);
      there.catch(() => {});
      const source = await this.#checksumOf(table);
      checked.push({ name: table.name, source, target: await there });
    }
    return checked;
  }

  async #checksumOf(table: Target): Promise<TableChecksum> {
    let sum = 0n;
    let rows = 0;
    for (const row of this.source.rows(table.name, null)) {
      const text = canonicalRow(
        table.compared.map(({ name, type }) => {
          const value = storable(type, row[name]!);
          if (typeof value === "string" && value !== row[name]) this.repaired++;
          return canonical(type, value);
        }),
      );
      sum += createHash("sha256").update(text).digest().readBigInt64BE(0);
      if (++rows % rowsAtOnce === 0) {
        this.#progress(rowsAtOnce);
        await setImmediate();
        this.options.signal.throwIfAborted();
      }
    }
    this.#progress(rows % rowsAtOnce);
    return { rows, checksum: checksumOf(sum) };
  }

  #progress(rows: number): void {
    this.#done += rows;
    this.options.onProgress(this.#all === 0 ? 1 : Math.min(1, this.#done / this.#all));
  }
}

interface Chunk {
  rows: string;
  count: number;
  last: Position;
}

function* chunksOf(source: MoveSource, table: Target, after: Position | null): Iterable<Chunk> {
  let parts: string[] = [];
  let chars = 0;
  let last: Position = [];
  const chunk = (): Chunk => ({ rows: `[${parts.join(",")}]`, count: parts.length, last });
  for (const row of source.rows(table.name, after)) {
    const part = sentRow(table, row);
    if (parts.length > 0 && (chars + part.length > chunkCharsMax || parts.length === chunkRowsMax)) {
      yield chunk();
      parts = [];
      chars = 0;
    }
    parts.push(part);
    chars += part.length;
    last = table.key.map((column) => row[column] as string | bigint);
  }
  if (parts.length > 0) yield chunk();
}

function sentRow({ name: table, destination, toSent }: Target, row: MovedRow): string {
  const values = toSent(row);
  const members = destination.sent.map(({ name, type }) => {
    try {
      return `"${name}":${sent(type, storable(type, values[name]!))}`;
    } catch (cause) {
      throw new StorageUnusableError(`a row of ${table} is damaged: ${name} holds no JSON`, { cause });
    }
  });
  return `{${members.join(",")}}`;
}

const positionTo = (position: Position): string =>
  JSON.stringify(position.map((value) => (typeof value === "bigint" ? { n: String(value) } : value)));

function positionFrom(text: string | null): Position | null {
  if (text === null) return null;
  return (JSON.parse(text) as (string | { n: string })[]).map((value) =>
    typeof value === "string" ? value : BigInt(value.n),
  );
}
