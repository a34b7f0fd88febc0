/** Path tricks: other spellings of a path lead to nothing that the plain one doesn't, and past no check. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Memory, ProfileView } from "../../src/users/schema.ts";
import { type RawAnswer, rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const key = "a-key-of-this-test";
const headers = { authorization: `Bearer ${key}` };

let service: Service;
beforeAll(async () => {
  service = await startService({ env: { PARLEY_API_KEYS: key } });
  await service.post("/v1/conversations", { user_id: "ada", title: "Secret" }, headers);
});
afterAll(() => service[Symbol.asyncDispose]());

/** Sends a target as it is, byte by byte. */
const ask = (target: string, authorization = "", method = "GET"): Promise<RawAnswer> =>
  rawRequest(
    service.port,
    Buffer.from(
      `${method} ${target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${authorization}\r\n`,
      "latin1",
    ),
  );
const withKey = `authorization: Bearer ${key}\r\n`;

/** Spellings of the list of conversations that mean it, by the rules of WHATWG's addresses. */
const spellings = [
  "/v1/./conversations",
  "/./v1/conversations",
  "/x/../v1/conversations",
  "/v1/%2e/conversations",
  "/v1/x/%2e%2e/conversations",
  "/v1/x/.%2E/conversations",
  "/health/../v1/conversations",
  "/docs/../v1/conversations",
  "/docs/%2e%2e/conversations",
  "/../../../conversations",
  `/${"../".repeat(20_000)}v1/conversations`,
  "/v1/conversations/",
  "/v1\\conversations",
  "http://localhost/v1/conversations",
  "http://evil.example/v1/conversations",
  "HTTP://localhost/v1/conversations",
  "https://localhost/v1/conversations",
  "http://user:password@localhost/v1/conversations",
  "http:///v1/conversations",
  "http://localhost:99999/v1/conversations",
  "/v1/conversations?",
  "/conversations",
];

/** What means nothing. */
const meaningless = [
  "//v1/conversations",
  "/v1//conversations",
  "/v1%2fconversations",
  "/v1%5cconversations",
  "/v1/conversations;x=y",
  "/v1;/conversations",
  "/v1/conversations%00",
  "/v1/conversations%20",
  "/v1/conversations%0d%0a",
  "/v1/conversations#x",
  "/v1/conversations%3fq=x",
  "/v1/Conversations",
  "/V1/conversations",
  "/v1/%63onversations",
  "/v1/conversations.json",
  // Overlong UTF-8: a slash and NUL.
  "/v1%c0%afconversations",
  "/v1/conversations%c0%80",
  "/v1/conversations\xff",
  "/v1/\xc0\xae\xc0\xae/conversations",
  "/health%2f..%2fv1/conversations",
  "/health;/../../v1/nothing",
  "/docs/..%2f..%2f..%2fetc/passwd",
  "/docs/%2e%2e/%2e%2e/etc/passwd",
  "/docs/../../../etc/passwd",
  "/docs//etc/passwd",
  "/docs/..%5c..%5cetc%5cpasswd",
  "/%2e%2e%2fetc%2fpasswd",
  "http://localhost",
  `/${"a/".repeat(20_000)}`,
  `/${"%2e%2e/".repeat(20_000)}nothing`,
];

describe("another spelling of a path", () => {
  test.each(spellings.map((target) => [target.slice(0, 80), target]))(
    "passes no check that the plain one doesn't: %s",
    async (_name, target) => {
      const stranger = await ask(target);
      expect([stranger.status, stranger.body.includes("Secret")]).toEqual([401, false]);
      const known = await ask(target, withKey);
      expect([known.status, known.body.includes("Secret")]).toEqual([200, true]);
    },
  );

  test.each(meaningless.map((target) => [target.slice(0, 80), target]))(
    "that means nothing leads nowhere: %s",
    async (_name, target) => {
      for (const authorization of ["", withKey]) {
        const { status, body } = await ask(target, authorization);
        expect(status).toBe(404);
        expect(JSON.parse(body)).toMatchObject({ code: "not_found", detail: "There is no such route." });
      }
    },
  );

  test.each(["localhost:80", "*", "v1/conversations", "?x", "ftp://localhost/v1/conversations"])(
    "that is no path is refused by the runtime: %s",
    async (target) => {
      for (const method of ["GET", "OPTIONS", "POST"]) {
        const { status, body } = await ask(target, withKey, method);
        expect([status, body]).toEqual([400, ""]);
      }
    },
  );

  test("as an id is an id, long, odd or folded", async () => {
    for (const id of ["a".repeat(100_000), "%00", "%2f%2e%2e%2f", "%ff", "'--", "conv_%2e%2e"]) {
      const { status } = await ask(`/v1/conversations/${id}`, withKey);
      expect({ id: id.slice(0, 20), status }).toEqual({ id: id.slice(0, 20), status: 404 });
    }
  });

  test("names the user whom it names: an encoded slash stays one, a folded segment is gone", async () => {
    const userOf = async (path: string): Promise<string> =>
      (JSON.parse((await ask(path, withKey)).body) as ProfileView).user_id;
    expect(await userOf("/v1/users/a%2fb/profile")).toBe("a/b");
    expect(await userOf("/v1/users/a%252fb/profile")).toBe("a%2fb");
    expect(await userOf("/v1/users/a%5c..%5cb/profile")).toBe("a\\..\\b");
    expect(await userOf("/v1/users/a/../b/profile")).toBe("b");
    expect((await ask("/v1/users//profile", withKey)).status).toBe(404);
  });
});

test("deleting the memory .. of a user, which clients fold into the user, deletes no user", async () => {
  const { body } = await service.post<Memory>("/v1/users/ada/memories", { text: "Plays chess." }, headers);
  for (const id of ["..", "%2e%2e", ".", "%2E", "./", "../"]) {
    const { status } = await service.send("DELETE", `/v1/users/ada/memories/${id}`, undefined, headers);
    expect({ id, status }).toEqual({ id, status: 404 });
    const raw = await ask(`/v1/users/ada/memories/${id}`, withKey, "DELETE");
    expect({ id, status: raw.status }).toEqual({ id, status: 404 });
  }
  const kept = await service.get<Memory>(`/v1/users/ada/memories/${body.id}`, headers);
  expect(kept.body).toEqual(body);
});
