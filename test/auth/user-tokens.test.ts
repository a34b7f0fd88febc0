/** Tokens of users: what a browser may hold, for one user and a short while. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { decodeJwt } from "jose";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { adminKey, bearer, guardedEnv, makeKey, makeToken, signedToken } from "../support/keys.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
let service: Service;
beforeAll(async () => {
  model = startModelServer();
  model.default((script) => script.reply(["Hi."]));
  service = await startService({ model, env: guardedEnv });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const inSeconds = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds;

interface Minted {
  object: string;
  token: string;
  user_id: string;
  workspace: string;
  expires_at: number;
}

const mint = <Body = Minted>(by: string, user_id: string, body: unknown = {}) =>
  service.post<Body>(`/v1/users/${encodeURIComponent(user_id)}/tokens`, body, bearer(by));

const conversationsOf = async (key: string): Promise<string[]> => {
  const answer = await service.get<{ conversations: Conversation[] }>("/v1/conversations", bearer(key));
  expect(answer.status).toBe(200);
  return answer.body.conversations.map(({ user_id }) => user_id);
};

describe("a token", () => {
  test("is made by a service key, for a user of its workspace, for a quarter of an hour", async () => {
    const { key } = await makeKey(service, { workspace: "shop" });
    const user_id = "ada@shop.example/ü";
    const { status, headers, body } = await mint(key, user_id);
    expect([status, headers.get("cache-control")]).toEqual([201, "no-store"]);
    expect(body).toMatchObject({ object: "token", user_id, workspace: "shop" });
    expect(Math.abs(body.expires_at - inSeconds(900))).toBeLessThan(20);
    expect(decodeJwt(body.token)).toEqual({
      sub: user_id,
      workspace: "shop",
      iss: "parley",
      aud: "parley",
      iat: expect.any(Number),
      exp: body.expires_at,
    });
  });

  test("acts for its user, and sees nothing of others, nor of its user's namesake elsewhere", async () => {
    const { key } = await makeKey(service, { workspace: "yard" });
    const elsewhere = await makeKey(service, { workspace: "elsewhere" });
    const token = await makeToken(service, key, "ada");
    for (const user_id of ["ada", "eve"]) {
      for (const by of [key, elsewhere.key]) {
        expect((await service.post("/v1/chat", { user_id, message: "Hello" }, bearer(by))).status).toBe(200);
      }
    }
    const own = await service.post("/v1/chat", { user_id: "ada", message: "Me" }, bearer(token));
    expect(own.status).toBe(200);
    expect(await conversationsOf(token)).toEqual(["ada", "ada"]);
    expect((await conversationsOf(key)).toSorted()).toEqual(["ada", "ada", "eve"]);
  });

  test("works as long as was asked for, and no longer than the key that asked", async () => {
    const hour = await mint(adminKey, "ada", { expires_in: 3600 });
    expect(Math.abs(hour.body.expires_at - inSeconds(3600))).toBeLessThan(20);
    const expires_at = inSeconds(300);
    const brief = await makeKey(service, { expires_at });
    for (const body of [{}, { expires_in: 3600 }]) {
      expect((await mint(brief.key, "ada", body)).body.expires_at).toBe(expires_at);
    }
    expect((await mint(brief.key, "ada", { expires_in: 60 })).body.expires_at).toBeLessThan(expires_at);
    for (const expires_in of [0, -1, 86_401, 1.5, "60"]) {
      expect((await mint(adminKey, "ada", { expires_in })).status).toBe(400);
    }
  });

  test("may be signed by a team's own program, which knows the secret", async () => {
    expect(await conversationsOf(await signedToken({ sub: "own-program" }))).toEqual([]);
    const other = { PARLEY_JWT_ISSUER: "https://id.example", PARLEY_JWT_AUDIENCE: "chat" };
    await using named = await startService({ env: { ...guardedEnv, ...other } });
    const ask = async (claims: Record<string, unknown>) =>
      (await named.get("/v1/conversations", bearer(await signedToken(claims)))).status;
    expect(await ask({ iss: "https://id.example", aud: ["chat", "mail"] })).toBe(200);
    expect(await ask({ iss: "https://id.example" })).toBe(401);
    expect(await ask({ aud: "chat" })).toBe(401);
    expect(await ask({})).toBe(401);
  });

  test("names a workspace that there is, and makes none", async () => {
    await makeKey(service, { workspace: "known" });
    const ask = async (workspace: unknown) =>
      (await service.get("/v1/conversations", bearer(await signedToken({ workspace })))).status;
    expect(await ask("known")).toBe(200);
    for (const workspace of ["unknown", "", "KNOWN", "known\0", 7, ["known"]]) {
      expect([workspace, await ask(workspace)]).toEqual([workspace, 401]);
    }
  });

  test("is the same principal as the next one of its user: an Idempotency-Key holds across both", async () => {
    const body = { user_id: "ida", message: "Hello" };
    const turns = new Set<string>();
    for (let count = 0; count < 2; count++) {
      const headers = { ...bearer(await makeToken(service, adminKey, "ida")), "idempotency-key": "one" };
      turns.add((await service.post<{ turn_id: string }>("/v1/chat", body, headers)).body.turn_id);
    }
    expect(turns.size).toBe(1);
    const other = { ...bearer(await makeToken(service, adminKey, "ivo")), "idempotency-key": "one" };
    const answer = await service.post<{ turn_id: string }>("/v1/chat", { ...body, user_id: "ivo" }, other);
    expect([answer.status, turns.has(answer.body.turn_id)]).toEqual([200, false]);
  });
});

describe("no token is made", () => {
  test("by a key that is bound to a user, nor by a token", async () => {
    const bound = await makeKey(service, { role: "user", user_id: "ada" });
    for (const by of [bound.key, await makeToken(service, adminKey, "ada")]) {
      for (const user_id of ["ada", "eve"]) {
        const { status, body } = await mint<Problem>(by, user_id);
        expect([status, body.code]).toEqual([403, "forbidden"]);
      }
    }
  });

  test("without PARLEY_JWT_SECRET, which is said; and none is taken", async () => {
    const { PARLEY_API_KEYS } = guardedEnv;
    await using plain = await startService({ env: { PARLEY_API_KEYS } });
    const { status, body } = await plain.post<Problem>("/v1/users/ada/tokens", {}, bearer(adminKey));
    expect([status, body.code]).toEqual([403, "forbidden"]);
    expect(body.detail).toContain("PARLEY_JWT_SECRET");
    expect((await plain.get("/v1/conversations", bearer(await signedToken()))).status).toBe(401);
  });
});

test("a secret for tokens alone is enough for a service to be open to nobody else", async () => {
  const { PARLEY_JWT_SECRET } = guardedEnv;
  await using guarded = await startService({ env: { PARLEY_JWT_SECRET, PARLEY_HOST: "0.0.0.0" } });
  const { port } = guarded;
  const ask = (headers: Record<string, string>) =>
    fetch(`http://127.0.0.1:${port}/v1/conversations`, { headers });
  expect((await ask({})).status).toBe(401);
  expect((await ask(bearer(await signedToken()))).status).toBe(200);
});
