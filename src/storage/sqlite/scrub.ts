/**
 * Overwriting what `secure_delete` leaves in the database file. SQLite zeroes a row where it stands when it is deleted;
 * but when it balances a b-tree it moves rows between pages, and the place that a row was moved from stays as it was,
 * in the unallocated middle of its page, until another row is put there (`rebuildPage` in btree.c). The layout of a
 * page is https://www.sqlite.org/fileformat2.html#b_tree_pages. `VACUUM` would overwrite it too, and hold up all writes
 * for as long as it takes to write the whole database anew.
 */
import type { Database } from "bun:sqlite";
import { fsyncSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { busyMs } from "./database.ts";

/** 4 MiB: what is gone through in one step, in which nobody writes. */
const pagesPerStep = 1_024;
/** From here on (128 GiB) the number at the start of an overflow page could be taken for a kind of b-tree page. */
const pagesMax = 0x0200_0000;

/** Where the next step begins; null after the last one; busy where nothing was done, because others use the database. */
export type ScrubStep = number | "busy" | null;

/**
 * The scrubber of a database file, for the thread that writes it.
 * @param db its connection; outside of a transaction whenever a step is done
 */
export function createScrubber(db: Database, path: string): (from: number) => ScrubStep {
  const { page_size: pageSize } = db.query<{ page_size: number }, []>("pragma page_size").get()!;
  const zeros = Buffer.alloc(pageSize);
  let file: number | null = null;

  function scrubFile(from: number): number | null {
    // Never closed: closing any descriptor of a file drops all locks that this process has on it, SQLite's own too
    // (https://www.sqlite.org/howtocorrupt.html, 2.2).
    file ??= openSync(path, "r+");
    const pages = Buffer.alloc(pagesPerStep * pageSize);
    const start = from * pageSize;
    const count = Math.floor(readSync(file, pages, 0, pages.length, start) / pageSize);
    for (let index = 0; index < count; index++) {
      const gap = unallocated(pages.subarray(index * pageSize, (index + 1) * pageSize), from + index === 0);
      if (gap === null) continue;
      const at = index * pageSize + gap.start;
      const isClean = zeros.compare(pages, at, at + gap.length, 0, gap.length) === 0;
      if (!isClean) writeSync(file, zeros, 0, gap.length, start + at);
    }
    const next = from + count;
    if (count === pagesPerStep && next < pagesMax) return next;
    fsyncSync(file);
    return null;
  }

  /**
   * One step. What is overwritten past SQLite may stand neither in its log nor in its cache, from where it would come
   * back, and nobody may write meanwhile. Readers never look at what is unallocated: they may go on.
   */
  return function scrub(from) {
    // Who waits here keeps all other writes waiting.
    db.run("pragma busy_timeout = 0");
    try {
      db.run("pragma wal_checkpoint(truncate)");
      db.run("pragma shrink_memory");
      db.run("begin immediate");
      // Empty, unless somebody reads from it.
      return statSync(`${path}-wal`).size === 0 ? scrubFile(from) : "busy";
    } catch (error) {
      if (error instanceof Error && "code" in error && /^SQLITE_(BUSY|LOCKED)/.test(String(error.code))) {
        return "busy";
      }
      throw error;
    } finally {
      if (db.inTransaction) db.run("rollback");
      db.run(`pragma busy_timeout = ${busyMs}`);
    }
  };
}

/** The bytes between the list of a page's cells and the cells; null where it is no page of a b-tree. */
function unallocated(page: Buffer, isFirst: boolean): { start: number; length: number } | null {
  const header = isFirst ? 100 : 0;
  const kind = page[header]!;
  const isInterior = kind === 2 || kind === 5;
  if (!isInterior && kind !== 10 && kind !== 13) return null;
  const start = header + (isInterior ? 12 : 8) + 2 * page.readUInt16BE(header + 3);
  const end = page.readUInt16BE(header + 5) || 65_536;
  return start < end && end <= page.length ? { start, length: end - start } : null;
}
