/** What those who keep the records of an archive share: see archive-writes.ts. */
import type { ArchiveRecord, ArchiveRecordType, Kept } from "../archive-store.ts";

/** What has ids, in tables with rows in the order in which they came. */
export type Table = "users" | "conversations" | "memories" | "documents";

/** What the keepers of records share. */
export interface ArchiveContext {
  /** What a record finds of its id: null where there is nothing, else what to answer. */
  found(table: Table, row: { n?: unknown } | null): Kept | null;
  /** The row of a user; null where there is none. */
  userOf(workspace_id: string, user_id: string): number | null;
  hasWorkspace(id: string): boolean;
  /** Adds to a full-text index, soon. */
  index(add: () => void): void;
}

export const refused = (why: string): Kept => ({ refused: why });
export const unknownUser = refused("its user is neither in the file before it nor in the database");
export const unknownWorkspace = refused("its workspace is neither in the file before it nor in the database");

/** A conversation or a document whose records follow. */
export interface Group {
  id: string;
  /** False where it is there already: what belongs to it is passed over. */
  isNew: boolean;
}

export type Keepers<Types extends ArchiveRecordType> = {
  [Type in Types]: (record: Extract<ArchiveRecord, { type: Type }>) => Kept;
};
