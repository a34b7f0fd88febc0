/** What those who keep the records of an archive share: see writes.ts. */
import type { ArchiveRecord, ArchiveRecordType, Kept } from "../../archive-store.ts";
import type { Queries } from "../database.ts";

/** The last rows before the import: what has a later one was kept by it. */
export interface LastRows {
  users: number;
  conversations: number;
  memories: number;
  documents: number;
  usage: number;
}

export type Keepers<Types extends ArchiveRecordType> = {
  [Type in Types]: (record: Extract<ArchiveRecord, { type: Type }>) => Promise<Kept>;
};

/** The row of a user, as part of a query with `$workspace_id` and `$user_id`. */
export const userN =
  "(select n::float8 from users where workspace_id = $workspace_id and user_id = $user_id) as user_n";

/** Tables that are there as long as the import is. */
export async function createNotes({ rows }: Queries): Promise<void> {
  await rows("create temp table imported_messages (id text primary key) on commit drop");
  await rows("create temp table imported_budgets (name text primary key) on commit drop");
  await rows("create temp table taken_entries (entry text primary key, n bigint not null) on commit drop");
}
