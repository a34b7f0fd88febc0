/** Where pages of memories go on. */
import { cursorKind } from "../http/cursor.ts";

/** The last memory of a page: its id. */
export const memoryCursor = cursorKind(
  "memory-cursor",
  (value): value is [id: string] =>
    Array.isArray(value) && value.length === 1 && typeof value[0] === "string",
);
