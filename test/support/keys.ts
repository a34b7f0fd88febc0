/** Keys and tokens, as an admin of a service makes them over HTTP. */
import { SignJWT } from "jose";
import type { Problem } from "../../src/http/problem.ts";
import type { Answer, Service } from "./service.ts";

/** An admin key of the environment, and the environment that has it. */
export const adminKey = "admin-key-of-the-tests-0123";
export const jwtSecret = "a-secret-of-the-tests-with-more-than-32-bytes";
export const guardedEnv = { PARLEY_API_KEYS: `admin:${adminKey}`, PARLEY_JWT_SECRET: jwtSecret };

export const bearer = (key: string): { authorization: string } => ({ authorization: `Bearer ${key}` });

export interface MadeKey {
  id: string;
  key: string;
  expires_at: number | null;
}

/** Makes a key; for `admin`, unless told by another one. */
export async function makeKey(
  service: Service,
  request: Record<string, unknown>,
  by = adminKey,
): Promise<MadeKey> {
  const answer = await service.post<MadeKey>(
    "/v1/keys",
    { name: "a key", role: "service", ...request },
    bearer(by),
  );
  if (answer.status !== 201) throw new Error(`the key was not made: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** Makes a token of a user. */
export async function makeToken(
  service: Service,
  by: string,
  user_id: string,
  expires_in?: number,
): Promise<string> {
  const path = `/v1/users/${encodeURIComponent(user_id)}/tokens`;
  const answer = await service.post<{ token: string }>(path, expires_in ? { expires_in } : {}, bearer(by));
  if (answer.status !== 201) throw new Error(`the token was not made: ${JSON.stringify(answer.body)}`);
  return answer.body.token;
}

/** A token as a team's own program signs it, with claims and headers that may differ from what they should be. */
export async function signedToken(
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
  secret = jwtSecret,
): Promise<string> {
  const exp = Math.floor(Date.now() / 1000) + 300;
  const payload = { sub: "ada", iss: "parley", aud: "parley", exp, ...claims };
  const said = Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined));
  return await new SignJWT(said)
    .setProtectedHeader({ alg: "HS256", typ: "JWT", ...header })
    .sign(new TextEncoder().encode(secret));
}

/** What a problem says, without what differs each time. */
export const plain = ({ body }: Answer<Problem>): Partial<Problem> => {
  const { request_id: _, instance: __, ...said } = body;
  return said;
};
