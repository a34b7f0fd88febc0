/**
 * The words that stand for what a row of an index belongs to. They are in a column of their own, so that a search is
 * limited to a user, a collection or a pair of metadata by the index itself.
 */
import { createHash } from "node:crypto";

/**
 * What each word begins with in an index, so that a look-up goes through the words of its own scope alone: a number,
 * after how many digits it has, which makes no code the beginning of another.
 * @param n the row of a user, for messages, or of a scope of documents
 */
export function scopeCode(n: number): string {
  const digits = String(n);
  return digits.length + digits;
}

/** Words, separated by single spaces, each with a code before it. */
export const withCode = (code: string, words: string): string =>
  words === "" ? "" : code + words.replaceAll(" ", ` ${code}`);

export const collectionToken = (name: string): string => hashed("c", name);
export const metadataToken = (key: string, value: string): string => hashed("m", key, value);

/** What a document's passages have in their scope. */
export const documentScope = (
  scope_n: number,
  collection: string,
  metadata: Readonly<Record<string, string>>,
): string =>
  [
    scopeCode(scope_n),
    collectionToken(collection),
    ...Object.entries(metadata).map(([key, value]) => metadataToken(key, value)),
  ].join(" ");

/** Names may hold anything, tokens letters and digits only. 80 bits of SHA-256 don't collide. */
function hashed(kind: string, ...parts: string[]): string {
  return kind + createHash("sha256").update(parts.join("\0")).digest("hex").slice(0, 20);
}
