/** The keys of a data directory for commands: beside a service that is running on it, or before the first one has. */
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { OpenKeys } from "../key-store.ts";
import { StorageUnusableError } from "../unusable.ts";
import { databaseFile, openForReading, openForWriting } from "./database.ts";
import { createKeyReads } from "./key-reads.ts";
import { createKeyWrites } from "./key-writes.ts";
import { DataDirInUseError, lockDataDir } from "./lock.ts";
import { migrations } from "./migrations.ts";
import { readHere } from "./worker.ts";

/** For a service that is just starting to bring the database to its version. */
const waitsMax = 50;
const waitMs = 100;

/**
 * Opens the keys of a data directory without its lock, and makes its database where there is none.
 * @throws StorageUnusableError
 */
export async function openSqliteKeys(dataDir: string): Promise<OpenKeys> {
  await bringUpToDate(dataDir);
  const db = openForWriting(dataDir);
  const reads = createKeyReads(db);
  const writes = createKeyWrites(db);
  return {
    createKey: (key) => readHere(() => db.transaction(() => writes.createKey(key)).immediate()),
    keys: (workspaceId, query) => readHere(() => reads.keys(workspaceId, query)),
    revokeKey: (workspaceId, id, nowMs) =>
      readHere(() => db.transaction(() => writes.revokeKey(workspaceId, id, nowMs)).immediate()),
    close: async () => db.close(),
  };
}

/** Nobody may be serving while a database is made or upgraded: for that moment, and no longer, the lock is held. */
async function bringUpToDate(dataDir: string): Promise<void> {
  for (let waits = 0; !isOfThisVersion(dataDir); waits++) {
    try {
      const unlock = lockDataDir(dataDir);
      try {
        openForWriting(dataDir).close();
      } finally {
        unlock();
      }
    } catch (error) {
      if (!(error instanceof DataDirInUseError)) throw error;
      if (waits === waitsMax) {
        throw new StorageUnusableError(
          `a parley serve of another version is using ${dataDir}: use the same version, or stop it`,
          { cause: error },
        );
      }
      await sleep(waitMs);
    }
  }
}

function isOfThisVersion(dataDir: string): boolean {
  if (!existsSync(databaseFile(dataDir))) return false;
  using db = openForReading(dataDir);
  const { user_version } = db.query<{ user_version: number }, []>("pragma user_version").get()!;
  // A newer one is refused where it is opened.
  return user_version >= migrations.length;
}
