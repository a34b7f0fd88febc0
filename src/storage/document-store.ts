/**
 * The part of the storage port that keeps documents.
 *
 * A document is what stands under a name, in a collection, for a user or for the whole workspace. Its content comes in
 * revisions: one is stored piece by piece, seen by nobody, and then takes the place of the one before in one step, so
 * that no search ever sees both, or half of one.
 */
import type { ErrorCode } from "../errors.ts";
import type { Metadata } from "./store.ts";
import type { QuestionVector } from "./vector-store.ts";

export type DocumentStatus = "processing" | "ready" | "failed";

export interface DocumentRecord {
  id: string;
  collection: string;
  name: string;
  /** Whose it is alone; null for one of the whole workspace. */
  user_id: string | null;
  /** How its newest revision stands; an older one that is ready is searched until that takes its place. */
  status: DocumentStatus;
  /** How much of the newest revision is stored, 0 to 1. */
  progress: number;
  error: { code: ErrorCode; message: string } | null;
  /** Counts revisions, from 1. */
  version: number;
  media_type: string;
  metadata: Metadata;
  /** Of the upload. */
  bytes: number;
  /** Of the text, in UTF-16 code units; 0 until it is ready. */
  length: number;
  passage_count: number;
  created_at: number;
  updated_at: number;
}

/** Whose documents a call may touch; a null user_id means all of the workspace, private ones of any user too. */
export interface DocumentScope {
  workspace_id: string;
  user_id: string | null;
}

export interface NewRevision {
  document_id: string;
  revision_id: string;
  collection: string;
  name: string;
  /** Whose it will be; null for the whole workspace. */
  owner: string | null;
  media_type: string;
  metadata: Metadata;
  /** Of the upload's bytes. */
  content_hash: string;
  bytes: number;
  now_ms: number;
}

export interface BegunRevision {
  document: DocumentRecord;
  /** The same content with the same metadata is there already, or on its way: nothing was changed. */
  unchanged: boolean;
  /** Whether the document is new. */
  created: boolean;
}

/** A revision whose upload is still to be made into passages. */
export interface RevisionToProcess {
  revision_id: string;
  document_id: string;
  name: string;
  media_type: string;
}

/**
 * Somebody's storing of a revision, until it is finished, has failed or is gone, or somebody else begins to store it: from
 * then on they find it gone, however late they come.
 */
export interface RevisionAttempt {
  revision_id: string;
  attempt: number;
}

/** A piece of a document's text, as it is searched and cited: `text` is the document's from `start` to `end`. */
export interface NewPassage {
  /** Its place among the document's passages, from 1. */
  seq: number;
  start: number;
  end: number;
  /** The headings above it, outermost first, joined by ` > `. */
  heading: string;
  text: string;
  tokens: number;
}

/** A stretch of a document's text. */
export interface TextPart {
  start: number;
  text: string;
}

/** A position in the order of documents: the last one a client has seen. */
export interface DocumentCursor {
  updated_at: number;
  id: string;
}

export interface DocumentQuery {
  /** Null lists all collections. */
  collection: string | null;
  /** Null lists those of the workspace and of all users in scope. */
  user_id: string | null;
  limit: number;
  after: DocumentCursor | null;
}

export interface DocumentPage {
  /** Last changed first. */
  documents: DocumentRecord[];
  next: DocumentCursor | null;
}

/** A question to the documents that a user may see: those of the workspace and their own. */
export interface PassageQuery {
  workspace_id: string;
  /** Whose own documents are searched too; null searches those of the workspace alone. */
  user_id: string | null;
  q: string;
  /** The question as the embedding model has it; null where there is none. */
  vector: QuestionVector | null;
  /** Null searches all of them. */
  collections: string[] | null;
  /** Pairs that a document's metadata must hold. */
  filter: Metadata | null;
  limit: number;
}

/** A passage that was found: `quote` is exactly the document's text from `start` to `end`, in UTF-16 code units. */
export interface FoundPassage {
  document_id: string;
  name: string;
  heading: string;
  quote: string;
  start: number;
  end: number;
  tokens: number;
  score: number;
  /** Which part of the question it holds, in words or in meaning, 0 to 1. */
  coverage: number;
}

export interface DocumentStore {
  /** Begins a document or a new revision of one, and keeps the upload until it is processed. */
  beginRevision(workspaceId: string, revision: NewRevision, upload: Uint8Array): Promise<BegunRevision>;
  /** Revisions that were begun and neither finished nor failed, oldest first. */
  revisionsToProcess(): Promise<RevisionToProcess[]>;
  /** The bytes of a revision that is being processed; null where it is gone, because its document was deleted. */
  upload(revisionId: string): Promise<Uint8Array | null>;
  /**
   * Begins to store a revision, or begins again: nothing is stored of it then, and whoever was at it before is shut out.
   * Null where the revision is gone.
   */
  beginAttempt(revisionId: string): Promise<RevisionAttempt | null>;
  /**
   * Adds to a revision, in the order of the calls; the same again changes nothing. What starts and ends turns goes first.
   * False where the revision is gone.
   */
  addToRevision(
    attempt: RevisionAttempt,
    parts: TextPart[],
    passages: NewPassage[],
    progress: number,
  ): Promise<boolean>;
  /** Makes a revision the document's present one, in one step; null where it is gone. */
  finishRevision(
    attempt: RevisionAttempt,
    mediaType: string,
    length: number,
    nowMs: number,
  ): Promise<DocumentRecord | null>;
  /** Ends a revision that can't be processed. @param keep false forgets it, and the document if it has no other */
  failRevision(
    attempt: RevisionAttempt,
    error: { code: ErrorCode; message: string },
    keep: boolean,
    nowMs: number,
  ): Promise<void>;
  /** Clears away some of what was replaced, deleted or has failed; true where there is more. */
  clearWaste(): Promise<boolean>;

  document(scope: DocumentScope, id: string): Promise<DocumentRecord | null>;
  documents(scope: DocumentScope, query: DocumentQuery): Promise<DocumentPage>;
  /** A document's text from a place on, in parts, each as it was stored; none where there is no more. */
  documentText(scope: DocumentScope, id: string, from: number): Promise<TextPart | null>;
  /**
   * Nothing finds it any more when this resolves; its text is waste, to be cleared. False where there is none, and where
   * a scope of one user meets one of the whole workspace.
   */
  deleteDocument(scope: DocumentScope, id: string): Promise<boolean>;

  /** Passages that bear on a question, best first. Whatever stands in `q` is words. */
  searchPassages(query: PassageQuery): Promise<FoundPassage[]>;
}
