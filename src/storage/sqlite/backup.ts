/**
 * Backups: the database's file, copied while it stands still (frozen.ts), and found sound before it gets its name.
 * This process must have nothing else open of the database.
 */
import { Database } from "bun:sqlite";
import { existsSync, linkSync, renameSync, rmSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { BackupOptions, OnProgress } from "../archive-store.ts";
import { BackupRunningError, StorageUnusableError } from "../unusable.ts";
import { closeUploads, type OpenUpload, openUploads, putUploads } from "./backup-uploads.ts";
import { databaseFile } from "./database.ts";
import { type Frozen, freeze } from "./frozen.ts";
import { lockBackups } from "./lock.ts";
import { migrations } from "./migrations.ts";
import { isOurs, sync, versionOf } from "./upgrade.ts";

const chunkBytes = 1024 * 1024;
const streamedBytes = 256 * 1024;

/** What a stream is made from, in the data directory. */
const streamedFile = (dataDir: string): string => join(dataDir, "backup.db");
const partOf = (target: string): string => `${target}.part`;

export async function backup(dataDir: string, target: string, options: BackupOptions): Promise<void> {
  const path = resolve(target);
  const unlock = lockForBackup(dataDir);
  try {
    const refuseExisting = (): void => {
      if (!options.force && existsSync(path)) {
        throw new StorageUnusableError(`${target} is there already: --force puts the backup in its place`);
      }
    };
    refuseExisting();
    if (existsSync(path) && isSameFile(path, databaseFile(dataDir))) {
      throw new StorageUnusableError(`${target} is the database itself`);
    }
    const part = await writePart(dataDir, path, options);
    try {
      if (options.force) renameSync(part, path);
      else giveName(part, path, refuseExisting);
      sync(dirname(path));
    } finally {
      rmSync(part, { force: true });
    }
  } catch (cause) {
    throw unusable(cause, target);
  } finally {
    unlock();
  }
}

export async function* streamBackup(
  dataDir: string,
  options: Omit<BackupOptions, "force">,
): AsyncGenerator<Uint8Array, void, void> {
  const file = await nameless(dataDir, options);
  try {
    for (;;) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(streamedBytes), 0, streamedBytes);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** A backup that is gone as soon as nobody has it open. */
async function nameless(dataDir: string, options: Omit<BackupOptions, "force">): Promise<FileHandle> {
  const unlock = lockForBackup(dataDir);
  try {
    const part = await writePart(dataDir, streamedFile(dataDir), options);
    try {
      return await open(part, "r");
    } finally {
      rmSync(part);
    }
  } catch (cause) {
    throw unusable(cause, dataDir);
  } finally {
    unlock();
  }
}

/** Removes what a backup that was killed has left in a data directory, unless one is being taken. */
export function clearUnfinishedBackup(dataDir: string): void {
  const part = partOf(streamedFile(dataDir));
  if (!existsSync(part)) return;
  try {
    const unlock = lockBackups(dataDir);
    rmSync(part, { force: true });
    unlock();
  } catch (error) {
    if (!(error instanceof BackupRunningError)) throw error;
  }
}

function lockForBackup(dataDir: string): () => void {
  const path = databaseFile(dataDir);
  if (!existsSync(path)) throw new StorageUnusableError(`there is no database in ${dataDir}`);
  try {
    return lockBackups(dataDir);
  } catch (cause) {
    throw unusable(cause, dataDir);
  }
}

/** Writes all of a backup under a temporary name beside the one that it is to get, and gives that. */
async function writePart(
  dataDir: string,
  target: string,
  { onProgress, signal }: Omit<BackupOptions, "force">,
): Promise<string> {
  const part = partOf(target);
  const path = databaseFile(dataDir);
  let uploads: OpenUpload[] = [];
  // Nobody else takes a backup now: what has this name was left by one that was killed.
  rmSync(part, { force: true });
  try {
    const frozen = await freeze(path, (reader) => {
      refuseUnknown(reader, path);
      uploads = openUploads(reader, dataDir);
    });
    await copy(path, part, frozen, onProgress, signal);
    complete(part, uploads);
    return part;
  } catch (error) {
    for (const file of [part, `${part}-journal`]) rmSync(file, { force: true });
    throw error;
  } finally {
    closeUploads(uploads);
  }
}

/** It is the database's own fault. */
export class UnsoundError extends StorageUnusableError {
  override readonly name = "UnsoundError";
}

/** @throws UnsoundError where a database isn't of this program or any version that it knows */
export function refuseUnknown(db: Database, path: string): void {
  const version = versionOf(db);
  if (version > migrations.length) {
    throw new UnsoundError(
      `${path} is of version ${version}, this Parley knows ${migrations.length}: use a newer one`,
    );
  }
  if (version === 0 || !isOurs(db, version)) throw new UnsoundError(`${path} is no Parley database`);
}

/** Copies a frozen database and lets it go. The copy is in no WAL mode, so that it opens wherever it lies. */
async function copy(
  from: string,
  to: string,
  frozen: Frozen,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<void> {
  let source: FileHandle | null = null;
  try {
    source = await open(from, "r");
    const target = await open(to, "wx", 0o600);
    try {
      const chunk = Buffer.alloc(chunkBytes);
      for (let at = 0; at < frozen.bytes; ) {
        signal.throwIfAborted();
        const { bytesRead } = await source.read(chunk, 0, Math.min(chunkBytes, frozen.bytes - at), at);
        if (bytesRead === 0) throw new Error("the file ended too soon");
        // The versions for writing and reading: https://www.sqlite.org/fileformat2.html#file_format_version_numbers
        if (at === 0) chunk.fill(1, 18, 20);
        await target.writeFile(chunk.subarray(0, bytesRead));
        at += bytesRead;
        onProgress(at / frozen.bytes);
      }
    } finally {
      await target.close();
    }
  } finally {
    frozen.release();
    await source?.close();
  }
}

/** Completes a copy, looks whether it is sound, and waits until all of it is on the disk. */
function complete(part: string, uploads: readonly OpenUpload[]): void {
  {
    using db = new Database(part, { strict: true, readwrite: true, create: false });
    // Until it has its name it is nothing that a crash could break.
    db.run("pragma journal_mode = memory");
    db.run("pragma synchronous = off");
    refuseDamaged(db, "the database", "quick_check");
    putUploads(db, uploads);
  }
  sync(part);
}

/** @throws UnsoundError with the first fault that SQLite finds */
export function refuseDamaged(db: Database, what: string, check: "quick_check" | "integrity_check"): void {
  const [fault] = db.query<Record<string, string>, []>(`pragma ${check}(1)`).all().flatMap(Object.values);
  if (fault !== "ok") throw new UnsoundError(`${what} is damaged: ${String(fault).replace(/\s+/g, " ")}`);
}

function isSameFile(a: string, b: string): boolean {
  const [first, second] = [statSync(a), statSync(b)];
  return first.ino === second.ino && first.dev === second.dev;
}

/** A link is made only where there is nothing of that name; not every file system has them. */
function giveName(part: string, path: string, refuseExisting: () => void): void {
  try {
    linkSync(part, path);
  } catch (error) {
    refuseExisting();
    if (
      !(error instanceof Error && "code" in error && /^(EPERM|ENOTSUP|EOPNOTSUPP)$/.test(String(error.code)))
    ) {
      throw error;
    }
    renameSync(part, path);
  }
}

/** Faults of the disk and of the database, in words for whoever asked for the backup. */
function unusable(cause: unknown, target: string): unknown {
  if (cause instanceof StorageUnusableError || !(cause instanceof Error) || !("code" in cause)) return cause;
  if (/^SQLITE_(CORRUPT|NOTADB)/.test(String(cause.code))) {
    return new UnsoundError(`the database is damaged: ${cause.message}`, { cause });
  }
  return new StorageUnusableError(`no backup could be written to ${target}: ${cause.message}`, { cause });
}
