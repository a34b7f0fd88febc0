/** What lists have in common: they come in pages, each with the cursor of the next. */
import { t } from "elysia";
import type { CursorKind } from "./cursor.ts";
import { nullable, queryCursor, queryInteger } from "./strict.ts";

/** How many a page holds. */
export const pageLimit = () =>
  queryInteger({
    minimum: 1,
    maximum: 100,
    default: 20,
    description: "How many at most, 1 to 100; 20 if left out.",
  });

/** What is asked of a list. */
export const pageQuery = (cursor: CursorKind<unknown>) => ({
  limit: pageLimit(),
  after: queryCursor(cursor, "The `next_after` of the page before."),
});

export const hasMore = () => t.Boolean({ description: "Whether there is another page." });

/** What a page tells of those after it. */
export const pageEnd = () => ({
  has_more: hasMore(),
  next_after: nullable(t.String(), { description: "The cursor of the next page; null on the last one." }),
});
