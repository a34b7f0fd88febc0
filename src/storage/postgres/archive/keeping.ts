/** The PostgreSQL adapter of `Keeping`. Backups are the database's own matter; archives are the same as everywhere. */
import { AppError } from "../../../errors.ts";
import type { ArchiveExport, ArchiveImport, Keeping } from "../../archive-store.ts";
import { StorageUnusableError } from "../../unusable.ts";
import { Database, type DatabaseOptions, type Queries, type Session, serviceName } from "../database.ts";
import { sqlStateOf } from "../faults.ts";
import { migrate, migrationLock } from "../migrate.ts";
import { migrations } from "../migrations.ts";
import { usable } from "../open.ts";
import { archiveRecords, pendingDocuments } from "./reads.ts";
import { createArchiveWrites } from "./writes.ts";

const options: DatabaseOptions = {
  name: "parley keeping",
  connectionsMax: 1,
  waitingMax: 10,
  statementSecondsMax: 30,
  waitSecondsMax: 10,
};

export function postgresKeeping(url: string): Keeping {
  const elsewhere = (): never => {
    throw new StorageUnusableError(
      "the data is in the database of DATABASE_URL: back it up with pg_dump -Fc, and put that back with pg_restore, or use what its host offers; parley export and parley import work with it too",
    );
  };
  return {
    backup: async () => elsewhere(),
    // biome-ignore lint/correctness/useYield: there is nothing to give
    streamBackup: async function* () {
      elsewhere();
    },
    restore: async () => elsewhere(),
    export: () => usable(() => openExport(url)),
    import: () => usable(() => openImport(url)),
  };
}

/** All that is read is of one transaction: the state at its beginning. Services go on meanwhile. */
async function openExport(url: string): Promise<ArchiveExport> {
  const database = new Database(url, options);
  let session: Session | null = null;
  try {
    const opened = await database.session("begin isolation level repeatable read read only");
    session = opened;
    await refuseUnknown(opened);
    const pending = await pendingDocuments(opened);
    return {
      pending,
      records: () => archiveRecords(opened),
      async close() {
        await opened.close();
        await database.close();
      },
    };
  } catch (error) {
    await session?.close();
    await database.close();
    throw error;
  }
}

async function refuseUnknown({ row }: Session): Promise<void> {
  const there = await row<{ ours: boolean; moving: boolean }>(
    `select to_regclass('schema_version') is not null as ours, to_regclass('migration_progress') is not null as moving`,
  );
  if (!there!.ours)
    throw new StorageUnusableError("there is no data of Parley in the database of DATABASE_URL");
  if (there!.moving) {
    throw new StorageUnusableError(
      "only a part of the data was moved to the database of DATABASE_URL so far: run parley migrate again, until it says that all is there",
    );
  }
  const { version } = (await row<{ version: number }>("select version from schema_version"))!;
  if (version < migrations.length) {
    throw new StorageUnusableError(
      "the database of DATABASE_URL is of an older version: start parley serve once, which upgrades it",
    );
  }
  if (version > migrations.length) {
    throw new StorageUnusableError(
      `the database of DATABASE_URL is of version ${version}, this Parley knows ${migrations.length}: use a newer one`,
    );
  }
}

/** One transaction: a reader sees all of it or nothing, and a crash leaves nothing. Who starts meanwhile waits for it. */
async function openImport(url: string): Promise<ArchiveImport> {
  const database = new Database(url, options);
  let session: Session | null = null;
  try {
    // Told here, because who migrates waits.
    await refuseServed(database);
    await migrate(database);
    const opened = await database.session("begin");
    session = opened;
    await refuseServed(opened);
    const writes = await createArchiveWrites(opened);
    return {
      keep: (record) => writes.keep(record).catch(tellUnfit),
      async finish() {
        const unfinished = await writes.complete();
        if (unfinished === null) await opened.commit();
        return unfinished;
      },
      async close() {
        await opened.close();
        await database.close();
      },
    };
  } catch (error) {
    await session?.close();
    await database.close();
    throw error;
  }
}

/** What fits a schema may be more than a column or an index takes. */
function tellUnfit(error: unknown): never {
  const state = error instanceof AppError ? sqlStateOf(error.cause) : null;
  const why =
    state === "22003" ? "a number is too large" : state === "54000" ? "a name or an id is too long" : null;
  if (why === null) throw error;
  throw new StorageUnusableError(`PostgreSQL can't keep a record of the file: ${why}; nothing was imported`, {
    cause: error,
  });
}

/** Services are known by their sessions; one that starts waits for the lock, to look whether it has to migrate. */
async function refuseServed(queries: Queries): Promise<void> {
  const state = await queries.row<{ locked: boolean; served: boolean }>(
    `select pg_try_advisory_xact_lock($lock::bigint) as locked, exists (
       select from pg_stat_activity where datname = current_database() and application_name = $name) as served`,
    { lock: migrationLock, name: serviceName },
  );
  if (state === null) throw new AppError("internal");
  if (!state.locked || state.served) {
    throw new StorageUnusableError(
      "the database of DATABASE_URL is in use, by a parley serve, migrate or import: stop it first, on all machines",
    );
  }
}
