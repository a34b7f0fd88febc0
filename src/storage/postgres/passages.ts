/** The search of documents. */
import type { DocumentStore } from "../document-store.ts";
import type { Database } from "./database.ts";

export function createPassages(_database: Database): Pick<DocumentStore, "searchPassages"> {
  return {} as never;
}
