/** Vectors. */
import type { VectorStore } from "../vector-store.ts";
import type { Database } from "./database.ts";

export function createVectors(_database: Database): VectorStore {
  return {} as never;
}
