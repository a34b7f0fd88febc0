/** The reader worker: searches and exports, which may take longer than the server's thread can spare. */
import type { Database } from "bun:sqlite";
import { openForReading } from "./database.ts";
import { createPassageSearch } from "./passages.ts";
import { createReads } from "./reads.ts";
import { createRecall } from "./recall.ts";
import { type Operations, serveBatches, toAnswer } from "./worker.ts";

const createLongReads = (db: Database) => ({
  ...createReads(db),
  recall: createRecall(db),
  searchPassages: createPassageSearch(db),
});
export type LongReads = ReturnType<typeof createLongReads>;

serveBatches((dataDir) => {
  const reads: Operations = createLongReads(openForReading(dataDir));
  return (calls) =>
    calls.map(({ operation, args }) => {
      try {
        return { ok: true, value: reads[operation]!(...args) };
      } catch (error) {
        return toAnswer(error);
      }
    });
});
