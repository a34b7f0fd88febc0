/** Documents, their revisions and passages. */
import type { DocumentStore } from "../document-store.ts";
import type { Database } from "./database.ts";

export function createDocuments(_database: Database): Omit<DocumentStore, "searchPassages"> {
  return {} as never;
}
