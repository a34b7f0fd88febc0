/** What those who keep the records of an archive share: see archive-writes.ts. */
import type { Table } from "../archive-rules.ts";
import type { ArchiveRecord, ArchiveRecordType, Kept } from "../archive-store.ts";

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

export type Keepers<Types extends ArchiveRecordType> = {
  [Type in Types]: (record: Extract<ArchiveRecord, { type: Type }>) => Kept;
};
