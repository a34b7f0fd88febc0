/** Which pages of other origins may read answers, and what every answer tells browsers. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { adminKey, bearer, guardedEnv } from "../support/keys.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";
import type { StartedTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const app = "https://app.example";
const second = "http://localhost:5173";

let model: ModelServer;
/** With a key and two origins, with a key and any origin, and without a key. */
let named: Service;
let any: Service;
let open: Service;
beforeAll(async () => {
  model = startModelServer();
  model.default((script) => script.reply(["Hi."]));
  [named, any, open] = await Promise.all([
    startService({ model, env: { ...guardedEnv, PARLEY_CORS_ORIGINS: `${app}, ${second}` } }),
    startService({ env: { ...guardedEnv, PARLEY_CORS_ORIGINS: "*" } }),
    startService({ env: { PARLEY_CORS_ORIGINS: `${app},*` } }),
  ]);
});
afterAll(async () => {
  for (const service of [named, any, open]) await service[Symbol.asyncDispose]();
  await model.close();
});

const preflight = (service: Service, path: string, origin: string, headers: Record<string, string> = {}) =>
  service.fetch(path, {
    method: "OPTIONS",
    headers: {
      origin,
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization,content-type",
      ...headers,
    },
  });

const allowedOrigin = ({ headers }: Response): string | null => headers.get("access-control-allow-origin");

describe("an origin that is named", () => {
  test.each([app, second])("%s has its preflights answered, before any key is asked for", async (origin) => {
    for (const path of ["/v1/chat", "/chat", "/v1/conversations/conv_1", "/v1/nothing"]) {
      const response = await preflight(named, path, origin);
      expect([path, response.status, allowedOrigin(response)]).toEqual([path, 204, origin]);
      const allowed = (what: string): string[] =>
        response.headers.get(`access-control-allow-${what}`)!.toLowerCase().split(", ");
      expect(allowed("methods")).toEqual(expect.arrayContaining(["get", "post", "patch", "delete"]));
      expect(allowed("headers")).toEqual(
        expect.arrayContaining(["authorization", "content-type", "idempotency-key", "last-event-id"]),
      );
      expect(response.headers.get("access-control-allow-credentials")).toBeNull();
      expect(response.headers.get("vary")).toContain("Origin");
      expect(response.headers.get("x-request-id")).toStartWith("req_");
    }
  });

  test("may read answers of every kind, errors and streams too, and the headers that matter", async () => {
    const headers = { ...bearer(adminKey), origin: app, "content-type": "application/json" };
    const body = JSON.stringify({ user_id: "ada", message: "Hello" });
    const started = await named.fetch("/v1/turns", { method: "POST", headers, body });
    const { id, stream_url } = (await started.clone().json()) as StartedTurn;
    for (const [response, status] of [
      [started, 202],
      [await named.fetch(stream_url, { headers: { origin: app } }), 200],
      [await named.fetch(`/v1/turns/${id}`, { headers }), 200],
      [
        await named.fetch(`/v1/turns/${id}/stream`, {
          headers: { ...headers, "last-event-id": `${id}:end` },
        }),
        204,
      ],
      [await named.fetch("/v1/conversations/x/export", { headers }), 404],
      [await named.fetch("/v1/chat", { method: "POST", headers, body: "{" }), 400],
      [await named.fetch("/v1/conversations", { headers: { origin: app } }), 401],
      [await named.fetch("/v1/nothing", { headers: { origin: app } }), 404],
      [await named.fetch("/health", { headers: { origin: app } }), 200],
      [await named.fetch("/openapi.json", { headers: { origin: app } }), 200],
    ] as const) {
      expect([response.url, response.status, allowedOrigin(response)]).toEqual([response.url, status, app]);
      const exposed = response.headers.get("access-control-expose-headers")!.split(", ");
      for (const name of ["X-Request-Id", "Location", "Retry-After", "RateLimit", "RateLimit-Policy"]) {
        expect(exposed).toContain(name);
      }
      expect(response.headers.get("vary")).toContain("Origin");
      expect(response.headers.get("access-control-allow-credentials")).toBeNull();
      await response.body?.cancel();
    }
  });
});

describe("an origin that isn't", () => {
  test.each([
    "https://evil.example",
    "https://app.example.evil.example",
    "https://xapp.example",
    "http://app.example",
    "https://app.example:8443",
    "HTTPS://APP.EXAMPLE",
    "null",
    "",
    "*",
    `${app}, ${second}`,
  ])("%p may read nothing", async (origin) => {
    const asked = await preflight(named, "/v1/chat", origin);
    expect(asked.status).toBe(405);
    const answer = await named.fetch("/v1/conversations", { headers: { ...bearer(adminKey), origin } });
    expect(answer.status).toBe(200);
    for (const response of [asked, answer]) {
      expect(allowedOrigin(response)).toBeNull();
      expect(response.headers.get("access-control-allow-methods")).toBeNull();
      // What a cache keeps for one origin is not for another.
      expect(response.headers.get("vary")).toContain("Origin");
    }
  });

  test("an OPTIONS that is no preflight is a method like any other", async () => {
    const response = await named.fetch("/v1/chat", { method: "OPTIONS", headers: { origin: app } });
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
  });

  test("without PARLEY_CORS_ORIGINS none may, and nothing is said of origins", async () => {
    await using plain = await startService({ env: guardedEnv });
    const response = await plain.fetch("/v1/conversations", {
      headers: { ...bearer(adminKey), origin: app },
    });
    expect(response.status).toBe(200);
    for (const name of ["access-control-allow-origin", "access-control-expose-headers", "vary"]) {
      expect([name, response.headers.get(name)]).toEqual([name, null]);
    }
    expect((await preflight(plain, "/v1/chat", app)).status).toBe(405);
  });
});

test("with * any page may read what a key opens", async () => {
  for (const origin of [app, "https://any.example", "null"]) {
    expect(allowedOrigin(await preflight(any, "/v1/chat", origin))).toBe("*");
    const response = await any.fetch("/v1/conversations", { headers: { ...bearer(adminKey), origin } });
    expect([response.status, allowedOrigin(response)]).toEqual([200, "*"]);
    const stranger = await any.fetch("/v1/conversations", { headers: { origin } });
    expect([stranger.status, allowedOrigin(stranger)]).toEqual([401, "*"]);
  }
});

describe("without a key", () => {
  test("a page of a named origin may talk to this machine, and of no other: * names none", async () => {
    const ask = (headers: Record<string, string>) => open.fetch("/v1/conversations", { headers });
    expect((await ask({ origin: app, "sec-fetch-site": "cross-site" })).status).toBe(200);
    expect((await preflight(open, "/v1/chat", app, { "sec-fetch-site": "cross-site" })).status).toBe(204);
    for (const headers of [
      { origin: "https://evil.example" },
      { origin: "*" },
      { origin: "null" },
      { "sec-fetch-site": "cross-site" },
      { host: "evil.example", origin: app },
    ] as Record<string, string>[]) {
      expect([headers, (await ask(headers)).status]).toEqual([headers, 403]);
    }
    expect((await preflight(open, "/v1/chat", "https://evil.example")).status).toBe(403);
  });
});

test("every answer keeps browsers from guessing its type and from telling where it came from", async () => {
  const json = { "content-type": "application/json", ...bearer(adminKey) };
  const started = await named.post<StartedTurn>(
    "/v1/turns",
    { user_id: "ada", message: "Hi" },
    bearer(adminKey),
  );
  for (const [path, init] of [
    ["/health", {}],
    ["/ready", {}],
    ["/docs", {}],
    ["/docs/swagger-ui.css", {}],
    ["/openapi.json", {}],
    ["/v1/nothing", {}],
    ["/v1/chat", {}],
    ["/v1/conversations", {}],
    ["/v1/conversations", { headers: json }],
    ["/v1/chat", { method: "POST", headers: json, body: "{" }],
    [started.body.stream_url, {}],
    [started.body.stream_url, { method: "HEAD" }],
    [`/v1/conversations/${started.body.conversation_id}/export?format=markdown`, { headers: json }],
  ] as [string, RequestInit][]) {
    const { headers } = await named.fetch(path, init);
    expect([path, headers.get("x-content-type-options"), headers.get("referrer-policy")]).toEqual([
      path,
      "nosniff",
      "no-referrer",
    ]);
    expect(headers.get("content-security-policy") !== null).toBe(/^\/(docs|openapi)/.test(path));
  }
});
