/**
 * One `serve` a data directory, and one backup at a time: exclusive SQLite locks, which the system frees however their
 * owner ends.
 */
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { BackupRunningError, StorageUnusableError } from "../unusable.ts";
import { makePrivateDirectory, makePrivateFile } from "./database.ts";

export class DataDirInUseError extends StorageUnusableError {
  override readonly name = "DataDirInUseError";
}

/** Takes the lock of a data directory and returns its release. @throws DataDirInUseError where another process holds it */
export function lockDataDir(dataDir: string): () => void {
  makePrivateDirectory(dataDir);
  return lock(join(dataDir, "lock.db"), (cause) => {
    throw new DataDirInUseError(`another parley serve is using ${dataDir}`, { cause });
  });
}

/** The same for what is done to a directory that nobody serves. @throws DataDirInUseError */
export function lockUnservedDir(dataDir: string): () => void {
  makePrivateDirectory(dataDir);
  return lock(join(dataDir, "lock.db"), (cause) => {
    throw new DataDirInUseError(`${dataDir} is in use, by a parley serve, restore or import: stop it first`, {
      cause,
    });
  });
}

/** Takes the lock for backups of a data directory that is there. @throws BackupRunningError where one is being taken */
export function lockBackups(dataDir: string): () => void {
  return lock(join(dataDir, "backup-lock.db"), (cause) => {
    throw new BackupRunningError(`another backup of ${dataDir} is being taken`, { cause });
  });
}

function lock(path: string, refuse: (cause: unknown) => never): () => void {
  makePrivateFile(path);
  const db = new Database(path);
  try {
    db.run("pragma busy_timeout = 0");
    db.run("begin exclusive");
  } catch (cause) {
    db.close();
    const busy = cause instanceof Error && "code" in cause && cause.code === "SQLITE_BUSY";
    if (busy) refuse(cause);
    throw cause;
  }
  return () => db.close();
}
