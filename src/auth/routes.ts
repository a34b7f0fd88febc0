/** Keys, which admins manage, and users' tokens. */
import { AppError } from "../errors.ts";
import { invalidRequest } from "../http/problem.ts";
import { authenticatedRoutes } from "../http/routes.ts";
import type { KeyRecord } from "../storage/key-store.ts";
import type { Store } from "../storage/store.ts";
import { keyCursor } from "./cursors.ts";
import { docs } from "./docs.ts";
import { prefixOf } from "./key-text.ts";
import { faultsOfWish, type KeyWish, makeKey } from "./keys.ts";
import { type Authenticate, type Principal, requireRole } from "./principal.ts";
import {
  type Key,
  type KeyRequest,
  key,
  keyPage,
  keyParams,
  keyRequest,
  keysQuery,
  newKey,
  tokenParams,
  tokenRequest,
  tokenSeconds,
  userToken,
} from "./schema.ts";
import type { UserTokens } from "./user-tokens.ts";

const pageSize = 20;
/** What holds a secret is kept by nobody on the way. */
const noStore = "no-store";

export interface KeyServices {
  readonly store: Store;
  readonly tokens: UserTokens | null;
  readonly authenticate: Authenticate;
}

export function keyRoutes(prefix: string, { store, tokens, authenticate }: KeyServices) {
  return authenticatedRoutes(prefix, authenticate)
    .post(
      "/keys",
      async ({ principal, body, set }) => {
        const nowMs = Date.now();
        const { text, key } = makeKey(allowedWish(principal, body, nowMs / 1000), nowMs);
        const made = toKey(await store.createKey(key));
        set.status = 201;
        set.headers["cache-control"] = noStore;
        return { ...made, key: text };
      },
      { body: keyRequest, response: { 201: newKey }, detail: docs.create },
    )
    .get(
      "/keys",
      async ({ principal, query }) => {
        const [after] = keyCursor.read(query.after ?? "") ?? [null];
        const page = await store.keys(managedBy(principal), {
          limit: Number(query.limit ?? pageSize),
          after,
        });
        return {
          keys: page.keys.map(toKey),
          has_more: page.next !== null,
          next_after: page.next && keyCursor.write([page.next]),
        };
      },
      { query: keysQuery, response: { 200: keyPage }, detail: docs.list },
    )
    .delete(
      "/keys/:id",
      async ({ principal, params }) => {
        const revoked = await store.revokeKey(managedBy(principal), params.id, Date.now());
        if (revoked === null) throw new AppError("not_found", { detail: "There is no such key." });
        return toKey(revoked);
      },
      { params: keyParams, response: { 200: key }, detail: docs.revoke },
    )
    .post(
      "/users/:user_id/tokens",
      async ({ principal, params, body, set }) => {
        requireRole(principal, "service", "admin");
        if (tokens === null) {
          throw new AppError("forbidden", {
            detail: "This service makes no tokens: it needs PARLEY_JWT_SECRET.",
          });
        }
        const { workspace_id } = principal.scope;
        const { user_id } = params;
        const now = Math.floor(Date.now() / 1000);
        const expires_at = Math.min(
          now + (body.expires_in ?? tokenSeconds.default),
          principal.expires_at ?? Number.POSITIVE_INFINITY,
        );
        const token = await tokens.sign({ user_id, workspace_id, expires_at }, now);
        set.status = 201;
        set.headers["cache-control"] = noStore;
        return { object: "token" as const, token, user_id, workspace: workspace_id, expires_at };
      },
      { params: tokenParams, body: tokenRequest, response: { 201: userToken }, detail: docs.createToken },
    );
}

/** The workspace whose keys a principal manages; null for all. @throws forbidden */
function managedBy(principal: Principal): string | null {
  requireRole(principal, "admin");
  return principal.everywhere ? null : principal.scope.workspace_id;
}

/** No key makes one that may do more than itself, or longer. @throws forbidden, invalid_request */
function allowedWish(principal: Principal, body: KeyRequest, now: number): KeyWish {
  const workspace = managedBy(principal);
  const longest = principal.expires_at ?? null;
  const wish: KeyWish = {
    name: body.name,
    role: body.role,
    workspace_id: body.workspace ?? principal.scope.workspace_id,
    user_id: body.user_id ?? null,
    expires_at: body.expires_at ?? longest,
  };
  const faults = faultsOfWish(wish, now);
  if (faults.length > 0) throw invalidRequest(faults);
  if (workspace !== null && wish.workspace_id !== workspace) {
    throw new AppError("forbidden", { detail: "This key makes keys of its own workspace only." });
  }
  if (longest !== null && wish.expires_at! > longest) {
    throw new AppError("forbidden", { detail: "This key makes none that works longer than itself." });
  }
  return wish;
}

const toKey = ({ workspace_id, ...key }: KeyRecord): Key => ({
  ...key,
  object: "key",
  prefix: prefixOf(key.id),
  workspace: workspace_id,
});
