/**
 * The part of the storage port that keeps the data: whole backups, records to move elsewhere, and their expiry.
 *
 * An archive is all that is kept and can't be made of the rest, record by record, each after those that it names. What
 * is derived (indexes, vectors, counts) and what belongs to this installation alone (secrets, API keys, whose hashes are
 * such, what running turns have reserved, and idempotency keys, which are worth nothing two days later) is no part of
 * it. A new kind of record is added to `ArchiveRecord` here, to `keeping/schema.ts`, and to what the adapters read and
 * write, where its absence is then a fault of types.
 */
import type { ErrorCode } from "../errors.ts";
import type { BudgetRecord } from "./budget-store.ts";
import type { DocumentStatus } from "./document-store.ts";
import type { MemoryRecord, ProfileRecord, Summary } from "./memory-store.ts";
import type { Citation, FinishReason, Metadata, Receipt, TurnStatus, Usage } from "./store.ts";
import type { Spent } from "./usage-store.ts";

export interface ArchivedWorkspace {
  type: "workspace";
  id: string;
  name: string;
  created_at: number;
}

export interface ArchivedUser extends ProfileRecord {
  type: "user";
  workspace_id: string;
}

/** Its turns follow it, oldest first. */
export interface ArchivedConversation {
  type: "conversation";
  id: string;
  workspace_id: string;
  user_id: string;
  title: string | null;
  /** Whether it was given, and is searched; one that was made from a message isn't. */
  title_given: boolean;
  metadata: Metadata;
  summary: Summary;
  created_at: number;
  updated_at: number;
  /** Unix milliseconds: what conversations are ordered by. */
  last_active_ms: number;
}

/** A turn with both of its messages and its row of the ledger. One that ran at the time ends as interrupted where it is served. */
export interface ArchivedTurn {
  type: "turn";
  id: string;
  conversation_id: string;
  status: TurnStatus;
  model: string;
  finish_reason: FinishReason | null;
  message: { id: string; content: string; tokens: number };
  reply: {
    id: string;
    content: string;
    tokens: number;
    sources: string[];
    citations: Citation[];
    /** Whether recall may find it. */
    recallable: boolean;
  };
  memories_used: string[];
  usage: Usage;
  spent: Spent;
  /** The key that paid; null where nobody knows any more. */
  key_id: string | null;
  error: { code: ErrorCode; message: string } | null;
  receipt: Receipt | null;
  use_memory: boolean;
  /** Whether memories are still to be drawn from it. */
  to_remember: boolean;
  created_at: number;
  ended_at: number | null;
}

export interface ArchivedMemory extends MemoryRecord {
  type: "memory";
  workspace_id: string;
  user_id: string;
}

/** A document with its present revision. Its text follows it, then its passages. */
export interface ArchivedDocument {
  type: "document";
  id: string;
  workspace_id: string;
  user_id: string | null;
  collection: string;
  name: string;
  created_at: number;
  updated_at: number;
  revision: {
    id: string;
    version: number;
    status: Exclude<DocumentStatus, "processing">;
    media_type: string;
    metadata: Metadata;
    /** Of the upload's bytes, which are kept no longer than it takes to read them. */
    content_hash: string;
    bytes: number;
    error: { code: ErrorCode; message: string } | null;
    created_at: number;
    ended_at: number | null;
  };
}

/** A stretch of a document's text; the next one begins where it ends. */
export interface ArchivedText {
  type: "document_text";
  document_id: string;
  start: number;
  text: string;
}

/** Some of a document's passages, in their order: what each says is the document's text from `start` to `end`. */
export interface ArchivedPassages {
  type: "document_passages";
  document_id: string;
  passages: { start: number; end: number; heading: string; tokens: number }[];
}

/**
 * A row of the ledger that is no turn's here: of a conversation that was deleted, of a user who was erased, or of a request
 * in the background. It has no id: equal ones are counted, so that each of the file finds at most one that is there.
 */
export interface ArchivedEntry extends Spent, Usage {
  type: "ledger_entry";
  kind: "turn" | "memory" | "summary";
  workspace_id: string;
  /** Null where they were erased; nothing of them is left in it then. */
  user_id: string | null;
  key_id: string | null;
  conversation_id: string | null;
  model: string;
  status: Exclude<TurnStatus, "running">;
  created_at: number;
}

export interface ArchivedBudget extends BudgetRecord {
  type: "budget";
}

/** What was spent of one's budgets in a day or a month. */
export interface ArchivedCounter {
  type: "budget_counter";
  /** Stands for whose it is. */
  scope: string;
  /** 2026-11-24 or 2026-11. */
  period: string;
  used_tokens: number;
  used_nano_usd: number;
}

export type ArchiveRecord =
  | ArchivedWorkspace
  | ArchivedUser
  | ArchivedConversation
  | ArchivedTurn
  | ArchivedMemory
  | ArchivedDocument
  | ArchivedText
  | ArchivedPassages
  | ArchivedEntry
  | ArchivedBudget
  | ArchivedCounter;

export type ArchiveRecordType = ArchiveRecord["type"];

export interface ArchiveExport {
  /** Documents that have no text yet, because they are still being processed: these are left out. */
  readonly pending: number;
  /** All records as of one moment, however long it takes. @throws storage_unavailable */
  records(): AsyncGenerator<ArchiveRecord, void, void>;
  close(): Promise<void>;
}

/**
 * What became of a record: it is new here; its id is there already, and nothing was changed; or why it can't be kept,
 * in words that follow "line 7: ".
 */
export type Kept = "kept" | "known" | { refused: string };

export interface ArchiveImport {
  /** Takes the next record, in an archive's order. @throws storage_unavailable */
  keep(record: ArchiveRecord): Promise<Kept>;
  /** Commits all records at once; until then, nothing has changed. Why it can't be done, or null. */
  finish(): Promise<string | null>;
  /** Where it isn't finished, all is as it was. */
  close(): Promise<void>;
}

/** Hears how far it has come, 0 to 1. */
export type OnProgress = (part: number) => void;

export interface BackupOptions {
  /** Puts the backup in the place of a file that is there. */
  force: boolean;
  onProgress: OnProgress;
  /** Ends it; nothing is left behind then. */
  signal: AbortSignal;
}

export interface Restored {
  /** Where what was there before is kept: a backup itself, but for a damaged database, which is kept as it was. */
  replaced: string | null;
}

/**
 * What is done with a data directory as a whole, from outside of a service, while one runs or not. All of it throws
 * StorageUnusableError, with a reason for whoever asked.
 */
export interface Keeping {
  /**
   * Writes a backup: a database of its own, with all that was committed before the call, and the uploads that are still
   * being processed in it. A service goes on meanwhile. The file has its name only when all of it is on the disk.
   * @throws BackupRunningError where another one is being taken
   */
  backup(target: string, options: BackupOptions): Promise<void>;
  /** The same as a stream, from a file that has no name any more, so that nothing is left whatever happens. */
  streamBackup(options: Omit<BackupOptions, "force">): AsyncGenerator<Uint8Array, void, void>;
  /**
   * Puts a backup in place, after it was found whole. Refused while a service runs, and where there is a database
   * unless forced.
   */
  restore(file: string, options: { force: boolean; onProgress: OnProgress }): Promise<Restored>;
  export(): Promise<ArchiveExport>;
  /** Refused while a service runs. */
  import(): Promise<ArchiveImport>;
}

export interface RetentionStore {
  /**
   * Deletes conversations of any workspace whose last message is older than a time, but none with a running turn; how
   * many it were. Memories that were drawn from them stay, without their source.
   * @param beforeMs unix milliseconds
   * @param limit at most so many; fewer were deleted only where there are no more
   */
  deleteInactiveConversations(beforeMs: number, limit: number): Promise<number>;
}
