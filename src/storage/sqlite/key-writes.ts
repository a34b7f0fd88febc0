/** Statements that write keys: see writes.ts for how they are run. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { KeyRecord, KeyUse, NewKey } from "../key-store.ts";
import { keyColumns } from "./key-reads.ts";

export function createKeyWrites(db: Database) {
  const insertWorkspace = db.query<null, SQLQueryBindings>(
    "insert into workspaces (id, name, created_at) values ($id, $id, $now) on conflict do nothing",
  );
  const insertKey = db.query<KeyRecord, SQLQueryBindings>(`insert into keys
    (id, secret_hash, name, workspace_id, role, user_id, created_at, expires_at)
    values ($id, $secret_hash, $name, $workspace_id, $role, $user_id, $now, $expires_at) returning ${keyColumns}`);
  const revoke = db.query<KeyRecord, SQLQueryBindings>(`update keys
    set revoked_at = coalesce(revoked_at, $now) 
    where id = $id and ($workspace_id is null or workspace_id = $workspace_id) returning ${keyColumns}`);
  const noteUse = db.query<null, SQLQueryBindings>(
    "update keys set last_used_at = $at where id = $id and (last_used_at is null or last_used_at < $at)",
  );

  return {
    createKey({ now_ms, ...key }: NewKey): KeyRecord {
      const now = Math.floor(now_ms / 1000);
      insertWorkspace.run({ id: key.workspace_id, now });
      return insertKey.get({ ...key, now })!;
    },

    revokeKey(workspace_id: string | null, id: string, nowMs: number): KeyRecord | null {
      return revoke.get({ workspace_id, id, now: Math.floor(nowMs / 1000) });
    },

    noteKeyUses(uses: KeyUse[]): void {
      for (const use of uses) noteUse.run({ ...use });
    },
  };
}
