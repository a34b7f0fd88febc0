/** Where pages of conversations and messages go on. */
import { cursorKind } from "../http/cursor.ts";

/** The last conversation of a page, in the order of activity: when it was active, and its id. */
export const conversationCursor = cursorKind(
  "conversation-cursor",
  (value): value is [last_active_ms: number, id: string] =>
    Array.isArray(value) &&
    value.length === 2 &&
    Number.isSafeInteger(value[0]) &&
    typeof value[1] === "string",
);

/** The oldest message of a page: its `seq`. */
export const messageCursor = cursorKind(
  "message-cursor",
  (value): value is [seq: number] =>
    Array.isArray(value) && value.length === 1 && Number.isSafeInteger(value[0]),
);
