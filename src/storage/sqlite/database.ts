/** Opening SQLite the one way Parley does: private files, WAL, every commit on the disk. */
import { Database } from "bun:sqlite";
import { chmodSync, closeSync, mkdirSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import { migrations } from "./migrations.ts";
import { type Upgrade, upgrade } from "./upgrade.ts";

export const databaseFile = (dataDir: string): string => join(dataDir, "parley.db");

/** How long a connection waits for another one's lock. */
export const busyMs = 5_000;

/** Makes the data directory, readable by its owner alone; one that belongs to another user stays as it is. */
export function makePrivateDirectory(dataDir: string): void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  if (statSync(dataDir).uid === process.getuid?.()) chmodSync(dataDir, 0o700);
}

/** SQLite gives its WAL and shared-memory files the mode of the database file. */
export function makePrivateFile(path: string): void {
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
}

/**
 * Opens the database for writing and brings it to the newest version.
 * @param onUpgrade hears of it where that was needed
 * @throws StorageUnusableError
 */
export function openForWriting(dataDir: string, onUpgrade?: (upgrade: Upgrade) => void): Database {
  const path = databaseFile(dataDir);
  makePrivateFile(path);
  const db = new Database(path, { strict: true });
  // The timeout comes first: switching to WAL takes a lock too.
  db.run(`pragma busy_timeout = ${busyMs}`);
  db.run("pragma journal_mode = wal");
  db.run("pragma synchronous = full");
  db.run("pragma foreign_keys = on");
  db.run("pragma secure_delete = on");
  const upgraded = upgrade(db, path, migrations);
  if (upgraded !== null) onUpgrade?.(upgraded);
  return db;
}

/** Opens the database for reading beside the writer. */
export function openForReading(dataDir: string): Database {
  const db = new Database(databaseFile(dataDir), { strict: true, readonly: true });
  db.run(`pragma busy_timeout = ${busyMs}`);
  return db;
}
