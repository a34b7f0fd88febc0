/** A user is called whatever a team calls them, so long as a path can name them. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import type { Memory, ProfileView } from "../../src/users/schema.ts";
import { type ApiDocument, apiDocument, type Route, type Schema, type Spec } from "../support/openapi.ts";
import { rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let service: Service;
let document: ApiDocument;
beforeAll(async () => {
  service = await startService();
  document = apiDocument((await service.get<Spec>("/openapi.json")).body);
});
afterAll(() => service[Symbol.asyncDispose]());

/** What a body needs beside `user_id`. */
const required: Record<string, unknown> = {
  message: "Hello",
  name: "a.txt",
  role: "user",
  text: "Text.",
  query: "text",
};

function schemaOf({ operation }: Route): Schema | undefined {
  const schema = operation.requestBody?.content["application/json"]?.schema;
  return schema?.$ref === undefined
    ? schema
    : document.spec.components.schemas[schema.$ref.split("/").at(-1)!];
}

describe.each([".", ".."])("a user called %s", (user) => {
  test("is refused wherever a request names a user: no path could", async () => {
    const refused: string[] = [];
    for (const route of document.routes) {
      const { parameters = [] } = route.operation;
      const method = route.method.toUpperCase();
      const schema = schemaOf(route);
      const properties = Object.keys((schema?.properties ?? {}) as object);
      const faultOf = async (path: string, body?: object): Promise<void> => {
        const answer = await service.send<Problem>(method, path, body);
        const where = body === undefined ? "query" : "body";
        expect({ path, status: answer.status, errors: answer.body.errors }).toEqual({
          path,
          status: 400,
          errors: [{ path: `${where}.user_id`, message: 'must not be "." or ".."' }],
        });
        refused.push(`${method} ${route.path}`);
      };
      if (properties.includes("user_id")) {
        const needed = properties.filter((name) => (schema!.required as string[]).includes(name));
        const body = Object.fromEntries(needed.map((name) => [name, required[name]]));
        await faultOf(route.path, { ...body, user_id: user });
      }
      if (parameters.some(({ name, in: place }) => place === "query" && name === "user_id")) {
        const query = new URLSearchParams({ user_id: user });
        if (route.path === "/v1/chat/stream") query.set("message", "Hello");
        await faultOf(`${route.path}?${query}`);
      }
    }
    expect(refused.length).toBeGreaterThanOrEqual(8);
  });

  test("in a path means a directory to clients, and nobody to the service", async () => {
    for (const segment of [user, user.replaceAll(".", "%2e"), user.replaceAll(".", "%2E")]) {
      const { status } = await rawRequest(
        service.port,
        `GET /v1/users/${segment}/profile HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`,
      );
      expect([400, 404]).toContain(status);
    }
  });
});

const odd = [
  "...",
  "..x",
  "a/b",
  "/",
  "a%2Fb",
  "%",
  "%2e%2e",
  "..%2f..",
  "a?b=c",
  "a#b",
  "a;b",
  "a\\..\\b",
  "a b",
  "+",
  "a&b",
  "é漢😀",
  "ada@example.com",
  "__proto__",
];

test("whatever else a user is called, they have a profile, memories and conversations of their own, and an end", async () => {
  await Promise.all(odd.map(isServed));
});

async function isServed(user: string): Promise<void> {
  const path = `/v1/users/${encodeURIComponent(user)}`;
  const patched = await service.send<ProfileView>("PATCH", `${path}/profile`, { display_name: "Odd" });
  expect(patched).toMatchObject({ status: 200, body: { user_id: user, display_name: "Odd" } });
  const added = await service.post<Memory>(`${path}/memories`, { text: "Likes odd names." });
  expect(added.status).toBe(201);
  const found = await service.get<Memory>(added.headers.get("location")!);
  expect(found.body).toEqual(added.body);
  const chat = await service.post<ChatResponse>("/v1/chat", { user_id: user, message: "Hello" });
  expect(chat.status).toBe(200);
  const query = new URLSearchParams({ user_id: user });
  const listed = await service.get<{ conversations: { id: string }[] }>(`/v1/conversations?${query}`);
  expect(listed.body.conversations.map(({ id }) => id)).toEqual([chat.body.conversation_id]);
  const erased = await service.send<{ erased: object }>("DELETE", path);
  expect(erased.body).toMatchObject({ user_id: user, erased: { conversations: 1, memories: 1 } });
}
