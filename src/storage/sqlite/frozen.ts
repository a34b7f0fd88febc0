/**
 * A database that stands still in its file while others go on writing, so that the file can be copied.
 *
 * In WAL mode others write into the log, and only a checkpoint writes into the file: never what is newer than the
 * oldest reader's view (https://www.sqlite.org/wal.html#ckpt). So all that was committed is checkpointed, a reader
 * begins before anybody commits more, and until that reader ends nobody changes the file. Others commit as ever, and the
 * log grows. Of 318 MB that took 0.2 to 0.3 s with 0.15 s of CPU, where `VACUUM INTO`, which makes the log grow as well,
 * took 0.7 s with 0.45 s, and can't tell of which moment it is, for what lies beside the database.
 */
import { Database } from "bun:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { StorageUnusableError } from "../unusable.ts";
import { busyMs } from "./database.ts";

/** A search may hold the log up for a moment; another program may do so for longer. */
const retryMs = 25;
const secondsMax = 60;

export interface Frozen {
  /** In the frozen state. */
  readonly reader: Database;
  /** Of the file that make up the database. */
  readonly bytes: number;
  /**
   * Lets the database move on. Whoever opened its file must close that file after this: closing any descriptor of a file drops
   * all locks that the process has on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
   */
  release(): void;
}

/**
 * Freezes a database, which this process must not have opened for anything else.
 * @param atThatMoment runs while nobody can commit anything
 */
export async function freeze(path: string, atThatMoment: (reader: Database) => void): Promise<Frozen> {
  const connections: Database[] = [];
  const connect = (): Database => {
    const db = new Database(path, { strict: true, readwrite: true, create: false });
    connections.push(db);
    db.run(`pragma busy_timeout = ${busyMs}`);
    return db;
  };
  const release = (): void => {
    for (const db of connections.splice(0).reverse()) db.close();
  };
  try {
    const [reader, blocker, checkpointer] = [connect(), connect(), connect()];
    const checkpoint = checkpointer.query<{ log: number; checkpointed: number }, []>(
      "pragma wal_checkpoint(passive)",
    );
    for (const giveUpAt = Date.now() + secondsMax * 1000; ; await sleep(retryMs)) {
      // First while others go on: most of it, then what they have committed meanwhile.
      checkpoint.get();
      checkpoint.get();
      const isBlocked = begin(blocker);
      try {
        const { log, checkpointed } = checkpoint.get()!;
        if (isBlocked && log === checkpointed) {
          reader.run("begin");
          // A transaction begins to read with its first query.
          const { bytes } = reader
            .query<{ bytes: number }, []>(
              "select page_count * page_size as bytes from pragma_page_count, pragma_page_size, (select count(*) from sqlite_schema)",
            )
            .get()!;
          atThatMoment(reader);
          return { reader, bytes, release };
        }
      } finally {
        if (isBlocked) blocker.run("rollback");
      }
      if (Date.now() > giveUpAt) {
        throw new StorageUnusableError(`another program is at work on ${path} all the time: try again`);
      }
    }
  } catch (error) {
    release();
    throw error;
  }
}

/** Keeps others from committing; false where one of them is at it for too long. */
function begin(blocker: Database): boolean {
  try {
    blocker.run("begin immediate");
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "SQLITE_BUSY") return false;
    throw error;
  }
}
