/** Header spoofing: what a client claims about where it comes from, whom it asks and what it means changes nothing. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse, Turn } from "../../src/chat/schema.ts";
import { rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const key = "a-key-of-this-test";
const authorization = `authorization: Bearer ${key}`;
const headers = { authorization: `Bearer ${key}` };

const claims = [
  "x-forwarded-host: evil.example",
  "x-forwarded-host: localhost",
  "x-forwarded-server: localhost",
  "x-forwarded-proto: https",
  "x-forwarded-port: 443",
  "x-forwarded-for: 127.0.0.1",
  "x-forwarded-prefix: /health",
  "x-real-ip: 127.0.0.1",
  "x-client-ip: 127.0.0.1",
  "true-client-ip: ::1",
  "forwarded: for=127.0.0.1;host=localhost;proto=https",
  "via: 1.1 localhost",
  "x-host: localhost",
  "x-original-host: localhost",
  "x-original-url: /health",
  "x-rewrite-url: /health",
  "x-original-uri: /health",
  "x-override-url: /health",
  "x-http-method-override: DELETE",
  "x-http-method: DELETE",
  "x-method-override: DELETE",
  "x-user-id: admin",
  "x-remote-user: admin",
  "remote-user: admin",
  "x-authenticated-user: admin",
  `x-api-key: ${key}`,
  `cookie: authorization=Bearer ${key}`,
  `proxy-authorization: Bearer ${key}`,
  "authorization: Basic YWRtaW46YWRtaW4=",
  "authorization: Bearer ",
  "connection: authorization",
];

/** Names of hosts that a URL could be made of, one way or another. */
const hosts = [
  "",
  "a",
  "abc",
  "a:1",
  "evil.example",
  "localhost:8000:8000",
  "localhost/health?",
  "localhost/health#",
  "localhost/health",
  "localhost\\health?",
  "localhost@evil.example",
  "[::1",
  "[::1]",
  "127.1",
  "%00",
  "é",
  "a b",
  "localhost, evil.example",
  "x".repeat(10_000),
];

let service: Service;
beforeAll(async () => {
  service = await startService({ env: { PARLEY_API_KEYS: key } });
  await service.post("/v1/conversations", { user_id: "ada", title: "Secret" }, headers);
});
afterAll(() => service[Symbol.asyncDispose]());

const ask = (line: string, ...lines: string[]) =>
  rawRequest(
    service.port,
    Buffer.from(`${line} HTTP/1.1\r\n${["connection: close", ...lines].join("\r\n")}\r\n\r\n`, "latin1"),
  );

describe("with a key", () => {
  test.each(claims)("a stranger who sends %s stays one", async (claim) => {
    const { status, body } = await ask("GET /v1/conversations", "host: localhost", claim);
    expect([status, body.includes("Secret")]).toEqual([401, false]);
  });

  test.each(claims.filter((claim) => !claim.startsWith("authorization")))(
    "who knows it and sends %s is answered as without",
    async (claim) => {
      const plain = await ask("GET /v1/conversations", "host: localhost", authorization);
      const { status, body, headers } = await ask(
        "GET /v1/conversations",
        "host: localhost",
        authorization,
        claim,
      );
      expect([status, body]).toEqual([200, plain.body]);
      expect([...headers.keys()]).toEqual([...plain.headers.keys()]);
    },
  );

  test.each([
    [`authorization: Bearer wrong-key-of-this-test\r\n${authorization}`],
    [`${authorization}\r\nauthorization: Bearer wrong-key-of-this-test`],
    [`${authorization}, Bearer wrong-key-of-this-test`],
    [`${authorization} wrong`],
    [`authorization: Basic x, Bearer ${key}`],
    [`authorization: Bearer\t${key}`],
    [`authorization:: Bearer ${key}`],
    [`authorization: Bearer "${key}"`],
    [`authorization: Bearer ${key}\0`],
  ])("two keys are none, nor is half of a header: %j", async (lines) => {
    expect([400, 401]).toContain((await ask("GET /v1/conversations", "host: localhost", lines)).status);
  });

  test.each(hosts.map((host) => [host.slice(0, 40), host]))(
    "whatever the Host, a stranger is told nothing: %s",
    async (_name, host) => {
      for (const path of ["/v1/conversations", "/conversations", "/v1/users/ada/profile", "/v1/documents"]) {
        const stranger = await ask(`GET ${path}`, `host: ${host}`);
        // Where the Host makes another path of it, that is one that anybody may ask for.
        expect(stranger.body).not.toMatch(/Secret|user_id|documents"/);
        expect(stranger.status).toBeLessThan(500);
        const deleted = await ask("DELETE /v1/users/ada", `host: ${host}`);
        expect([400, 401, 404, 405]).toContain(deleted.status);
        const known = await ask(`GET ${path}`, `host: ${host}`, authorization);
        expect(known.status).toBeLessThan(500);
      }
      const { body } = await service.get<{ conversations: object[] }>("/v1/conversations", headers);
      expect(body.conversations).toHaveLength(1);
    },
  );

  test("no claim becomes part of an address that is handed out", async () => {
    const claimed = { ...headers, host: "evil.example", "x-forwarded-host": "evil.example" };
    const more = { ...claimed, "x-forwarded-proto": "gopher", forwarded: "host=evil.example;proto=gopher" };
    const turn = await service.post<Turn & { stream_url: string }>(
      "/v1/turns",
      { user_id: "bea", message: "Hello" },
      more,
    );
    expect(turn.body.stream_url).toStartWith("/v1/turns/turn_");
    const conversation = await service.post("/v1/conversations", { user_id: "bea" }, more);
    expect(conversation.headers.get("location")).toStartWith("/v1/conversations/conv_");
    for (const { headers, body } of [turn, conversation]) {
      expect(JSON.stringify([[...headers], body])).not.toMatch(/evil|gopher/);
    }
    const page = await service.fetch("/openapi.json", { headers: more });
    expect(await page.text()).not.toMatch(/evil|gopher/);
  });

  test("a POST that claims to be a DELETE deletes nothing", async () => {
    const { body } = await service.post<ChatResponse>(
      "/v1/chat",
      { user_id: "cleo", message: "Hello" },
      headers,
    );
    const path = `/v1/conversations/${body.conversation_id}`;
    for (const claim of claims.filter((claim) => claim.endsWith("DELETE"))) {
      const [name, value] = claim.split(": ");
      for (const method of ["POST", "GET", "PATCH"]) {
        const patch = method === "PATCH" ? { title: "Kept" } : undefined;
        const sent = await service.send(method, `${path}`, patch, { ...headers, [name!]: value! });
        expect([200, 405]).toContain(sent.status);
      }
      expect((await service.get(`${path}?_method=DELETE`, headers)).status).toBeLessThan(500);
    }
    expect((await service.get(path, headers)).status).toBe(200);
  });
});

describe("without a key", () => {
  let open: Service;
  beforeAll(async () => {
    open = await startService();
  });
  afterAll(() => open[Symbol.asyncDispose]());

  test.each(claims)("a name of elsewhere is refused, also with %s", async (claim) => {
    const request = `GET /v1/conversations HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n${claim}\r\n\r\n`;
    expect((await rawRequest(open.port, request)).status).toBe(403);
  });

  test.each([
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example#localhost",
    "evil.example/localhost",
    "localhost@evil.example",
    "evil.example:80@localhost",
    "localhost, evil.example",
    "localhost\t",
    "127.0.0.1:8000:evil",
    "0x7f.1",
    "2130706433",
    "127.1",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
    "localhost.",
    "LOCALHOST%00.evil.example",
  ])("a Host that looks like this machine's is refused where it isn't: %s", async (host) => {
    const request = `GET /v1/conversations HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`;
    const { status } = await rawRequest(open.port, request);
    // A tab behind a value is no part of it.
    expect(status).toBe(host === "localhost\t" ? 200 : 403);
  });
});
