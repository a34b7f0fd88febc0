/** The part of the storage port that keeps documents: their revisions, texts and passages. */
import type { Metadata } from "./store.ts";

/** A question to the documents that a user may see: those of the workspace and their own. */
export interface PassageQuery {
  workspace_id: string;
  /** Whose own documents are searched too; null searches those of the workspace alone. */
  user_id: string | null;
  q: string;
  /** The question as the embedding model has it; null where there is none. */
  vector: number[] | null;
  /** Null searches all of them. */
  collections: string[] | null;
  /** Pairs that a document's metadata must hold. */
  filter: Metadata | null;
  limit: number;
}

/** A piece of a document: `quote` is exactly the document's text from `start` to `end`, in UTF-16 code units. */
export interface FoundPassage {
  document_id: string;
  name: string;
  /** The headings above it, outermost first, joined by ` > `. */
  heading: string;
  quote: string;
  start: number;
  end: number;
  tokens: number;
  score: number;
  /** Which part of the question it holds, 0 to 1. */
  coverage: number;
}

export interface DocumentStore {
  /** Whether a search could find anything: cheap, because every turn asks. */
  hasPassages(workspace_id: string): Promise<boolean>;
  /** Passages that bear on a question, best first. Whatever stands in `q` is words. */
  searchPassages(query: PassageQuery): Promise<FoundPassage[]>;
}
