/** The reader worker: searches and exports, which may take longer than the server's thread can spare. */
import type { Database } from "bun:sqlite";
import type { UserScope } from "../memory-store.ts";
import type { NearMemory } from "../vector-store.ts";
import { openForReading } from "./database.ts";
import { createNearest } from "./nearest.ts";
import type { PackedQuestion } from "./packed.ts";
import { createPassageSearch } from "./passages.ts";
import { createReads } from "./reads.ts";
import { createRecall } from "./recall.ts";
import { createUsageReads } from "./usage-reads.ts";
import { createVectorWalk } from "./vector-walk.ts";
import { type Call, type Operations, serveBatches, toAnswer } from "./worker.ts";

function createLongReads(db: Database, vectorExtension: string | null) {
  if (vectorExtension !== null) db.loadExtension(vectorExtension);
  const nearest = vectorExtension === null ? null : createNearest(db);
  return {
    ...createReads(db),
    ...createUsageReads(db),
    recall: createRecall(db, nearest),
    searchPassages: createPassageSearch(db, nearest),
    nearMemories: (user: UserScope, question: PackedQuestion): NearMemory[] =>
      nearest?.memories(user, question) ?? [],
    textsWithoutVector: createVectorWalk(db),
  };
}
export type LongReads = ReturnType<typeof createLongReads>;

serveBatches(({ dataDir, vectorExtension }) => {
  const db = openForReading(dataDir);
  const reads: Operations = createLongReads(db, vectorExtension);
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
