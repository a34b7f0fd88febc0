/** Who a request acts as, and what that allows. */
import { AppError } from "../errors.ts";
import type { Role } from "../storage/key-store.ts";
import type { UserScope } from "../storage/memory-store.ts";
import type { Scope } from "../storage/store.ts";

export type { Role };

export interface Principal {
  /** Stable across restarts, and no secret: what idempotency keys, limits and usage belong to. */
  readonly id: string;
  /** What it may do; an admin may do in its workspace what a service may. */
  readonly role: Role;
  /** What of the storage it may touch. */
  readonly scope: Scope;
  /** Unix seconds after which its key or token works no more; left out where it doesn't expire. */
  readonly expires_at?: number;
  /** The key of the database that it is; left out for all others. */
  readonly key_id?: string;
  /** An admin that manages the keys of every workspace: one of PARLEY_API_KEYS. */
  readonly everywhere?: true;
}

/** Who a request acts as; asked again for the same request, it knows. @throws unauthorized without a valid key */
export type Authenticate = (request: Request) => Promise<Principal>;

/** The workspace of whoever names none. */
export const defaultWorkspace = "default";

/** What every 401 has to carry (RFC 9110). */
export const challenge = { "www-authenticate": 'Bearer realm="parley"' };

/** One answer for every key and token that doesn't work: nobody learns whether it ever did. */
export const unauthorized = (): AppError =>
  new AppError("unauthorized", {
    detail: "Send one of the service's keys, or a user's token, as Authorization: Bearer <key>.",
    headers: challenge,
  });

/** @throws forbidden where the principal has none of these roles */
export function requireRole({ role }: Principal, ...roles: Role[]): void {
  if (roles.includes(role)) return;
  throw new AppError("forbidden", { detail: `This takes a key of the role ${roles.join(" or ")}.` });
}

/** The user that a request names. @throws not_found where the principal acts for another one alone */
export function actingFor({ scope }: Principal, user_id: string): UserScope {
  if (scope.user_id !== null && scope.user_id !== user_id) {
    throw new AppError("not_found", { detail: "There is no such user." });
  }
  return { workspace_id: scope.workspace_id, user_id };
}

/** What a request may touch that names a user, or none, to choose by. @throws not_found as `actingFor` */
export function choosing(principal: Principal, user_id: string | null | undefined): Scope {
  if (user_id) actingFor(principal, user_id);
  return principal.scope;
}

/** For what changes things of the whole workspace. @throws forbidden where the principal is bound to one user */
export function requireWholeWorkspace({ scope }: Principal, detail: string): void {
  if (scope.user_id !== null) throw new AppError("forbidden", { detail });
}
