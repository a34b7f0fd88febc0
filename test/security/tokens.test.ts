/** Attacks on users' tokens: what RFC 8725 warns of. Each is answered as any wrong key is, and reaches nothing. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHmac } from "node:crypto";
import { EncryptJWT, exportJWK, exportSPKI, generateKeyPair, SignJWT } from "jose";
import type { Problem } from "../../src/http/problem.ts";
import { bearer, guardedEnv, jwtSecret, plain, signedToken } from "../support/keys.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
let service: Service;
beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model, env: guardedEnv });
});
afterAll(async () => {
  expect(model.requests.length).toBe(0);
  await service[Symbol.asyncDispose]();
  await model.close();
});

const now = (): number => Math.floor(Date.now() / 1000);
const claims = () => ({ sub: "ada", iss: "parley", aud: "parley", exp: now() + 300 });
const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const hmac = (signed: string, secret: string | Buffer, hash = "sha256"): string =>
  createHmac(hash, secret).update(signed).digest("base64url");

/** A token whose parts are made by hand. */
function forged(header: unknown, payload: unknown, sign: (signed: string) => string): string {
  const signed = `${part(header)}.${part(payload)}`;
  return `${signed}.${sign(signed)}`;
}

const right = { alg: "HS256", typ: "JWT" };

async function expectRefused(token: string): Promise<void> {
  const never = await service.get<Problem>("/v1/conversations", bearer("parley-unknown-key-0123"));
  const answer = await service.get<Problem>("/v1/conversations", bearer(token));
  expect(answer.status).toBe(401);
  expect(plain(answer)).toEqual(plain(never));
  const chat = await service.post("/v1/chat", { user_id: "ada", message: "Hello" }, bearer(token));
  expect(chat.status).toBe(401);
}

test("the token that all others differ from is taken", async () => {
  const token = forged(right, claims(), (signed) => hmac(signed, jwtSecret));
  expect((await service.get("/v1/conversations", bearer(token))).status).toBe(200);
});

describe("algorithm confusion", () => {
  test("no signature", async () => {
    for (const alg of ["none", "None", "NONE", "nOnE", ""]) {
      await expectRefused(forged({ ...right, alg }, claims(), () => ""));
      await expectRefused(forged({ ...right, alg }, claims(), (signed) => hmac(signed, jwtSecret)));
    }
    await expectRefused(forged(right, claims(), () => ""));
    await expectRefused(forged({ typ: "JWT" }, claims(), (signed) => hmac(signed, jwtSecret)));
  });

  test("another hash than the one that is pinned, with the right secret", async () => {
    for (const [alg, hash] of [
      ["HS384", "sha384"],
      ["HS512", "sha512"],
      ["HS1", "sha1"],
    ] as const) {
      await expectRefused(forged({ ...right, alg }, claims(), (signed) => hmac(signed, jwtSecret, hash)));
    }
  });

  test("asymmetric algorithms, with keys of the sender's own, also in the header", async () => {
    for (const alg of ["RS256", "PS256", "ES256", "EdDSA"]) {
      const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
      const jwk = await exportJWK(publicKey);
      for (const header of [{}, { jwk }, { kid: "../../dev/null" }, { jku: "https://evil.example/jwks" }]) {
        await expectRefused(
          await new SignJWT(claims()).setProtectedHeader({ ...right, ...header, alg }).sign(privateKey),
        );
      }
      // RS256 against HS256: a public key, which is no secret, used as one.
      const spki = await exportSPKI(publicKey);
      await expectRefused(forged(right, claims(), (signed) => hmac(signed, spki)));
    }
  });

  test("a key that the token brings along", async () => {
    const own = Buffer.from("the sender's own secret of more than 32 bytes");
    const jwk = { kty: "oct", k: own.toString("base64url") };
    for (const header of [{ jwk }, { kid: "x", jwk }, { x5c: [own.toString("base64")] }]) {
      await expectRefused(forged({ ...right, ...header }, claims(), (signed) => hmac(signed, own)));
    }
  });

  test("an encrypted token in place of a signed one", async () => {
    const secret = Buffer.from(jwtSecret).subarray(0, 32);
    const jwe = new EncryptJWT(claims()).setProtectedHeader({ alg: "dir", enc: "A256GCM", typ: "JWT" });
    await expectRefused(await jwe.encrypt(secret));
  });

  test("a type of another kind of token", async () => {
    for (const typ of ["at+jwt", "secevent+jwt", "JWE", "", 7, null]) {
      await expectRefused(forged({ ...right, typ }, claims(), (signed) => hmac(signed, jwtSecret)));
    }
    await expectRefused(forged({ alg: "HS256" }, claims(), (signed) => hmac(signed, jwtSecret)));
  });

  test("extensions that have to be understood", async () => {
    for (const header of [{ crit: ["exp"], exp: 1 }, { crit: [] }, { crit: ["b64"], b64: false }]) {
      await expectRefused(forged({ ...right, ...header }, claims(), (signed) => hmac(signed, jwtSecret)));
    }
  });
});

describe("a foreign token", () => {
  test("of another secret, or of one that begins the same", async () => {
    for (const secret of [
      "another-secret-of-more-than-32-bytes-length",
      jwtSecret.slice(0, -1),
      `${jwtSecret}x`,
      jwtSecret.toUpperCase(),
    ]) {
      await expectRefused(await signedToken({}, {}, secret));
    }
  });

  test("of another issuer or for another audience", async () => {
    for (const iss of ["parley ", "PARLEY", "https://parley", "", undefined, ["parley", "evil"]]) {
      await expectRefused(await signedToken({ iss }));
    }
    for (const aud of ["other", "", [], ["other"], undefined, { parley: true }]) {
      await expectRefused(await signedToken({ aud }));
    }
  });

  test("that was changed after it was signed", async () => {
    const [header, , signature] = (await signedToken()).split(".") as [string, string, string];
    await expectRefused(`${header}.${part({ ...claims(), sub: "eve" })}.${signature}`);
    await expectRefused(`${part({ ...right, kid: "1" })}.${part(claims())}.${signature}`);
    const token = await signedToken();
    for (const other of [
      `${token}.`,
      `${token}x`,
      token.slice(0, -2),
      `.${token}`,
      `${token}=`,
      "a.b.c",
      "eyJ..",
    ]) {
      await expectRefused(other);
    }
  });
});

describe("a token out of its time", () => {
  test("that has expired, or doesn't expire, or isn't valid yet", async () => {
    for (const exp of [now() - 1, now(), 0, -1, undefined, "9999999999", null, true]) {
      await expectRefused(await signedToken({ exp }));
    }
    await expectRefused(await signedToken({ nbf: now() + 600 }));
  });
});

describe("a token of nobody", () => {
  test("without a user, or with what no user's id is", async () => {
    for (const sub of [undefined, "", 7, null, ["ada"], { ada: 1 }, "a\0b", "x".repeat(257)]) {
      await expectRefused(await signedToken({ sub }));
    }
    // JSON.stringify would replace an unpaired surrogate by its escape, which is what an attacker sends.
    await expectRefused(forged(right, { ...claims(), sub: "\ud800" }, (signed) => hmac(signed, jwtSecret)));
  });

  test("with claims that would widen it: they say nothing here", async () => {
    const token = await signedToken({ role: "admin", scope: "admin", user_id: "eve", everywhere: true });
    expect((await service.get("/v1/keys", bearer(token))).status).toBe(403);
    expect((await service.get("/v1/users/eve/profile", bearer(token))).status).toBe(404);
  });
});
