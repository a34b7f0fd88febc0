/** Looks at the database of DATABASE_URL without changing it, beside running services too. */
import { AppError } from "../../errors.ts";
import type { ServerFacts, ServerInspection } from "../inspection.ts";
import { Database } from "./database.ts";
import { sqlStateOf } from "./faults.ts";
import { migrationLock } from "./migrate.ts";
import { migrations } from "./migrations.ts";

/** So long a notification may take that goes from one connection to another. */
const heardMsMax = 2_000;

type Looked = Omit<ServerFacts, "newest" | "hasKeys" | "version" | "hearsNotifications" | "connections"> & {
  isOurs: boolean;
  connectionsMax: number;
  connectionsTaken: number;
};

/** Never throws. What it tells holds nothing of the URL but what the server says itself. */
export async function inspectServer(url: string, secondsMax: number): Promise<ServerInspection> {
  // As a service connects: what stands between may refuse that.
  const database = new Database(url, {
    connectionsMax: 2,
    waitingMax: 16,
    statementSecondsMax: secondsMax,
    waitSecondsMax: secondsMax,
  });
  try {
    return await look(database);
  } catch (error) {
    if (error instanceof AppError && error.cause === "no connection could be made") {
      return { unreached: `it hasn't answered within ${secondsMax} s`, sqlState: null };
    }
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const unreached = cause instanceof Error ? cause.message : String(cause);
    return { unreached, sqlState: sqlStateOf(cause) };
  } finally {
    await database.close();
  }
}

async function look(database: Database): Promise<ServerFacts> {
  const sentMs = Date.now();
  const { nowMs } = (await database.row<{ nowMs: number }>(
    `select extract(epoch from clock_timestamp())::float8 * 1000 as "nowMs"`,
  ))!;
  const clockAheadMs = nowMs - (sentMs + Date.now()) / 2;
  const { isOurs, connectionsMax, connectionsTaken, ...facts } = (await database.row<Looked>(lookedAt, {
    lock: migrationLock,
  }))!;
  const version = isOurs
    ? await database.row<{ version: number }>("select version from schema_version")
    : null;
  const keys = isOurs
    ? await database.row<{ hasKeys: boolean }>(`select exists (select from keys) as "hasKeys"`)
    : null;
  return {
    ...facts,
    clockAheadMs,
    version: version?.version ?? null,
    newest: migrations.length,
    hasKeys: keys?.hasKeys ?? false,
    connections: { max: connectionsMax, taken: connectionsTaken },
    hearsNotifications: await hearsNotifications(database),
  };
}

/** What a superuser alone may take isn't counted. */
const lookedAt = `
  with ours as (select to_regclass('schema_version') is not null as ours)
  select current_setting('server_version') as "serverVersion",
    current_setting('server_version_num')::int4 / 10000 as "serverMajor",
    current_setting('server_encoding') as encoding,
    pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as "isReadOnly",
    ours as "isOurs",
    not ours and exists (select from pg_tables where schemaname = current_schema()) as "isOthers",
    exists (select from pg_locks l join pg_database d on d.oid = l.database
      where l.locktype = 'advisory' and d.datname = current_database() and l.classid = 0 and l.objid = $lock::int8::oid)
      as "isMigrating",
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) as "mayCreateTables",
    array(select relname::text from pg_class
      where ours and relnamespace = current_schema()::regnamespace and relkind = 'r' and not (
        has_table_privilege(oid, 'SELECT') and has_table_privilege(oid, 'INSERT')
        and has_table_privilege(oid, 'UPDATE') and has_table_privilege(oid, 'DELETE'))
      order by 1) as "forbiddenTables",
    least(
      current_setting('max_connections')::int4 - current_setting('superuser_reserved_connections')::int4
        - coalesce(current_setting('reserved_connections', true)::int4, 0),
      (select nullif(datconnlimit, -1) from pg_database where datname = current_database()),
      (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user)) as "connectionsMax",
    -- Not this one.
    (select count(*)::int4 - 1 from pg_stat_activity where backend_type = 'client backend') as "connectionsTaken"
  from ours`;

/** A pooler that gives connections away between transactions doesn't bring them. */
async function hearsNotifications({ sql }: Database): Promise<boolean> {
  const channel = `parley_doctor_${crypto.randomUUID().replaceAll("-", "")}`;
  const heard = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => heard.resolve(false), heardMsMax);
  try {
    const listening = await sql.listen(channel, () => heard.resolve(true));
    await sql.notify(channel, "");
    const isHeard = await heard.promise;
    await listening.unlisten();
    return isHeard;
  } finally {
    clearTimeout(timer);
  }
}
