/** Without a key the service is for programs of this machine: no web page of somewhere else may talk to it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import type { Problem } from "../../src/http/problem.ts";
import { rawRequest } from "../support/raw-client.ts";
import {
  runParley,
  type Service,
  serviceEnv,
  startService,
  temporaryDirectory,
  testMsMax,
} from "../support/service.ts";

setDefaultTimeout(testMsMax);

const key = "a-key-of-the-local-only-tests";

let service: Service;
let keyed: Service;
const emptyDir = temporaryDirectory();

beforeAll(async () => {
  [service, keyed] = await Promise.all([startService(), startService({ env: { PARLEY_API_KEYS: key } })]);
});
afterAll(async () => {
  await Promise.all([service[Symbol.asyncDispose](), keyed[Symbol.asyncDispose]()]);
  rmSync(emptyDir, { recursive: true });
});

const routes = ["/v1/conversations", "/conversations", "/health", "/ready", "/nothing"];

/** A GET with exactly these header lines. */
const get = (to: Service, path: string, ...lines: string[]) =>
  rawRequest(to.port, `GET ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\nconnection: close\r\n\r\n`);

async function expectForbidden(header: string, ...lines: string[]): Promise<void> {
  for (const path of routes) {
    const { status, headers, body } = await get(service, path, ...lines);
    const problem = JSON.parse(body) as Problem;
    expect([path, status, headers.get("content-type"), problem.code]).toEqual([
      path,
      403,
      "application/problem+json",
      "forbidden",
    ]);
    expect(problem.detail).toStartWith(`The ${header} header`);
    expect(problem.request_id).toBe(headers.get("x-request-id")!);
  }
}

describe("Host", () => {
  test.each(["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:81", "127.1.2.3", "[::1]", "[::1]:8000"])(
    "%s is of this machine",
    async (host) => {
      expect((await get(service, "/v1/conversations", `host: ${host}`)).status).toBe(200);
    },
  );

  test.each([
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example#localhost",
    "localhost:80:evil",
    "xlocalhost",
    "10.0.0.1",
    "0.0.0.0",
    "[::2]",
    "a",
    "ab",
    "abc",
    "a.b",
    "192.168.1.5:8000",
  ])("%s is not", async (host) => {
    await expectForbidden("Host", `host: ${host}`);
  });

  test("is missing in no browser's requests: probes of HTTP/1.0 pass without it", async () => {
    for (const [path, status] of [
      ["/health", 200],
      ["/v1/conversations?limit=1", 200],
      ["/docs", 200],
      ["/nothing", 404],
    ] as const) {
      const answer = await rawRequest(service.port, `GET ${path} HTTP/1.0\r\n\r\n`);
      expect([path, answer.status, answer.headers.has("x-request-id")]).toEqual([path, status, true]);
    }
    const foreign = await rawRequest(
      service.port,
      "GET /health HTTP/1.0\r\norigin: https://evil.example\r\n\r\n",
    );
    expect(foreign.status).toBe(403);
  });
});

describe("Origin", () => {
  const host = () => `host: 127.0.0.1:${service.port}`;

  test.each(["http://localhost:3000", "https://localhost", "http://127.0.0.1:5173", "http://[::1]:8080"])(
    "%s is of this machine",
    async (origin) => {
      expect((await get(service, "/v1/conversations", host(), `origin: ${origin}`)).status).toBe(200);
    },
  );

  test.each([
    "https://evil.example",
    "http://localhost.evil.example",
    "null",
    "file://",
    "http://10.0.0.1",
    "garbage",
  ])("%s is not", async (origin) => {
    await expectForbidden("Origin", host(), `origin: ${origin}`);
  });
});

describe("Sec-Fetch-Site", () => {
  test("cross-site is refused, everything else passes", async () => {
    const host = `host: localhost:${service.port}`;
    await expectForbidden("Sec-Fetch-Site", host, "sec-fetch-site: cross-site");
    for (const site of ["same-origin", "same-site", "none"]) {
      expect((await get(service, "/v1/conversations", host, `sec-fetch-site: ${site}`)).status).toBe(200);
    }
  });
});

test("a foreign page's form can't start a turn, and nothing is stored", async () => {
  const body = JSON.stringify({ user_id: "victim", message: "Hello" });
  for (const lines of [
    `host: localhost\r\norigin: https://evil.example\r\ncontent-type: text/plain`,
    `host: localhost\r\norigin: https://evil.example\r\ncontent-type: application/json`,
    `host: evil.example\r\ncontent-type: application/json`,
  ]) {
    for (const path of ["/v1/chat", "/chat", "/v1/turns", "/v1/conversations"]) {
      const answer = await rawRequest(
        service.port,
        `POST ${path} HTTP/1.1\r\n${lines}\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
      );
      expect(answer.status).toBe(403);
    }
  }
  expect((await service.get<{ conversations: unknown[] }>("/v1/conversations")).body.conversations).toEqual(
    [],
  );
});

describe("with a key", () => {
  test("names and origins don't matter, the key does", async () => {
    const foreign = ["host: chat.example", "origin: https://app.example", "sec-fetch-site: cross-site"];
    const granted = await get(keyed, "/v1/conversations", ...foreign, `authorization: Bearer ${key}`);
    expect(granted.status).toBe(200);
    expect((await get(keyed, "/v1/conversations", ...foreign)).status).toBe(401);
  });

  test.each(["a", "ab", "abc", "x.y", "localhost", "", "a:1"])(
    "a short Host, %p, is no way around it",
    async (host) => {
      for (const path of [
        "/v1/conversations",
        "/conversations",
        "/v1/turns/turn_1",
        "/v1/chat/stream?message=a&user_id=b",
      ]) {
        expect([path, (await get(keyed, path, `host: ${host}`)).status]).toEqual([path, 401]);
      }
      expect((await get(keyed, "/health", `host: ${host}`)).status).toBe(200);
    },
  );

  test.each(["[::", "a b", "%", "a:99999", "x/y", "a@b", "?", "#", "a\\b", "\u00ff"])(
    "a Host that makes no URL, %p, changes no answer",
    async (host) => {
      for (const [method, path, status, code] of [
        ["GET", "/nothing?x=/v1/turns", 404, "not_found"],
        ["PUT", "/v1/chat", 405, "method_not_allowed"],
        ["GET", "/v1/conversations", 401, "unauthorized"],
      ] as const) {
        const request = `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`;
        const answer = await rawRequest(keyed.port, Buffer.from(request, "latin1"));
        expect([path, answer.status]).toEqual([path, status]);
        expect(JSON.parse(answer.body)).toMatchObject({ status, code });
      }
      expect((await get(keyed, "/docs", `host: ${host}`)).status).toBe(200);
    },
  );
});

describe("a wider PARLEY_HOST without a key", () => {
  test.each(["0.0.0.0", "::", "192.168.1.5", "example.org"])(
    "%s is refused at the start, with the way out",
    async (host) => {
      const { exitCode, stderr, stdout } = await runParley(
        ["serve"],
        serviceEnv(emptyDir, { env: { PARLEY_HOST: host } }),
      );
      expect(exitCode).toBe(1);
      expect(stderr).toContain(
        `PARLEY_HOST is ${host}, which others can reach, and there is no key. Make one first, on the same PARLEY_DATA_DIR: parley keys create`,
      );
      expect(stdout).toBe("");
    },
  );

  test("with a key it starts", async () => {
    await using wide = await startService({ env: { PARLEY_HOST: "0.0.0.0", PARLEY_API_KEYS: key } });
    const { status } = await rawRequest(
      wide.port,
      "GET /v1/conversations HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n",
    );
    expect(status).toBe(401);
  });
});
