/** Where pages of documents go on. */
import { cursorKind } from "../http/cursor.ts";

/** The last document of a page, in the order of change. */
export const documentCursor = cursorKind(
  "document-cursor",
  (value): value is [updated_at: number, id: string] =>
    Array.isArray(value) &&
    value.length === 2 &&
    Number.isSafeInteger(value[0]) &&
    typeof value[1] === "string",
);
