/** Where pages of keys go on. */
import { cursorKind } from "../http/cursor.ts";

/** The last key of a page: its id. */
export const keyCursor = cursorKind(
  "key-cursor",
  (value): value is [id: string] =>
    Array.isArray(value) && value.length === 1 && typeof value[0] === "string",
);
