/** How all adapters cut a page of conversations: they read one more than it has, to know whether another follows. */
import type { ConversationPage, ConversationRecord } from "./store.ts";

/** @param rows in order, one more than `limit` where there are so many */
export function pageOf<Row extends { id: string; last_active_ms: number }>(
  rows: readonly Row[],
  limit: number,
  toConversation: (row: Row) => ConversationRecord,
): ConversationPage {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const next = rows.length > limit && last ? { last_active_ms: last.last_active_ms, id: last.id } : null;
  return { conversations: shown.map(toConversation), next };
}
