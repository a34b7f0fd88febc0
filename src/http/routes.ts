/** What every group of routes starts from. */
import { Elysia } from "elysia";
import type { Authenticate } from "../auth/principal.ts";

/**
 * A group of routes that anybody may call. Unknown properties are refused, not stripped.
 * @param prefix `/v1`, or nothing for the bare paths
 */
export const openRoutes = (prefix = "") => new Elysia({ prefix, normalize: false });

/** A group of routes that need a principal, which is told before the request is validated. */
export const authenticatedRoutes = (prefix: string, authenticate: Authenticate) =>
  openRoutes(prefix).derive(async ({ request }) => ({ principal: await authenticate(request) }));
