/**
 * The part of the storage port that keeps API keys, and the workspaces that they are for. It never sees a key's text,
 * only its hash. All instances of a service share it: a key that one of them revokes is revoked.
 */

/** `admin` manages keys; `service` acts for any user of its workspace; `user` is bound to one. */
export type Role = "admin" | "service" | "user";

export interface KeyRecord {
  id: string;
  name: string;
  workspace_id: string;
  role: Role;
  /** Whom a key of role `user` is bound to; null for the others. */
  user_id: string | null;
  created_at: number;
  /** It works until then; null where it doesn't expire. */
  expires_at: number | null;
  /** Noted about once a minute; null where it was never used. */
  last_used_at: number | null;
  /** It works no more since then; null where it was not revoked. */
  revoked_at: number | null;
}

export interface NewKey {
  id: string;
  /** SHA-256 of the key's text, in hex. */
  secret_hash: string;
  name: string;
  /** Comes into being where there is none of this name. */
  workspace_id: string;
  role: Role;
  user_id: string | null;
  expires_at: number | null;
  now_ms: number;
}

export interface KeyQuery {
  limit: number;
  /** The id that the page before ended with. */
  after: string | null;
}

export interface KeyPage {
  /** Newest first, those too that don't work any more. */
  keys: KeyRecord[];
  /** The id to go on after; null on the last page. */
  next: string | null;
}

/** That a key was used. */
export interface KeyUse {
  id: string;
  at: number;
}

export interface KeyStore {
  createKey(key: NewKey): Promise<KeyRecord>;
  /** The key with this hash, whether it works or not. */
  keyOfHash(secretHash: string): Promise<KeyRecord | null>;
  /** @param workspaceId null lists those of all workspaces */
  keys(workspaceId: string | null, query: KeyQuery): Promise<KeyPage>;
  /** Null where the workspace (null: any) has no such key; one that was revoked before stays as it is. */
  revokeKey(workspaceId: string | null, id: string, nowMs: number): Promise<KeyRecord | null>;
  /** Keys that were revoked at a time or after it. */
  keysRevokedSince(at: number): Promise<string[]>;
  /** Notes when keys were last used; nobody waits for that. */
  noteKeyUses(uses: KeyUse[]): Promise<void>;
  /** Whether there has ever been a key, one that works or not. */
  hasKeys(): Promise<boolean>;
  hasWorkspace(id: string): Promise<boolean>;
}

/** The keys for commands: beside services that run, or before the first one has. */
export type OpenKeys = Pick<KeyStore, "createKey" | "keys" | "revokeKey"> & { close(): Promise<void> };
