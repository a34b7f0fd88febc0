/**
 * The words that stand for what a row of an index belongs to. They are in a column of their own, so that a search is
 * limited to a user, a collection or a pair of metadata by the index itself.
 */
import { createHash } from "node:crypto";

/** What stands for a user. @param n the user's row */
export const userToken = (n: number): string => `u${n}`;

/** What stands for no user: a document of the whole workspace. */
export const sharedToken = "shared";

export const workspaceToken = (id: string): string => hashed("w", id);
export const collectionToken = (name: string): string => hashed("c", name);
export const metadataToken = (key: string, value: string): string => hashed("m", key, value);

/** What a document's passages have in their scope. @param user_n its owner's row; null for the whole workspace */
export const documentScope = (
  workspaceId: string,
  user_n: number | null,
  collection: string,
  metadata: Readonly<Record<string, string>>,
): string =>
  [
    workspaceToken(workspaceId),
    user_n === null ? sharedToken : userToken(user_n),
    collectionToken(collection),
    ...Object.entries(metadata).map(([key, value]) => metadataToken(key, value)),
  ].join(" ");

/** Names may hold anything, tokens letters and digits only. 80 bits of SHA-256 don't collide. */
function hashed(kind: string, ...parts: string[]): string {
  return kind + createHash("sha256").update(parts.join("\0")).digest("hex").slice(0, 20);
}
