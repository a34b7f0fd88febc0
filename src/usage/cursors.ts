/** Where pages of usage go on. */
import { cursorKind } from "../http/cursor.ts";
import { type UsageGroup, usageGroups } from "../storage/usage-store.ts";

/** What is grouped by, and the place of a page's last group. */
export const usageCursor = cursorKind(
  "usage-cursor",
  (value): value is [group_by: UsageGroup, place: string | number] =>
    Array.isArray(value) &&
    value.length === 2 &&
    usageGroups.includes(value[0] as UsageGroup) &&
    (typeof value[1] === "string" || Number.isSafeInteger(value[1])),
);
