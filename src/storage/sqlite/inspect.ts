/** Looks at the database of a data directory without changing it, beside a running service too. */
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { StorageInspection } from "../inspection.ts";
import { databaseFile, openForReading } from "./database.ts";
import { createKeyReads } from "./key-reads.ts";
import { migrations } from "./migrations.ts";

/** Reads all of the database: a second or so for each gigabyte. Never throws: what can't be read is a fault. */
export function inspectDatabase(dataDir: string): StorageInspection {
  const newest = migrations.length;
  const inUse = isLocked(dataDir);
  const unread = { version: null, newest, hasKeys: false, inUse };
  if (!existsSync(databaseFile(dataDir))) return { ...unread, faults: [] };
  try {
    const db = openForReading(dataDir);
    try {
      const { user_version: version } = db.query<{ user_version: number }, []>("pragma user_version").get()!;
      const said = db.query<{ quick_check: string }, []>("pragma quick_check").all();
      const faults = said.map(({ quick_check }) => quick_check).filter((line) => line !== "ok");
      return { version, newest, hasKeys: hasKeys(db), inUse, faults };
    } finally {
      db.close();
    }
  } catch (error) {
    return { ...unread, faults: [error instanceof Error ? error.message : String(error)] };
  }
}

/** Older databases have no table of them. */
const hasKeys = (db: Database): boolean =>
  db.query("select name from sqlite_schema where name = 'keys'").get() !== null &&
  createKeyReads(db).hasKeys();

/** Whether a service holds the directory: nobody can read from under its exclusive lock. */
function isLocked(dataDir: string): boolean {
  const path = join(dataDir, "lock.db");
  if (!existsSync(path)) return false;
  try {
    const db = new Database(path, { readonly: true });
    try {
      db.run("pragma busy_timeout = 0");
      db.query("select count(*) from sqlite_schema").get();
      return false;
    } finally {
      db.close();
    }
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "SQLITE_BUSY";
  }
}
