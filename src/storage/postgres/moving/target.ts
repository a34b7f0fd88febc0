/**
 * The database that is moved to. What has been moved and how far that is are committed together, in one row that is
 * there from the beginning to the end: a killed run is followed by one that goes on, and two at once can't both.
 */
import type { MoveSource, TableChecksum } from "../../moving.ts";
import { StorageUnusableError } from "../../unusable.ts";
import type { Database, Queries } from "../database.ts";
import { migrate, migrationLock } from "../migrate.ts";
import { type ColumnType, canonicalRowSql, columnTypes } from "./values.ts";

export interface Column {
  name: string;
  type: ColumnType;
}

/** How far the move is: all tables before this one are there, and of this one the rows up to the position. */
export interface Progress {
  /** Null when all are. */
  table: string | null;
  /** As JSON; null before the first row. */
  position: string | null;
}

/** The name under which the settings keep what was moved, when it was. */
const movedSetting = "moved_from";

/**
 * Prepares an empty database, or finds what a run before has begun.
 * @returns null where all of the source was moved here before, and nothing is to be done
 * @throws StorageUnusableError where it holds anything else
 */
export async function begin(
  database: Database,
  source: MoveSource,
  restart: boolean,
): Promise<{ progress: Progress; resumed: boolean } | null> {
  await migrate(database, { moving: restart ? "again" : "on" });
  return await database.transaction(async (queries) => {
    await queries.rows("select pg_advisory_xact_lock($lock::bigint)", { lock: migrationLock });
    await refuseUnfit(queries);
    const begun = await begunIn(queries);
    if (begun !== null && !restart) return { progress: refuseOther(begun, source), resumed: true };
    if (begun === null) {
      if (await wasMoved(queries, source)) return null;
      await refuseFilled(queries, source);
      await queries.rows(
        `create table migration_progress (
           source text not null, state text not null, table_name text, position text, indexes json not null);
         insert into migration_progress (source, state, indexes)
           select '', '', coalesce(json_agg(indexdef), '[]') from pg_indexes
           where schemaname = current_schema() and indexdef like '% USING gin %'`,
      );
      await dropSearchIndexes(queries);
    }
    // What the migrations have put in as well: the source has its own.
    const tables = source.tables.filter(({ derived }) => !derived);
    await queries.rows(`truncate ${tables.map(({ name }) => `"${name}"`).join(", ")} cascade`);
    const progress = { table: source.tables[0]!.name, position: null };
    await queries.rows(
      "update migration_progress set source = $source, state = $state, table_name = $table, position = null",
      { source: source.identity, state: source.state, table: progress.table },
    );
    return { progress, resumed: false };
  });
}

/** Made at the end, of all that is there then, they take a fourth of the time. */
async function dropSearchIndexes(queries: Queries): Promise<void> {
  const found = await queries.rows<{ name: string }>(
    "select indexname as name from pg_indexes where schemaname = current_schema() and indexdef like '% USING gin %'",
  );
  for (const { name } of found) await queries.rows(`drop index "${name}"`);
}

async function makeSearchIndexes(queries: Queries): Promise<void> {
  await queries.rows("set local maintenance_work_mem = '256MB'");
  const made = await queries.row<{ indexes: string[] }>("select indexes from migration_progress");
  for (const definition of made!.indexes) await queries.rows(definition);
}

interface Begun extends Progress {
  source: string;
  state: string;
}

async function begunIn(queries: Queries): Promise<Begun | null> {
  const there = await queries.row<{ there: boolean }>(
    "select to_regclass('migration_progress') is not null as there",
  );
  if (!there!.there) return null;
  return await queries.row<Begun>(
    "select source, state, table_name as table, position from migration_progress",
  );
}

const again = "or begin again with --restart, which throws away what was moved so far";

function refuseOther({ source, state, ...progress }: Begun, ours: MoveSource): Progress {
  if (source !== ours.identity) {
    throw new StorageUnusableError(
      `the database holds a part of another data directory, whose migration isn't finished: go on with that, ${again}`,
    );
  }
  if (state !== ours.state) {
    throw new StorageUnusableError(
      `the data was changed since its migration was begun: begin again with --restart, which throws away what was moved so far`,
    );
  }
  return progress;
}

async function refuseUnfit(queries: Queries): Promise<void> {
  const { encoding, others } = (await queries.row<{ encoding: string; others: number }>(
    `select current_setting('server_encoding') as encoding, (select count(*)::int4 from pg_stat_activity
       where datname = current_database() and application_name = 'parley') as others`,
  ))!;
  if (encoding !== "UTF8") {
    throw new StorageUnusableError(`the database's encoding is ${encoding}: make one with encoding UTF8`);
  }
  if (others > 0)
    throw new StorageUnusableError("a parley serve is connected to the database: stop it first");
}

async function wasMoved(queries: Queries, { state }: MoveSource): Promise<boolean> {
  const moved = await queries.row<{ value: string }>("select value from settings where name = $name", {
    name: movedSetting,
  });
  return moved?.value === state;
}

async function refuseFilled(queries: Queries, { tables }: MoveSource): Promise<void> {
  const own = ["workspaces", "settings"];
  for (const { name } of tables.filter(({ name, derived }) => !derived && !own.includes(name))) {
    const found = await queries.row(`select 1 as one from "${name}" limit 1`);
    if (found !== null) {
      throw new StorageUnusableError(
        `the database holds data of Parley already (${name}): a migration takes an empty one`,
      );
    }
  }
}

/** How far the move is. @throws StorageUnusableError where it isn't one any more */
export async function progressOf(queries: Queries): Promise<Progress> {
  const begun = await begunIn(queries);
  if (begun === null) throw new StorageUnusableError("another run has finished or removed this migration");
  return { table: begun.table, position: begun.position };
}

/** The columns of a table that are stored, and not computed from others. */
export async function columnsOf(database: Database, table: string): Promise<Column[]> {
  const columns = await database.rows<{ name: string; type: string }>(
    `select a.attname as name, t.typname as type from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = to_regclass($table) and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
     order by a.attnum`,
    { table: `"${table}"` },
  );
  return columns.map(({ name, type }) => {
    const known = columnTypes.find((each) => each === type);
    if (known === undefined)
      throw new Error(`${table}.${name} is of type ${type}, which nothing is moved to`);
    return { name, type: known };
  });
}

/** A table, and what is sent to it. */
export interface Destination {
  name: string;
  sent: readonly Column[];
  /** A call for each row, where it isn't inserted as it is. */
  call: string | null;
}

/**
 * Adds rows of a table and notes how far that is, in one statement.
 * @param rows an array of objects, as JSON
 * @throws AtWorkTooError where another run is at it as well
 */
export async function add(
  database: Database,
  { name, sent, call }: Destination,
  rows: string,
  from: Progress,
  to: Progress,
): Promise<void> {
  const columns = sent.map((column) => `"${column.name}"`).join(", ");
  const record = sent.map((column) => `"${column.name}" ${column.type}`).join(", ");
  const given = `json_to_recordset($rows::text::json) r (${record}), step`;
  const adding =
    call === null
      ? `with step as (${advance} returning 1), added as (insert into "${name}" (${columns}) select ${columns} from ${given})
         select 1 as one from step`
      : `with step as (${advance} returning 1) select count(*) as calls from (select ${call} as called from ${given}) c
         having (select count(*) from step) = 1`;
  const [step] = await database.change(adding, { rows, ...advanceBindings(from, to) });
  if (step === undefined) throw new AtWorkTooError();
}

/** Notes that a table is there. */
export async function proceed(database: Database, from: Progress, to: Progress): Promise<void> {
  const [step] = await database.change(`${advance} returning 1`, advanceBindings(from, to));
  if (step === undefined) throw new AtWorkTooError();
}

const advance = `update migration_progress set table_name = $to_table::text, position = $to_position::text
  where table_name is not distinct from $from_table::text and position is not distinct from $from_position::text`;

const advanceBindings = (from: Progress, to: Progress) => ({
  from_table: from.table,
  from_position: from.position,
  to_table: to.table,
  to_position: to.position,
});

/** Somebody else has taken the next step. */
export class AtWorkTooError extends StorageUnusableError {
  override readonly name = "AtWorkTooError";

  constructor() {
    super("another parley migrate is at work on the database");
  }
}

/** What a table holds. */
export async function checksumIn(
  database: Database,
  name: string,
  columns: readonly Column[],
): Promise<TableChecksum> {
  const sums = await database.row<{ rows: number; sum: string | null }>(
    `select count(*)::float8 as rows, sum(hash)::text as sum from (
       select ('x' || left(encode(sha256(convert_to(${canonicalRowSql(columns)}, 'UTF8')), 'hex'), 16))::bit(64)::int8 as hash
       from "${name}") hashes`,
  );
  return { rows: sums!.rows, checksum: checksumOf(BigInt(sums!.sum ?? 0)) };
}

/** @param sum of the first 64 bits of each row's SHA-256, as signed integers: in any order it is the same */
export const checksumOf = (sum: bigint): string => BigInt.asUintN(64, sum).toString(16).padStart(16, "0");

/** The database is as one that has always been served from, when nothing has moved meanwhile. */
export async function finish(database: Database, source: MoveSource): Promise<void> {
  await database.rows("analyze");
  await database.transaction(async (queries) => {
    await queries.rows("set local synchronous_commit = on");
    await queries.rows("select pg_advisory_xact_lock($lock::bigint)", { lock: migrationLock });
    await progressOf(queries);
    await makeSearchIndexes(queries);
    const identities = await queries.rows<{ name: string }>(
      `select c.relname as name from pg_attribute a join pg_class c on c.oid = a.attrelid
       where c.relnamespace = current_schema()::regnamespace and a.attname = 'n' and a.attidentity <> ''`,
    );
    for (const { name } of identities) {
      await queries.rows(
        `select setval(pg_get_serial_sequence('"${name}"', 'n'), greatest(last, 1), last > 0) from (
           select greatest(coalesce(max(n), 0), $given::int8) as last from "${name}") numbers`,
        { given: String(source.lastNumber(name) ?? 0n) },
      );
    }
    await queries.rows("insert into settings (name, value) values ($name, $value)", {
      name: movedSetting,
      value: source.state,
    });
    await queries.rows("drop table migration_progress");
  });
}
