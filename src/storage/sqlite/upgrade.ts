/**
 * Bringing a database to the newest version: a snapshot of it is kept first, then all that is missing is applied in
 * one transaction. A kill at any moment leaves the old version or the new one, and never half a snapshot.
 */
import type { Database } from "bun:sqlite";
import { closeSync, fsyncSync, openSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { StorageUnusableError } from "../unusable.ts";

export interface Upgrade {
  from: number;
  to: number;
  /** The file that holds the database as it was, beside it; null where it was empty. */
  snapshot: string | null;
}

/**
 * Applies the migrations that a database lacks; null where it has them all.
 * @param path the database's file
 * @throws StorageUnusableError where a newer Parley or another program wrote it, where there is no room for the
 * snapshot, and where a migration fails; the database is then as it was
 */
export function upgrade(db: Database, path: string, migrations: readonly string[]): Upgrade | null {
  const from = versionOf(db);
  const to = migrations.length;
  const snapshots = snapshotsOf(path);
  for (const part of snapshots.filter((file) => file.endsWith(unfinished))) rmSync(part);
  if (from > to) throw new StorageUnusableError(tooNew(from, to, path));
  if (!isOurs(db, from)) {
    throw new StorageUnusableError(`${path} is another program's database: set PARLEY_DATA_DIR elsewhere`);
  }
  if (from === to) return null;
  const snapshot = from === 0 ? null : keepSnapshot(db, path, from);
  migrate(db, from, migrations);
  // Older ones hold what users may have deleted since: one step back is enough.
  for (const older of snapshots) if (older !== snapshot) rmSync(older, { force: true });
  return { from, to, snapshot };
}

/** The snapshots beside a database, unfinished ones too: what holds copies of its text. */
export function snapshotsOf(path: string): string[] {
  const start = `${basename(path, ".db")}-v`;
  return readdirSync(dirname(path))
    .filter((file) => file.startsWith(start) && /^\d+\.snapshot\.db(\.part)?$/.test(file.slice(start.length)))
    .map((file) => join(dirname(path), file));
}

const unfinished = ".part";

const snapshotOf = (path: string, version: number): string =>
  path.replace(/\.db$/, `-v${version}.snapshot.db`);

/** How many migrations a database has had. */
export const versionOf = (db: Database): number =>
  db.query<{ user_version: number }, []>("pragma user_version").get()!.user_version;

/** Whether these are our tables, or none at all. */
export function isOurs(db: Database, version: number): boolean {
  const { tables, ours } = db
    .query<{ tables: number; ours: number }, []>(
      "select count(*) as tables, count(*) filter (where name = 'conversations') as ours from sqlite_schema where type = 'table'",
    )
    .get()!;
  return version === 0 ? tables === 0 : ours === 1;
}

function tooNew(from: number, to: number, path: string): string {
  const older = snapshotsOf(path).filter((file) => file === snapshotOf(path, to));
  const orBack = older.length === 0 ? "" : `, or go back to ${older[0]} by moving it in its place`;
  return `${path} is of version ${from}, this Parley knows ${to}: use a newer one${orBack}`;
}

/** Copies the database, under its last name only when all of it is on the disk. */
function keepSnapshot(db: Database, path: string, version: number): string {
  const snapshot = snapshotOf(path, version);
  const part = snapshot + unfinished;
  try {
    // SQLite writes into an empty file, and keeps its mode.
    closeSync(openSync(part, "wx", 0o600));
    db.query("vacuum into ?").run(part);
    sync(part);
    renameSync(part, snapshot);
    sync(dirname(path));
    return snapshot;
  } catch (cause) {
    rmSync(part, { force: true });
    const mebibytes = Math.ceil(sizeOf(db) / 1024 / 1024);
    throw new StorageUnusableError(
      `no snapshot of ${path} could be kept before its upgrade, which needs up to ${mebibytes} MiB beside it (${reasonOf(cause)}): the database is as it was`,
      { cause },
    );
  }
}

function sizeOf(db: Database): number {
  const { bytes } = db
    .query<{ bytes: number }, []>(
      "select page_count * page_size as bytes from pragma_page_count, pragma_page_size",
    )
    .get()!;
  return bytes;
}

/** Waits until a file or directory is on the disk. */
export function sync(path: string): void {
  const file = openSync(path, "r");
  fsyncSync(file);
  closeSync(file);
}

function migrate(db: Database, from: number, migrations: readonly string[]): void {
  const to = migrations.length;
  // Tables may be made anew; what points where is checked at the end. Nothing of this works inside a transaction.
  db.run("pragma foreign_keys = off");
  try {
    db.transaction(() => {
      for (const sql of migrations.slice(from)) db.run(sql);
      const dangling = db.query("pragma foreign_key_check").all().length;
      if (dangling > 0) throw new Error(`${dangling} rows point to nothing`);
      db.run(`pragma user_version = ${to}`);
    }).immediate();
  } catch (cause) {
    throw new StorageUnusableError(
      `the database can't be upgraded from version ${from} to ${to} (${reasonOf(cause)}): it is as it was`,
      { cause },
    );
  } finally {
    db.run("pragma foreign_keys = on");
  }
}

const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
