/** One `serve` a data directory: an exclusive SQLite lock, which the system frees however its owner ends. */
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { StorageUnusableError } from "../unusable.ts";
import { makePrivateDirectory, makePrivateFile } from "./database.ts";

export class DataDirInUseError extends StorageUnusableError {
  override readonly name = "DataDirInUseError";
}

/** Takes the lock of a data directory and returns its release. @throws DataDirInUseError where another process holds it */
export function lockDataDir(dataDir: string): () => void {
  makePrivateDirectory(dataDir);
  const path = join(dataDir, "lock.db");
  makePrivateFile(path);
  const db = new Database(path);
  try {
    db.run("pragma busy_timeout = 0");
    db.run("begin exclusive");
  } catch (cause) {
    db.close();
    const busy = cause instanceof Error && "code" in cause && cause.code === "SQLITE_BUSY";
    if (busy) throw new DataDirInUseError(`another parley serve is using ${dataDir}`, { cause });
    throw cause;
  }
  return () => db.close();
}
