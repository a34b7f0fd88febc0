/** Bearer keys of PARLEY_API_KEYS: every route needs one, but for those that are open on purpose. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { createApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config.ts";
import type { Problem } from "../../src/http/problem.ts";
import { createServices } from "../../src/services.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, temporaryDirectory, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const secrets = ["first-key-0123456789", "second-key-0123456789"] as const;
const adminSecret = "admin-key-0123456789";
/** What everybody may ask, key or not. */
const open = ["/health", "/ready", "/docs", "/openapi.json"];

let model: ModelServer;
let service: Service;
const dataDir = temporaryDirectory();
let routes: { method: string; path: string }[];

beforeAll(async () => {
  model = startModelServer();
  const env = { PARLEY_API_KEYS: `${secrets.join(", ")},admin:${adminSecret}` };
  service = await startService({ model, env });
  // The routes as the program knows them, so that a new one can't be forgotten here.
  const config = loadConfig({ ...env, PARLEY_DATA_DIR: dataDir });
  const services = await createServices(config, { info() {}, warn() {}, error() {} });
  routes = createApp(services)
    .routes.map(({ method, path }) => ({ method, path }))
    .filter(({ path }) => !open.some((start) => path === start || path.startsWith(`${start}/`)));
  await services.stop();
  await services.close();
  rmSync(dataDir, { recursive: true });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const ask = (method: string, path: string, headers: Record<string, string> = {}, body?: string) =>
  service.fetch(path, { method, headers, ...(body !== undefined && { body }) });

async function expectUnauthorized(response: Response): Promise<void> {
  expect(response.status).toBe(401);
  expect(response.headers.get("www-authenticate")).toStartWith("Bearer");
  const text = await response.text();
  if (text === "") return;
  expect(JSON.parse(text)).toMatchObject({
    status: 401,
    code: "unauthorized",
    request_id: response.headers.get("x-request-id"),
  });
  for (const secret of [...secrets, adminSecret]) expect(text).not.toContain(secret);
}

describe("without a key", () => {
  test("every route is 401, whatever is sent", async () => {
    expect(routes.length).toBeGreaterThan(20);
    for (const { method, path } of routes) {
      if (path.startsWith("/internal") || method === "ALL") continue;
      const filled = path.replace(":id", "conv_01890a5d-ac96-774b-bcce-b302099a8057");
      const response = await ask(method, filled);
      expect([method, path, response.status]).toEqual([method, path, 401]);
      await expectUnauthorized(response);
      if (method === "GET" || method === "HEAD") continue;
      for (const [type, body] of [
        ["application/json", '{"user_id":"ada","message":"Hello"}'],
        ["application/json", "{"],
        ["text/plain", "Hello"],
      ] as const) {
        await expectUnauthorized(await ask(method, filled, { "content-type": type }, body));
      }
    }
    expect(model.requests.length).toBe(0);
  });

  test("bad requests are 401 too: strangers learn nothing about their faults", async () => {
    for (const path of [
      "/v1/conversations?limit=0",
      "/v1/conversations?limit=1&limit=2",
      "/v1/chat/stream",
    ]) {
      await expectUnauthorized(await ask("GET", path));
    }
    await expectUnauthorized(await ask("POST", "/v1/chat", { "idempotency-key": "" }));
  });

  test("a body is not read: one too large is 401, not 413", async () => {
    const headers = { "content-type": "application/json" };
    await expectUnauthorized(await ask("POST", "/v1/chat", headers, `"${"x".repeat(2_000_000)}"`));
  });

  test("health and readiness answer", async () => {
    for (const path of ["/health", "/ready"]) expect((await ask("GET", path)).status).toBe(200);
  });

  test("unknown routes and wrong methods tell no secrets", async () => {
    expect((await ask("GET", "/v1/nothing")).status).toBe(404);
    expect((await ask("PUT", "/v1/chat")).status).toBe(405);
  });
});

describe("a key", () => {
  test.each([...secrets, adminSecret])("%s opens the service", async (secret) => {
    for (const authorization of [`Bearer ${secret}`, `bearer ${secret}`, `BEARER  ${secret}`]) {
      expect((await ask("GET", "/v1/conversations", { authorization })).status).toBe(200);
    }
  });

  test("that is wrong, cut, longer, of another case or another scheme does not", async () => {
    const [secret] = secrets;
    const wrong = [
      "Bearer",
      "Bearer ",
      "Bearer wrong-key-0123456789",
      `Bearer ${secret.slice(0, -1)}`,
      `Bearer ${secret}x`,
      `Bearer ${secret.toUpperCase()}`,
      `Bearer ${secret} ${secret}`,
      `Bearer admin:${adminSecret}`,
      `Bearer ${secrets.join(",")}`,
      `Basic ${btoa(`user:${secret}`)}`,
      `Token ${secret}`,
      secret,
      `Bearer "${secret}"`,
    ];
    for (const authorization of wrong) {
      await expectUnauthorized(await ask("GET", "/v1/conversations", { authorization }));
    }
  });

  test("is taken from the header alone", async () => {
    const [secret] = secrets;
    await expectUnauthorized(await ask("GET", `/v1/conversations?api_key=${secret}&key=${secret}`));
    await expectUnauthorized(
      await ask("GET", "/v1/conversations", { "x-api-key": secret, cookie: `key=${secret}` }),
    );
  });

  test("is never logged", async () => {
    await ask(
      "POST",
      "/v1/chat",
      { authorization: `Bearer ${secrets[0]}`, "content-type": "application/json" },
      "{}",
    );
    const { status } = await service.get<Problem>("/v1/conversations", {
      authorization: `Bearer ${secrets[0]}`,
    });
    expect(status).toBe(200);
    for (const secret of [...secrets, adminSecret]) expect(service.logs.join("\n")).not.toContain(secret);
  });
});
