/**
 * Statements that keep the records of an archive, all in one transaction of whoever calls. What is derived from a
 * record is made with it: counts, places, the full-text indexes. Vectors are made when the database is served.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { following, foundAs, refused, type Table, unknownUser, unknownWorkspace } from "../archive-rules.ts";
import type {
  ArchivedMemory,
  ArchivedUser,
  ArchivedWorkspace,
  ArchiveRecord,
  ArchiveRecordType,
  Kept,
} from "../archive-store.ts";
import type { ArchiveContext, Keepers } from "./archive-context.ts";
import { createConversationKeepers } from "./archive-conversations.ts";
import { createDocumentKeepers } from "./archive-documents.ts";
import { createLedgerKeepers } from "./archive-ledger.ts";

/** FTS5 is given so many rows at once: between other statements it writes out all that it holds. */
const indexedAtOnce = 512;

export function createArchiveWrites(db: Database) {
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);
  const lastOf = (table: Table): number =>
    statement(`select coalesce(max(n), 0) as n from ${table}`).get({})!.n as number;
  // What has a later row was kept by this import.
  const before: Record<Table, number> = {
    users: lastOf("users"),
    conversations: lastOf("conversations"),
    memories: lastOf("memories"),
    documents: lastOf("documents"),
  };

  const findWorkspace = statement("select id from workspaces where id = $id");
  const workspaceInUse = statement(`select 1 from users where workspace_id = $id
    union all select 1 from documents where workspace_id = $id limit 1`);
  const saveWorkspace =
    statement(`insert into workspaces (id, name, created_at) values ($id, $name, $created_at)
    on conflict (id) do update set name = excluded.name, created_at = excluded.created_at`);
  const findUser = statement("select n from users where workspace_id = $workspace_id and user_id = $user_id");
  const insertUser = statement(`insert into users
    (workspace_id, user_id, display_name, language, timezone, instructions, metadata, created_at, updated_at) values
    ($workspace_id, $user_id, $display_name, $language, $timezone, $instructions, $metadata, $created_at, $updated_at)`);
  const findMemory = statement("select n from memories where id = $id");
  const insertMemory = statement(`insert into memories
    (id, user_n, text, kind, slot, tokens, source_message_id, superseded_by, uses, used_at, created_at, updated_at)
    values ($id, $user_n, $text, $kind, $slot, $tokens, $source_message_id, $superseded_by, $uses, $used_at,
      $created_at, $updated_at)`);

  let toIndex: (() => void)[] = [];

  function writeIndexes(): void {
    for (const add of toIndex) add();
    toIndex = [];
  }

  const context: ArchiveContext = {
    found: (table, row) => foundAs(row?.n as number | undefined, before[table]),
    userOf: (workspace_id, user_id) =>
      (findUser.get({ workspace_id, user_id })?.n as number | undefined) ?? null,
    hasWorkspace: (id) => findWorkspace.get({ id }) !== null,
    index(add) {
      toIndex.push(add);
      if (toIndex.length >= indexedAtOnce) writeIndexes();
    },
  };
  const ledger = createLedgerKeepers(db, context);
  const conversations = createConversationKeepers(db, context, ledger.turnEntry);
  const documents = createDocumentKeepers(db, context);

  const keepers: Keepers<ArchiveRecordType> = {
    ...conversations.keepers,
    ...documents.keepers,
    ...ledger.keepers,

    workspace({ type: _, ...workspace }: ArchivedWorkspace) {
      const { id } = workspace;
      // A new database has one, which nobody has used.
      if (context.hasWorkspace(id) && workspaceInUse.get({ id }) !== null) return "known";
      saveWorkspace.run(workspace);
      return "kept";
    },

    user({ type: _, metadata, ...user }: ArchivedUser) {
      if (!context.hasWorkspace(user.workspace_id)) return unknownWorkspace;
      const { workspace_id, user_id } = user;
      const known = context.found("users", findUser.get({ workspace_id, user_id }));
      if (known !== null) return known;
      insertUser.run({ ...user, metadata: JSON.stringify(metadata) });
      return "kept";
    },

    memory({ type: _, workspace_id, user_id, ...memory }: ArchivedMemory) {
      const user_n = context.userOf(workspace_id, user_id);
      if (user_n === null) return unknownUser;
      const known = context.found("memories", findMemory.get({ id: memory.id }));
      if (known !== null) return known;
      insertMemory.run({ ...memory, user_n });
      return "kept";
    },
  };

  /** Completes what has come to its end; why that can't be done, or null. */
  function endGroups(): string | null {
    documents.end();
    return conversations.end();
  }

  return {
    keep(record: ArchiveRecord): Kept {
      const fault = following.has(record.type) ? null : endGroups();
      if (fault !== null) return refused(`before it, ${fault}`);
      return (keepers[record.type] as (record: ArchiveRecord) => Kept)(record);
    },

    /** Completes all that has come; why that can't be done, or null. */
    complete(): string | null {
      const fault = endGroups();
      writeIndexes();
      return fault;
    },
  };
}
