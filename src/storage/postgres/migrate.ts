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
 * @throws StorageUnusableError where a newer Parley or another program wrote it; it is then as it was
 */
export function migrate(database: Database): Promise<Migrated | null> {
  return database.transaction(async ({ rows, row }) => {
    await rows("set local statement_timeout = 0");
    await rows("select pg_advisory_xact_lock($lock::bigint)", { lock: migrationLock });
    const { ours, tables } = (await row<{ ours: boolean; tables: number }>(
      `select to_regclass('schema_version') is not null as ours,
         (select count(*)::int4 from pg_tables where schemaname = current_schema()) as tables`,
    ))!;
    if (!ours && tables > 0) {
      throw new StorageUnusableError(
        "the database of DATABASE_URL holds another program's tables: give Parley one of its own",
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
    for (const sql of migrations.slice(from)) await rows(sql);
    await rows("update schema_version set version = $to::int4", { to });
    return { from, to };
  });
}
