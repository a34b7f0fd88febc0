/**
 * Finds out who a request acts as, by `Authorization: Bearer` alone: a key of the environment, a user's token, or a key
 * of the database. As long as there is none of these, everybody is `open`, and only local programs are served.
 */
import { timingSafeEqual } from "node:crypto";
import { tokenPrincipalId } from "../ids.ts";
import { digestOf, hashOf, isKeyText } from "./key-text.ts";
import type { KnownKeys } from "./known-keys.ts";
import { type Authenticate, defaultWorkspace, type Principal, unauthorized } from "./principal.ts";
import type { ApiKey } from "./settings.ts";
import { isTokenText, type UserTokens } from "./user-tokens.ts";

export interface Credentials {
  readonly apiKeys: readonly ApiKey[];
  readonly keys: KnownKeys;
  /** Null where users have no tokens. */
  readonly tokens: UserTokens | null;
}

const wholeDefault = { workspace_id: defaultWorkspace, user_id: null };
const open: Principal = { id: "open", role: "service", scope: wholeDefault };

/** Whether there is nothing yet that a request could authenticate with, as of a moment ago. */
export const isOpen = ({ apiKeys, keys, tokens }: Credentials): boolean =>
  apiKeys.length === 0 && tokens === null && !keys.any;

export function createAuthenticate(credentials: Credentials): Authenticate {
  const { keys, tokens } = credentials;
  const ofEnvironment = credentials.apiKeys.map(({ role, secret }) => {
    const digest = digestOf(secret);
    const principal: Principal = {
      id: `env:${digest.toString("hex", 0, 8)}`,
      role,
      scope: wholeDefault,
      ...(role === "admin" && { everywhere: true }),
    };
    return { digest, principal };
  });

  function environmentKey(text: string): Principal | null {
    const digest = digestOf(text);
    let principal: Principal | null = null;
    // All keys are compared, digests by digests, so that the time tells nothing about any of them.
    for (const key of ofEnvironment) if (timingSafeEqual(key.digest, digest)) principal = key.principal;
    return principal;
  }

  async function databaseKey(text: string): Promise<Principal | null> {
    const key = await keys.working(hashOf(text));
    if (key === null) return null;
    const { id, role, workspace_id, user_id, expires_at } = key;
    return {
      id,
      key_id: id,
      role,
      scope: { workspace_id, user_id },
      ...(expires_at !== null && { expires_at }),
    };
  }

  async function userToken(text: string): Promise<Principal | null> {
    const token = await tokens?.verify(text);
    if (!token) return null;
    const workspace_id = token.workspace_id ?? defaultWorkspace;
    const { user_id, expires_at } = token;
    // Whoever signs tokens may name any workspace, but makes none by that.
    if (!(await keys.store.hasWorkspace(workspace_id))) return null;
    const id = tokenPrincipalId(workspace_id, user_id);
    return { id, role: "user", scope: { workspace_id, user_id }, expires_at };
  }

  return oncePerRequest(async (request) => {
    const header = request.headers.get("authorization");
    // The first key counts at once for whoever sends one.
    if (isOpen(credentials) && (header === null || !(await keys.lookForAny()))) return open;
    const text = /^Bearer +(\S+) *$/i.exec(header ?? "")?.[1] ?? "";
    let principal = environmentKey(text);
    if (principal === null && isTokenText(text)) principal = await userToken(text);
    if (principal === null && isKeyText(text)) principal = await databaseKey(text);
    if (principal === null) throw unauthorized();
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
