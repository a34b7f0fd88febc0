/** Restoring: a backup is copied into the data directory, found whole there, and takes the database's place in one step. */
import { Database } from "bun:sqlite";
import { existsSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { OnProgress, Restored } from "../archive-store.ts";
import { StorageUnusableError } from "../unusable.ts";
import { backup, refuseDamaged, refuseUnknown, UnsoundError } from "./backup.ts";
import { takeUploads } from "./backup-uploads.ts";
import { databaseFile } from "./database.ts";
import { lockUnservedDir } from "./lock.ts";
import { sync } from "./upgrade.ts";

const chunkBytes = 1024 * 1024;
/** What a database consists of. */
const files = ["", "-wal", "-shm"];

export async function restore(
  dataDir: string,
  file: string,
  { force, onProgress }: { force: boolean; onProgress: OnProgress },
): Promise<Restored> {
  const path = databaseFile(dataDir);
  const part = partOf(path);
  try {
    if (!existsSync(file)) throw new StorageUnusableError(`there is no ${file}`);
    if ((statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0) {
      throw new StorageUnusableError(
        `${file} is in use, or its program was killed: part of it is in ${file}-wal. Take a backup of it with parley backup`,
      );
    }
    const unlock = lockUnservedDir(dataDir);
    try {
      const isThere = existsSync(path);
      if (isThere && !force) {
        throw new StorageUnusableError(
          `there is a database in ${dataDir} already: --force keeps it beside, and puts the backup in its place`,
        );
      }
      clearUnfinishedRestore(dataDir);
      await copy(file, part, onProgress);
      refuseUnsound(part, file);
      const replaced = isThere ? await keepBeside(dataDir, path) : null;
      {
        // From here on its uploads are in the place of the others.
        using db = new Database(part, { strict: true, readwrite: true, create: false });
        takeUploads(db, dataDir);
      }
      sync(part);
      for (const log of ["-wal", "-shm"]) rmSync(path + log, { force: true });
      renameSync(part, path);
      sync(dirname(path));
      return { replaced };
    } finally {
      clearUnfinishedRestore(dataDir);
      unlock();
    }
  } catch (cause) {
    if (cause instanceof StorageUnusableError || !(cause instanceof Error) || !("code" in cause)) throw cause;
    throw new StorageUnusableError(`${file} can't be restored to ${dataDir}: ${cause.message}`, { cause });
  }
}

const partOf = (path: string): string => `${path}.part`;

/** Removes what a restore that was killed has left in a data directory; for who holds its lock. */
export function clearUnfinishedRestore(dataDir: string): void {
  const part = partOf(databaseFile(dataDir));
  for (const ending of [...files, "-journal"]) rmSync(part + ending, { force: true });
}

/** What restoring has kept beside a database, with its logs: it holds copies of text. */
export function replacedBy(path: string): string[] {
  const start = `${basename(path, ".db")}-replaced-`;
  return readdirSync(dirname(path))
    .filter(
      (file) => file.startsWith(start) && /^\d{8}T\d{9}Z\.db(-wal|-shm)?$/.test(file.slice(start.length)),
    )
    .map((file) => join(dirname(path), file));
}

async function copy(from: string, to: string, onProgress: OnProgress): Promise<void> {
  const source = await open(from, "r");
  try {
    const target = await open(to, "wx", 0o600);
    try {
      const { size } = await source.stat();
      const chunk = Buffer.alloc(chunkBytes);
      for (let at = 0; ; ) {
        const { bytesRead } = await source.read(chunk, 0, chunkBytes, at);
        if (bytesRead === 0) break;
        await target.writeFile(chunk.subarray(0, bytesRead));
        at += bytesRead;
        onProgress(at / size);
      }
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** @param name what the file is called where that is told */
function refuseUnsound(part: string, name: string): void {
  try {
    using db = new Database(part, { strict: true, readwrite: true, create: false });
    db.run("pragma journal_mode = delete");
    refuseUnknown(db, name);
    refuseDamaged(db, name, "integrity_check");
    if (db.query("pragma foreign_key_check").all().length > 0) {
      throw new UnsoundError(`${name} is damaged: rows point to nothing`);
    }
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    if (code === "SQLITE_NOTADB") throw new UnsoundError(`${name} is no Parley database`, { cause });
    if (code.startsWith("SQLITE_CORRUPT")) throw new UnsoundError(`${name} is damaged`, { cause });
    throw cause;
  }
}

/** Keeps the database that is there as a backup; one that is damaged as it is, with its log. */
async function keepBeside(dataDir: string, path: string): Promise<string> {
  const time = new Date().toISOString().replace(/[-:.]/g, "");
  const replaced = path.replace(/\.db$/, `-replaced-${time}.db`);
  try {
    await backup(dataDir, replaced, { force: false, onProgress() {}, signal: new AbortController().signal });
  } catch (error) {
    if (!(error instanceof UnsoundError)) throw error;
    for (const ending of files) if (existsSync(path + ending)) renameSync(path + ending, replaced + ending);
  }
  return replaced;
}
