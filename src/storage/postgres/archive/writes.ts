/**
 * Keeps the records of an archive, all in one transaction of whoever calls. What is derived from a record is made with
 * it: counts, places, the full-text indexes. Vectors are made when the database is served.
 */
import { following, foundAs, refused, unknownUser, unknownWorkspace } from "../../archive-rules.ts";
import type {
  ArchivedMemory,
  ArchivedUser,
  ArchivedWorkspace,
  ArchiveRecord,
  ArchiveRecordType,
  Kept,
} from "../../archive-store.ts";
import { type Queries, toJson } from "../database.ts";
import { createNotes, type Keepers, type LastRows, userN } from "./context.ts";
import { createConversationKeepers } from "./conversations.ts";
import { createDocumentKeepers } from "./documents.ts";
import { createLedgerKeepers } from "./ledger.ts";

export interface ArchiveWrites {
  keep(record: ArchiveRecord): Promise<Kept>;
  /** Completes all that has come; why that can't be done, or null. */
  complete(): Promise<string | null>;
}

export async function createArchiveWrites(queries: Queries): Promise<ArchiveWrites> {
  const { rows, row } = queries;
  const last = (table: string): string => `(select coalesce(max(n), 0)::float8 from ${table}) as ${table}`;
  const before = (await row<LastRows>(
    `select ${["users", "conversations", "memories", "documents", "usage"].map(last).join()}`,
  ))!;
  await createNotes(queries);
  const ledger = createLedgerKeepers(queries, before);
  const conversations = createConversationKeepers(queries, before, ledger.turnEntry);
  const documents = createDocumentKeepers(queries, before);

  const keepers: Keepers<ArchiveRecordType> = {
    ...conversations.keepers,
    ...documents.keepers,
    ...ledger.keepers,

    async workspace({ type: _, ...workspace }: ArchivedWorkspace) {
      // A new database has one, which nobody has used.
      const kept = await rows(
        `insert into workspaces (id, name, created_at) values ($id, $name, $created_at::int8)
         on conflict (id) do update set name = excluded.name, created_at = excluded.created_at
           where not exists (select from users where workspace_id = $id)
             and not exists (select from documents where workspace_id = $id)
         returning 1`,
        workspace,
      );
      return kept.length > 0 ? "kept" : "known";
    },

    async user({ type: _, metadata, ...user }: ArchivedUser) {
      const { workspace_id, user_id } = user;
      const there = await row<{ known: boolean; user_n: number | null }>(
        `select exists (select from workspaces where id = $workspace_id) as known, ${userN}`,
        { workspace_id, user_id },
      );
      if (!there!.known) return unknownWorkspace;
      const known = foundAs(there!.user_n, before.users);
      if (known !== null) return known;
      await rows(
        `insert into users (workspace_id, user_id, display_name, language, timezone, instructions, metadata, created_at,
           updated_at)
         values ($workspace_id, $user_id, $display_name, $language, $timezone, $instructions, $metadata::text::json,
           $created_at::int8, $updated_at::int8)`,
        { ...user, metadata: toJson(metadata) },
      );
      return "kept";
    },

    async memory({ type: _, workspace_id, user_id, ...memory }: ArchivedMemory) {
      const there = await row<{ n: number | null; user_n: number | null }>(
        `select (select n::float8 from memories where id = $id) as n, ${userN}`,
        { id: memory.id, workspace_id, user_id },
      );
      const { user_n } = there!;
      if (user_n === null) return unknownUser;
      const known = foundAs(there!.n, before.memories);
      if (known !== null) return known;
      await rows(
        `insert into memories (id, user_n, text, kind, slot, tokens, source_message_id, superseded_by, uses, used_at,
           created_at, updated_at)
         values ($id, $user_n::int8, $text, $kind, $slot, $tokens::int4, $source_message_id, $superseded_by, $uses::int4,
           $used_at::int8, $created_at::int8, $updated_at::int8)`,
        { ...memory, user_n },
      );
      return "kept";
    },
  };

  /** Completes what has come to its end; why that can't be done, or null. */
  async function endGroups(): Promise<string | null> {
    await documents.end();
    return await conversations.end();
  }

  return {
    async keep(record) {
      const fault = following.has(record.type) ? null : await endGroups();
      if (fault !== null) return refused(`before it, ${fault}`);
      return await (keepers[record.type] as (record: ArchiveRecord) => Promise<Kept>)(record);
    },

    async complete() {
      const fault = await endGroups();
      await conversations.writeIndex();
      return fault;
    },
  };
}
