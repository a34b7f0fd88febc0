/** Cursors are opaque: clients hand them back as they got them. */

/** A list of parts as a cursor. */
export const toCursor = (...parts: (string | number)[]): string =>
  Buffer.from(JSON.stringify(parts)).toString("base64url");

/** The parts of a cursor; null where it isn't one of ours. */
export function fromCursor(cursor: string): unknown[] | null {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString());
    return Array.isArray(parts) && toCursor(...parts) === cursor ? parts : null;
  } catch {
    return null;
  }
}
