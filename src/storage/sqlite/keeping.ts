/** The SQLite adapter of `Keeping`: opens a data directory for one task, beside a service or without one. */
import type { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { AppError } from "../../errors.ts";
import type { ArchiveExport, ArchiveImport, ArchiveRecord, Keeping } from "../archive-store.ts";
import { StorageUnusableError } from "../unusable.ts";
import { archiveRecords, pendingDocuments } from "./archive-reads.ts";
import { createArchiveWrites } from "./archive-writes.ts";
import { backup, refuseUnknown, streamBackup } from "./backup.ts";
import { databaseFile, openForReading, openForWriting } from "./database.ts";
import { lockUnservedDir } from "./lock.ts";
import { migrations } from "./migrations.ts";
import { restore } from "./restore.ts";
import { versionOf } from "./upgrade.ts";
import { isStorageFault, readHere } from "./worker.ts";

/** Of memory for pages, because an import goes to all ends of the database. */
const cacheKib = 64 * 1024;

export const sqliteKeeping = (dataDir: string): Keeping => ({
  backup: (target, options) => backup(dataDir, target, options),
  streamBackup: (options) => streamBackup(dataDir, options),
  restore: (file, options) => restore(dataDir, file, options),
  export: async () => opened(dataDir, () => openExport(dataDir)),
  import: async () => opened(dataDir, () => openImport(dataDir)),
});

/** All that is read is of one transaction: the state at its beginning. */
function openExport(dataDir: string): ArchiveExport {
  const path = databaseFile(dataDir);
  if (!existsSync(path)) throw new StorageUnusableError(`there is no database in ${dataDir}`);
  const db = openForReading(dataDir);
  try {
    db.run("begin");
    refuseUnknown(db, path);
    if (versionOf(db) < migrations.length) {
      throw new StorageUnusableError(
        `${path} is of an older version: start parley serve once, which upgrades it`,
      );
    }
    const pending = pendingDocuments(db);
    return {
      pending,
      async *records() {
        try {
          yield* archiveRecords(db);
        } catch (cause) {
          throw new AppError(isStorageFault(cause) ? "storage_unavailable" : "internal", { cause });
        }
      },
      close: async () => db.close(),
    };
  } catch (error) {
    db.close();
    throw error;
  }
}

/** One transaction: a reader sees all of it or nothing, and a crash leaves nothing. */
function openImport(dataDir: string): ArchiveImport {
  const unlock = lockUnservedDir(dataDir);
  let db: Database;
  try {
    db = openForWriting(dataDir);
  } catch (error) {
    unlock();
    throw error;
  }
  db.run(`pragma cache_size = -${cacheKib}`);
  const writes = createArchiveWrites(db);
  db.run("begin immediate");
  return {
    keep: (record: ArchiveRecord) => readHere(() => writes.keep(record)),
    finish: () =>
      readHere(() => {
        const unfinished = writes.complete();
        if (unfinished === null) db.run("commit");
        return unfinished;
      }),
    async close() {
      if (db.inTransaction) db.run("rollback");
      db.close();
      unlock();
    },
  };
}

function opened<T>(dataDir: string, open: () => T): T {
  try {
    return open();
  } catch (cause) {
    if (!isStorageFault(cause)) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StorageUnusableError(`the database in ${dataDir} can't be opened: ${why}`, { cause });
  }
}
