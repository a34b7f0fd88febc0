/** API keys, and the workspaces that they are for. */
import type { KeyRecord, KeyStore, OpenKeys } from "../key-store.ts";
import { type Database, toJson } from "./database.ts";
import { openDatabase } from "./open.ts";

const keyColumns = `id, name, workspace_id, role, user_id, created_at::float8, expires_at::float8, last_used_at::float8,
  revoked_at::float8`;
/** Workspaces that are known to be there: they stay, and each request with a user's token asks. */
const knownWorkspacesMax = 10_000;

export function createKeys(database: Database): KeyStore {
  const knownWorkspaces = new Set<string>();

  return {
    async createKey({ now_ms, ...key }) {
      const [record] = await database.change<KeyRecord>(
        `with workspace as (
           insert into workspaces (id, name, created_at) values ($workspace_id, $workspace_id, $now::int8)
           on conflict do nothing)
         insert into keys (id, secret_hash, name, workspace_id, role, user_id, created_at, expires_at)
         values ($id, $secret_hash, $name, $workspace_id, $role, $user_id, $now::int8, $expires_at::int8)
         returning ${keyColumns}`,
        { ...key, now: Math.floor(now_ms / 1000) },
      );
      return record!;
    },

    keyOfHash: (hash) =>
      database.row<KeyRecord>(`select ${keyColumns} from keys where secret_hash = $hash`, { hash }),

    async keys(workspace_id, { limit, after }) {
      const rows = await database.rows<KeyRecord>(
        `select ${keyColumns} from keys
         where ($workspace_id::text is null or workspace_id = $workspace_id) and ($after::text is null or id < $after)
         order by id desc limit $limit::int4`,
        { workspace_id, after, limit: limit + 1 },
      );
      const keys = rows.slice(0, limit);
      return { keys, next: rows.length > limit ? keys.at(-1)!.id : null };
    },

    revokeKey: (workspace_id, id, nowMs) =>
      database.row<KeyRecord>(
        `update keys set revoked_at = coalesce(revoked_at, $now::int8)
         where id = $id and ($workspace_id::text is null or workspace_id = $workspace_id) returning ${keyColumns}`,
        { workspace_id, id, now: Math.floor(nowMs / 1000) },
      ),

    async keysRevokedSince(at) {
      const rows = await database.rows<{ id: string }>("select id from keys where revoked_at >= $at::int8", {
        at,
      });
      return rows.map(({ id }) => id);
    },

    async noteKeyUses(uses) {
      // Locked in one order: another instance notes the same keys.
      await database.rows(
        `with used as (
           select k.n, u.at from json_to_recordset($uses::text::json) u (id text, at bigint) join keys k on k.id = u.id
           where k.last_used_at is null or k.last_used_at < u.at order by k.n for update of k)
         update keys set last_used_at = used.at from used where keys.n = used.n`,
        { uses: toJson(uses) },
      );
    },

    async hasKeys() {
      const row = await database.row<{ found: boolean }>("select exists (select from keys) as found");
      return row!.found;
    },

    async hasWorkspace(id) {
      if (knownWorkspaces.has(id)) return true;
      const row = await database.row("select 1 as found from workspaces where id = $id", { id });
      if (row === null) return false;
      if (knownWorkspaces.size >= knownWorkspacesMax) knownWorkspaces.clear();
      knownWorkspaces.add(id);
      return true;
    },
  };
}

/** Opens the keys of a database for a command, and makes its tables where there are none. @throws StorageUnusableError */
export async function openPostgresKeys(url: string): Promise<OpenKeys> {
  const database = await openDatabase(url, {
    name: "parley keys",
    connectionsMax: 1,
    waitingMax: 10,
    statementSecondsMax: 30,
    waitSecondsMax: 10,
  });
  const { createKey, keys, revokeKey } = createKeys(database);
  return { createKey, keys, revokeKey, close: () => database.close() };
}
