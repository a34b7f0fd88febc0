/**
 * Users' tokens: JWTs (RFC 7519) that are signed with a secret which the service and its team's other programs share.
 * What RFC 8725 asks for is checked: one algorithm, the type, issuer, audience and expiry.
 */
import { errors, jwtVerify, SignJWT } from "jose";
import type { JwtConfig } from "./settings.ts";
import { isWorkspace } from "./workspace.ts";

const algorithm = "HS256";
const type = "JWT";
const userIdCharsMax = 256;

export interface UserToken {
  user_id: string;
  /** Null where the token names none. */
  workspace_id: string | null;
  /** Unix seconds. */
  expires_at: number;
}

export class UserTokens {
  readonly #key: Promise<CryptoKey>;

  constructor(readonly config: JwtConfig) {
    const bytes = new TextEncoder().encode(config.secret);
    this.#key = crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, [
      "sign",
      "verify",
    ]);
  }

  /** @param now unix seconds */
  async sign({ user_id, workspace_id, expires_at }: UserToken, now: number): Promise<string> {
    const { issuer, audience } = this.config;
    return await new SignJWT({ ...(workspace_id !== null && { workspace: workspace_id }) })
      .setProtectedHeader({ alg: algorithm, typ: type })
      .setSubject(user_id)
      .setIssuer(issuer)
      .setAudience(audience)
      .setIssuedAt(now)
      .setExpirationTime(expires_at)
      .sign(await this.#key);
  }

  /** What a token says; null where it isn't one of ours, or not any more. */
  async verify(token: string): Promise<UserToken | null> {
    const { issuer, audience } = this.config;
    try {
      const { payload } = await jwtVerify<{ workspace?: unknown }>(token, await this.#key, {
        algorithms: [algorithm],
        typ: type,
        issuer,
        audience,
        requiredClaims: ["sub", "exp"],
      });
      const { exp = 0, workspace = null } = payload;
      const sub: unknown = payload.sub;
      return isUserId(sub) && isWorkspaceOrNone(workspace)
        ? { user_id: sub, workspace_id: workspace, expires_at: exp }
        : null;
    } catch (error) {
      if (error instanceof errors.JOSEError) return null;
      throw error;
    }
  }
}

/** Claims are whatever was signed. */
const isUserId = (sub: unknown): sub is string =>
  typeof sub === "string" &&
  sub !== "" &&
  sub.length <= userIdCharsMax &&
  sub.isWellFormed() &&
  !sub.includes("\0");

const isWorkspaceOrNone = (value: unknown): value is string | null =>
  value === null || (typeof value === "string" && isWorkspace(value));

/** Whether a text has the form of a token (RFC 7515, compact), which no key has. */
export const isTokenText = (text: string): boolean => /^eyJ[\w-]*\.[\w-]*\.[\w-]*$/.test(text);
