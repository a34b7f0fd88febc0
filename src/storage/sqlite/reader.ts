/** The reader worker: searches and exports, which may take longer than the server's thread can spare. */
import { openForReading } from "./database.ts";
import { createReads } from "./reads.ts";
import { type Operations, serveBatches, toAnswer } from "./worker.ts";

serveBatches((dataDir) => {
  const reads: Operations = createReads(openForReading(dataDir));
  return (calls) =>
    calls.map(({ operation, args }) => {
      try {
        return { ok: true, value: reads[operation]!(...args) };
      } catch (error) {
        return toAnswer(error);
      }
    });
});
