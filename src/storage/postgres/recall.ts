/** Recall. */
import type { MemoryStore } from "../memory-store.ts";
import type { Database } from "./database.ts";

export function createRecall(_database: Database): Pick<MemoryStore, "recall"> {
  return {} as never;
}
