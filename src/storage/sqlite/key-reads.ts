/** Queries about keys. They run in the server's thread. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { KeyPage, KeyQuery, KeyRecord } from "../key-store.ts";

export const keyColumns =
  "id, name, workspace_id, role, user_id, created_at, expires_at, last_used_at, revoked_at";

export function createKeyReads(db: Database) {
  const byHash = db.query<KeyRecord, SQLQueryBindings>(
    `select ${keyColumns} from keys where secret_hash = $hash`,
  );
  const page = (where: string) =>
    db.query<KeyRecord, SQLQueryBindings>(
      `select ${keyColumns} from keys where ${where} and ($after is null or id < $after)
       order by id desc limit $limit`,
    );
  const pageOfAll = page("true");
  const pageOfWorkspace = page("workspace_id = $workspace_id");
  const revokedSince = db.query<{ id: string }, SQLQueryBindings>(
    "select id from keys where revoked_at >= $at",
  );
  const anyKey = db.query<{ n: number }, []>("select n from keys limit 1");
  const workspace = db.query<{ id: string }, SQLQueryBindings>("select id from workspaces where id = $id");

  return {
    keyOfHash: (hash: string): KeyRecord | null => byHash.get({ hash }),

    keys(workspace_id: string | null, { limit, after }: KeyQuery): KeyPage {
      const query = { after, limit: limit + 1 };
      const rows =
        workspace_id === null ? pageOfAll.all(query) : pageOfWorkspace.all({ ...query, workspace_id });
      const keys = rows.slice(0, limit);
      return { keys, next: rows.length > limit ? keys.at(-1)!.id : null };
    },

    keysRevokedSince: (at: number): string[] => revokedSince.all({ at }).map(({ id }) => id),

    hasKeys: (): boolean => anyKey.get() !== null,

    hasWorkspace: (id: string): boolean => workspace.get({ id }) !== null,
  };
}
