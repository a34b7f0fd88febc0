/**
 * Erasing, one bounded call of the writer after the other, so that turns start and end in between. What was cut off is
 * taken away row by row; after that of a user, the full-text indexes that held words of deleted text are written anew,
 * what is left of rows in the files is overwritten, and snapshots of earlier versions are removed.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "../../errors.ts";
import type { Erased, UserScope } from "../memory-store.ts";
import type { Scope } from "../store.ts";
import { clearUnfinishedBackup } from "./backup.ts";
import { type EraseStep, fullTextIndexes, type Uncleaned } from "./erase-writes.ts";
import { replacedBy } from "./restore.ts";
import type { ScrubStep } from "./scrub.ts";
import { snapshotsOf } from "./upgrade.ts";
import { readHere } from "./worker.ts";
import type { WorkerClient } from "./worker-client.ts";
import type { WriterOperations } from "./writer.ts";

/** A reader holds the log up for as long as its search takes; another program may do so for longer. */
const busyRetryMs = 25;
const busySecondsMax = 60;

export interface ErasureOptions {
  /** The database's file. */
  path: string;
  /** Erases some of what no document has any more, uploads too; true where there is more. */
  clearWaste(): Promise<boolean>;
}

export function createErasure(
  db: Database,
  writer: WorkerClient<WriterOperations>,
  { path, clearWaste }: ErasureOptions,
) {
  const uncleaned = db.query<{ name: string }, SQLQueryBindings>(
    "select name from settings where name = 'uncleaned ' || $what",
  );
  const cutOffUsers = db.query<UserScope, []>(
    "select distinct workspace_id, erased_user_id as user_id from users where user_id is null",
  );
  const deletedConversations = db.query<{ id: string }, []>(
    "select id from conversations where deleted = 1 order by n",
  );
  const isUncleaned = (what: Uncleaned): Promise<boolean> => readHere(() => uncleaned.get({ what }) !== null);

  async function eraseRows(user: UserScope): Promise<Erased> {
    const total: Erased = {
      conversations: 0,
      messages: 0,
      turns: 0,
      memories: 0,
      documents: 0,
      idempotency_keys: 0,
    };
    for (let step: EraseStep = { erased: total, more: true }; step.more; ) {
      step = await writer.callLater("eraseOfUser", user);
      for (const [what, count] of Object.entries(step.erased)) total[what as keyof Erased] += count;
    }
    return total;
  }

  async function cleanIndexes(): Promise<void> {
    for (const index of fullTextIndexes) {
      if (!(await writer.callLater("beginCleaning", index))) continue;
      for (let isFirst = true; await writer.callLater("mergeIndex", index, isFirst); isFirst = false);
      await writer.callLater("endCleaning", index);
    }
  }

  async function scrubFiles(): Promise<void> {
    let freeAt = Date.now();
    for (let step: ScrubStep = 0; step !== null; ) {
      const next: ScrubStep = await writer.callLater("scrub", step);
      if (next !== "busy") {
        freeAt = Date.now();
        step = next;
      } else if (Date.now() - freeAt < busySecondsMax * 1000) {
        await sleep(busyRetryMs);
      } else {
        throw new AppError("storage_unavailable", {
          detail: "All is erased but its last traces in the files, which another program reads: try again.",
        });
      }
    }
  }

  function removeCopies(): void {
    try {
      for (const copy of [...snapshotsOf(path), ...replacedBy(path)]) rmSync(copy, { force: true });
      clearUnfinishedBackup(dirname(path));
    } catch (cause) {
      throw new AppError("storage_unavailable", { cause });
    }
  }

  /** Leaves nothing in the files of what was erased before the call. */
  const clean = oneAfterAnother(async () => {
    if (!(await isUncleaned("files"))) return;
    await writer.callLater("beginCleaning", "files");
    while (await clearWaste());
    await cleanIndexes();
    await scrubFiles();
    removeCopies();
    await writer.callLater("endCleaning", "files");
  });

  async function eraseDeleted(id: string): Promise<void> {
    while (await writer.callLater("eraseDeleted", id));
  }

  /** What this process begins it ends itself, or is the last to try. */
  let resumed = false;

  return {
    async eraseUser(user: UserScope): Promise<Erased> {
      const erased = await eraseRows(user);
      await clean();
      return erased;
    },

    async deleteConversation(scope: Scope, id: string): Promise<boolean> {
      if (!(await writer.call("cutOffConversation", scope, id))) return false;
      await eraseDeleted(id);
      return true;
    },

    async deleteInactiveConversations(beforeMs: number, limit: number): Promise<number> {
      const ids = await writer.callLater("cutOffInactive", beforeMs, limit);
      // What could not be erased the last time, too.
      for (const { id } of await readHere(() => deletedConversations.all())) await eraseDeleted(id);
      return ids.length;
    },

    async resumeErasures(): Promise<void> {
      if (resumed) return;
      for (const { id } of await readHere(() => deletedConversations.all())) await eraseDeleted(id);
      for (const user of await readHere(() => cutOffUsers.all())) await eraseRows(user);
      await clean();
      resumed = true;
    },
  };
}

/** Runs work one at a time. Calls that come while it runs share the next run, which begins after all of them. */
function oneAfterAnother(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> = Promise.resolve();
  let next: Promise<void> | null = null;
  return () => {
    next ??= running.then(() => {
      next = null;
      const run = work();
      running = run.catch(() => {});
      return run;
    });
    return next;
  };
}
