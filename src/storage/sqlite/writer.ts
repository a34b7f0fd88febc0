/** The writer worker: the one connection that writes, a transaction for each batch of calls. */
import type { Database } from "bun:sqlite";
import { AppError } from "../../errors.ts";
import { databaseFile, openForWriting } from "./database.ts";
import { createScrubber } from "./scrub.ts";
import { createVectorWrites, type VectorWrites } from "./vector-writes.ts";
import { type Answer, type Call, isStorageFault, type Operations, serveBatches, toAnswer } from "./worker.ts";
import { createWrites, type Writes } from "./writes.ts";

/** What can't be done inside of a transaction: it is done after that of its batch. */
const createMaintenance = (db: Database, dataDir: string) => ({
  scrub: createScrubber(db, databaseFile(dataDir)),
});

/** All that can be asked of the writer. */
export type WriterOperations = Writes & VectorWrites & ReturnType<typeof createMaintenance>;

serveBatches(({ dataDir, vectorExtension }) => {
  const db = openForWriting(dataDir);
  const { operations, complete, forget } = createWrites(db);
  const writes: Operations = {
    ...operations,
    ...(vectorExtension !== null && createVectorWrites(db, complete)),
  };
  const maintenance: Operations = createMaintenance(db, dataDir);

  const answer = ({ operation, args }: Call): Answer => {
    try {
      return { ok: true, value: writes[operation]!(...args) };
    } catch (error) {
      if (error instanceof AppError) return toAnswer(error);
      throw error;
    }
  };

  /** What it can't undo now is undone before the next transaction: nothing more is committed until then. */
  const rollback = (): void => {
    try {
      if (db.inTransaction) db.run("rollback");
    } catch (error) {
      if (!isStorageFault(error)) throw error;
    }
  };

  /** Where one call of a batch fails unexpectedly, each gets a transaction of its own. */
  function answerBatch(calls: Call[]): Answer[] {
    if (calls.length === 0) return [];
    try {
      // A rollback that failed, on a broken disk, is made up for.
      if (db.inTransaction) db.run("rollback");
      db.run("begin immediate");
      const answers = calls.map(answer);
      complete();
      db.run("commit");
      return answers;
    } catch (error) {
      rollback();
      forget();
      return calls.length === 1 ? [toAnswer(error)] : calls.flatMap((call) => answerBatch([call]));
    }
  }

  const maintain = ({ operation, args }: Call): Answer => {
    try {
      return { ok: true, value: maintenance[operation]!(...args) };
    } catch (error) {
      return toAnswer(error);
    }
  };

  return (calls) => {
    const isMaintenance = ({ operation }: Call): boolean => operation in maintenance;
    const written = answerBatch(calls.filter((call) => !isMaintenance(call)));
    return calls.map((call) => (isMaintenance(call) ? maintain(call) : written.shift()!));
  };
});
