/** Who a request acts as. */
import { timingSafeEqual } from "node:crypto";
import type { ApiKey } from "../config.ts";
import { AppError } from "../errors.ts";
import type { Scope } from "../storage/store.ts";

/** `admin` manages keys; `service` acts for any user of its workspace; `user` is bound to one. */
export type Role = "admin" | "service" | "user";

export interface Principal {
  /** Stable across restarts, and no secret: what idempotency keys, limits and usage belong to. */
  readonly id: string;
  readonly role: Role;
  /** What of the storage it may touch. */
  readonly scope: Scope;
}

/** Who a request acts as; asked again for the same request, it knows. @throws unauthorized without a valid key */
export type Authenticate = (request: Request) => Promise<Principal>;

const everything: Scope = { workspace_id: "default", user_id: null };

/** What every 401 has to carry (RFC 9110). */
export const challenge = { "www-authenticate": 'Bearer realm="parley"' };

/** Checks `Authorization: Bearer` against the configured keys; with none configured everybody is `open`. */
export function createAuthenticate(apiKeys: readonly ApiKey[]): Authenticate {
  if (apiKeys.length === 0) {
    const open: Principal = { id: "open", role: "service", scope: everything };
    return async () => open;
  }
  const known = apiKeys.map(({ role, secret }) => {
    const digest = digestOf(secret);
    return { digest, principal: { id: `env:${digest.toString("hex", 0, 8)}`, role, scope: everything } };
  });
  return oncePerRequest(async (request) => {
    const token = /^Bearer +(\S+) *$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const digest = digestOf(token ?? "");
    let principal: Principal | null = null;
    // All keys are compared, digests by digests, so that the time tells nothing about any of them.
    for (const key of known) if (timingSafeEqual(key.digest, digest)) principal = key.principal;
    if (token === undefined || principal === null) {
      throw new AppError("unauthorized", {
        detail: "Send one of the service's keys as Authorization: Bearer <key>.",
        headers: challenge,
      });
    }
    return principal;
  });
}

/** Routes and the parsing of bodies both ask: the second time nothing is looked up again. */
function oncePerRequest(authenticate: Authenticate): Authenticate {
  const known = new WeakMap<Request, Promise<Principal>>();
  return (request) => {
    const before = known.get(request);
    if (before !== undefined) return before;
    const principal = authenticate(request);
    known.set(request, principal);
    return principal;
  };
}

const digestOf = (secret: string): Buffer => new Bun.CryptoHasher("sha256").update(secret).digest() as Buffer;
