/** What was used: sums over the ledger. */
import type { OpenViews } from "../auth/open-views.ts";
import type { Authenticate, Principal } from "../auth/principal.ts";
import { AppError } from "../errors.ts";
import { invalidRequest } from "../http/problem.ts";
import { requestIdFrom } from "../http/request-id.ts";
import type { Requests } from "../http/requests.ts";
import { authenticatedRoutes } from "../http/routes.ts";
import type { Scope, Store } from "../storage/store.ts";
import type { UsagePage, UsageQuery } from "../storage/usage-store.ts";
import { csvHeader, csvLine } from "./csv.ts";
import { usageCursor } from "./cursors.ts";
import { docs } from "./docs.ts";
import { parseMoment } from "./moment.ts";
import { type UsageQueryString, usagePage, usageQuery } from "./schema.ts";
import { toUsageSums } from "./views.ts";

const pageSize = 100;
const csvPageSize = 1_000;

export interface UsageServices {
  readonly store: Store;
  readonly authenticate: Authenticate;
  readonly views: OpenViews;
  readonly requests: Requests;
}

export function usageRoutes(prefix: string, { store, authenticate, views, requests }: UsageServices) {
  return authenticatedRoutes(prefix, authenticate).get(
    "/usage",
    async ({ principal, query, request, set }) => {
      const { scope } = principal;
      const asked = toQuery(principal, query);
      await knowConversation(scope, asked);
      if (formatOf(query, request) === "csv") {
        const first = await store.usage(scope, { ...asked, limit: csvPageSize });
        const viewed = views.file(principal, request, csvOf(scope, asked, first));
        const csv = new Response(requests.streamed(request, viewed) as unknown as ReadableStream, {
          headers: {
            "content-type": "text/csv; charset=utf-8",
            "content-disposition": 'attachment; filename="usage.csv"',
            "x-request-id": requestIdFrom(set),
          },
        });
        // Elysia's type for handlers knows of a response or of a body that is checked, not of both.
        return csv as never;
      }
      const { sums, next } = await store.usage(scope, asked);
      const { group_by } = asked;
      return {
        object: "usage" as const,
        group_by,
        usage: sums.map(toUsageSums),
        has_more: next !== null,
        next_after: group_by === null || next === null ? null : usageCursor.write([group_by, next]),
      };
    },
    { query: usageQuery, response: { 200: usagePage }, detail: docs.usage },
  );

  /** @throws not_found for a conversation that the ledger hasn't heard of either */
  async function knowConversation(scope: Scope, { conversation_id }: UsageQuery): Promise<void> {
    if (conversation_id === null || (await store.conversation(scope, conversation_id)) !== null) return;
    const { sums } = await store.usage(scope, { ...everything, conversation_id });
    if (sums[0]!.turns > 0) return;
    throw new AppError("not_found", { detail: "There is no such conversation." });
  }

  async function* csvOf(
    scope: Scope,
    query: UsageQuery,
    first: UsagePage,
  ): AsyncGenerator<string, void, void> {
    const named = query.group_by !== null;
    yield csvHeader(query.group_by);
    for (let page = first; ; ) {
      yield page.sums.map((sums) => csvLine(toUsageSums(sums), named)).join("");
      if (page.next === null) return;
      page = await store.usage(scope, { ...query, limit: csvPageSize, after: page.next });
    }
  }
}

const everything: UsageQuery = {
  user_id: null,
  key_id: null,
  model: null,
  conversation_id: null,
  from: null,
  to: null,
  group_by: null,
  limit: 1,
  after: null,
};

function formatOf({ format }: UsageQueryString, request: Request): "json" | "csv" {
  const accepted = request.headers.get("accept")?.split(",")[0]?.split(";")[0]?.trim().toLowerCase();
  return format ?? (accepted === "text/csv" ? "csv" : "json");
}

/** @throws invalid_request; not_found where the principal acts for another user alone */
function toQuery({ scope }: Principal, query: UsageQueryString): UsageQuery {
  if (scope.user_id !== null && query.user_id !== undefined && query.user_id !== scope.user_id) {
    throw new AppError("not_found", { detail: "There is no such user." });
  }
  const group_by = query.group_by ?? null;
  const [afterGroup, after] = usageCursor.read(query.after ?? "") ?? [null, null];
  if (afterGroup !== null && afterGroup !== group_by) {
    throw invalidRequest([{ path: "query.after", message: "must be a cursor of the same group_by" }]);
  }
  return {
    user_id: query.user_id ?? null,
    key_id: query.key ?? null,
    model: query.model ?? null,
    conversation_id: query.conversation_id ?? null,
    from: parseMoment(query.from ?? ""),
    to: parseMoment(query.to ?? ""),
    group_by,
    limit: Number(query.limit ?? pageSize),
    after,
  };
}
