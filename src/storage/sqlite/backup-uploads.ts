/**
 * Uploads inside of a backup. What is still being processed is in files beside the database; a backup is one file, so
 * it has a table of its own for them, which a restored database doesn't keep.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { isId } from "../../ids.ts";
import { sync } from "./upgrade.ts";
import { uploadsDirectory } from "./uploads.ts";

const table = "backup_uploads";
const pieceBytes = 1024 * 1024;

const hasTable = (db: Database, name: string): boolean =>
  db.query("select 1 from sqlite_schema where type = 'table' and name = ?").get(name) !== null;

/** An upload, opened: it can be read on when its revision is done and its file gone. */
export interface OpenUpload {
  revision_id: string;
  file: number;
}

/** Opens the uploads that a state of the database needs; of one that is missing there is nothing to keep. */
export function openUploads(db: Database, dataDir: string): OpenUpload[] {
  // A database of the first version knows no documents.
  if (!hasTable(db, "document_revisions")) return [];
  const waiting = db
    .query<{ id: string }, []>(
      "select id from document_revisions where status = 'processing' and document_n is not null order by n",
    )
    .all();
  const opened: OpenUpload[] = [];
  try {
    for (const { id } of waiting) {
      const path = join(uploadsDirectory(dataDir), id);
      if (existsSync(path)) opened.push({ revision_id: id, file: openSync(path, "r") });
    }
    return opened;
  } catch (error) {
    closeUploads(opened);
    throw error;
  }
}

export const closeUploads = (uploads: OpenUpload[]): void => {
  for (const { file } of uploads.splice(0)) closeSync(file);
};

/** Puts uploads into a backup. */
export function putUploads(backup: Database, uploads: readonly OpenUpload[]): void {
  if (uploads.length === 0) return;
  backup.run(
    `create table ${table} (revision_id text, seq integer, bytes blob, primary key (revision_id, seq)) strict`,
  );
  const insert = backup.query<unknown, SQLQueryBindings[]>(`insert into ${table} values (?, ?, ?)`);
  const piece = Buffer.alloc(pieceBytes);
  for (const { revision_id, file } of uploads) {
    for (let seq = 0; ; seq++) {
      const count = readSync(file, piece, 0, pieceBytes, seq * pieceBytes);
      if (count === 0) break;
      insert.run(revision_id, seq, piece.subarray(0, count));
    }
  }
}

/** Takes the uploads out of a backup that is being restored, and makes files of them again. */
export function takeUploads(backup: Database, dataDir: string): void {
  if (!hasTable(backup, table)) return;
  const directory = uploadsDirectory(dataDir);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const ids = backup.query<{ id: string }, []>(`select distinct revision_id as id from ${table}`).all();
  const pieces = backup.query<{ bytes: Uint8Array }, SQLQueryBindings[]>(
    `select bytes from ${table} where revision_id = ? order by seq`,
  );
  // An id is the name of a file: none of another form gets to be one.
  for (const { id } of ids.filter(({ id }) => isId("revision", id))) {
    const file = openSync(join(directory, id), "w", 0o600);
    try {
      for (const { bytes } of pieces.iterate(id)) writeSync(file, bytes);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }
  sync(directory);
  backup.run(`drop table ${table}`);
}
