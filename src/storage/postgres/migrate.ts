/** Bringing a database to the newest version, once, however many instances start at the same time. */
import { StorageUnusableError } from "../unusable.ts";
import type { Database } from "./database.ts";
import { migrations } from "./migrations.ts";

/** Any number, the same for all instances: whom PostgreSQL lets migrate, the others wait for. */
export const migrationLock = 7_370_001;

export interface Migrated {
  from: number;
  to: number;
}

/**
 * Applies the migrations that a database lacks, in one transaction; null where it has them all.
 * @param moving whether it is for who moves data here (moving/move.ts), on with what was begun or again
 * @throws StorageUnusableError where a newer Parley or another program wrote it, or a part of a data directory alone was
 * moved to it; it is then as it was
 */
export function migrate(
  database: Database,
  { moving = null }: { moving?: "on" | "again" | null } = {},
): Promise<Migrated | null> {
  return database.transaction(async ({ rows, row }) => {
    await rows("set local statement_timeout = 0");
    await rows("select pg_advisory_xact_lock($lock::bigint)", { lock: migrationLock });
    const { ours, begun, tables } = (await row<{ ours: boolean; begun: boolean; tables: number }>(
      `select to_regclass('schema_version') is not null as ours,
         to_regclass('migration_progress') is not null as begun,
         (select count(*)::int4 from pg_tables where schemaname = current_schema()) as tables`,
    ))!;
    if (!ours && tables > 0) {
      throw new StorageUnusableError(
        "the database of DATABASE_URL holds another program's tables: give Parley one of its own",
      );
    }
    if (begun && moving === null) {
      throw new StorageUnusableError(
        "only a part of the data was moved to the database of DATABASE_URL so far: run parley migrate again, until it says that all is there",
      );
    }
    if (!ours) {
      await rows("create table schema_version (version integer not null)");
      await rows("insert into schema_version values (0)");
    }
    const from = (await row<{ version: number }>("select version from schema_version"))!.version;
    const to = migrations.length;
    if (from > to) {
      throw new StorageUnusableError(
        `the database of DATABASE_URL is of version ${from}, this Parley knows ${to}: use a newer one`,
      );
    }
    if (from === to) return null;
    if (begun && moving === "on") {
      throw new StorageUnusableError(
        "another version of Parley has begun this migration: go on with that one, or begin again with --restart",
      );
    }
    for (const sql of migrations.slice(from)) await rows(sql);
    await rows("update schema_version set version = $to::int4", { to });
    return { from, to };
  });
}
