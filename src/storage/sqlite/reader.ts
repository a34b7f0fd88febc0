/** The reader worker: searches and exports, which may take longer than the server's thread can spare. */
import type { Database } from "bun:sqlite";
import { openForReading } from "./database.ts";
import { createPassageSearch } from "./passages.ts";
import { createReads } from "./reads.ts";
import { createRecall } from "./recall.ts";
import { type Call, type Operations, serveBatches, toAnswer } from "./worker.ts";

const createLongReads = (db: Database) => ({
  ...createReads(db),
  recall: createRecall(db),
  searchPassages: createPassageSearch(db),
});
export type LongReads = ReturnType<typeof createLongReads>;

serveBatches((dataDir) => {
  const db = openForReading(dataDir);
  const reads: Operations = createLongReads(db);
  // A call sees one state of the database, however many statements it takes.
  const read = db.transaction(({ operation, args }: Call) => reads[operation]!(...args));
  return (calls) =>
    calls.map((call) => {
      try {
        return { ok: true, value: read(call) };
      } catch (error) {
        return toAnswer(error);
      }
    });
});
