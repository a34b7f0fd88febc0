/** Erasing users. */
import type { MemoryStore } from "../memory-store.ts";
import type { Database } from "./database.ts";

export function createErasure(
  _database: Database,
): Pick<MemoryStore, "cutOffUser" | "eraseUser" | "resumeErasures"> {
  return {} as never;
}
