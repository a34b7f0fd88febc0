/** Bodies that are more than they seem: compressed, nested, of many keys, of odd numbers, of names that objects know. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import type { ProfileView } from "../../src/users/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { apiDocument, type Route, type Schema, type Spec } from "../support/openapi.ts";
import { type Service, startService, testModel, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
let service: Service;
let bodies: { name: string; method: string; path: string; schema: Schema }[];

const pathOf = ({ path }: Route): string =>
  path.replace("{id}", "conv_01980000-0000-7000-8000-000000007e57").replace("{user_id}", "ada");

beforeAll(async () => {
  model = startModelServer();
  model.default((all) => all.reply(["Hello."]));
  service = await startService({ model });
  const document = apiDocument((await service.get<Spec>("/openapi.json")).body);
  bodies = document.routes.flatMap((route) => {
    const { $ref } = route.operation.requestBody?.content["application/json"]?.schema ?? {};
    const schema = document.spec.components.schemas[$ref?.split("/").at(-1) ?? ""];
    const method = route.method.toUpperCase();
    return schema ? [{ name: `${method} ${route.path}`, method, path: pathOf(route), schema }] : [];
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const json = { "content-type": "application/json" };
async function send(method: string, path: string, body: string | Uint8Array<ArrayBuffer>, headers = {}) {
  const response = await service.fetch(path, { method, headers: { ...json, ...headers }, body });
  const problem = (await response.json()) as Problem;
  return { status: response.status, headers: response.headers, problem };
}

describe("a compressed body", () => {
  const bomb = Bun.gzipSync(Buffer.alloc(64 * 1024 * 1024, " "));

  test.each([
    "gzip",
    "GZIP",
    "x-gzip",
    "deflate",
    "br",
    "zstd",
    "gzip, identity",
    "identity, gzip",
    "unheard-of",
  ])("is refused and not expanded: %s", async (encoding) => {
    for (const path of ["/v1/chat", "/v1/conversations", "/v1/documents"]) {
      const { status, headers, problem } = await send("POST", path, bomb, { "content-encoding": encoding });
      expect([status, problem.code]).toEqual([415, "unsupported_media_type"]);
      expect(problem.detail).toBe("The body must not be compressed: send it without Content-Encoding.");
      expect(headers.get("accept-encoding")).toBe("identity");
    }
  });

  test("of an upload is refused too", async () => {
    const headers = { "content-type": "multipart/form-data; boundary=b", "content-encoding": "gzip" };
    expect((await send("POST", "/v1/documents", bomb, headers)).status).toBe(415);
  });

  test("that isn't says so and is taken", async () => {
    const body = JSON.stringify({ user_id: "ada" });
    expect((await send("POST", "/v1/conversations", body, { "content-encoding": "identity" })).status).toBe(
      201,
    );
  });
});

/** Names with which a careless copy would change every object there is. */
const names = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "valueOf",
  "hasOwnProperty",
  "__defineGetter__",
];

describe("a property called like one of every object", () => {
  const pollution =
    '{"title":"polluted","polluted":true,"display_name":"polluted","temperature":1.5,"prototype":{"polluted":true}}';

  test.each(names)("%s: is refused at every depth of every body", async (name) => {
    expect(bodies.length).toBeGreaterThanOrEqual(9);
    for (const { name: route, method, path, schema } of bodies) {
      const properties = Object.entries(schema.properties as Record<string, Schema>);
      const objects = properties.filter(([, inner]) => JSON.stringify(inner).includes('"object"'));
      const members = [
        `"${name}":${pollution}`,
        ...properties.map(([property]) => `"${property}":{"${name}":${pollution}}`),
        ...objects.map(([property]) => `"${property}":{"a":{"${name}":${pollution}}}`),
        ...objects.map(([property]) => `"${property}":{"${name}":{"${name}":${pollution}}}`),
      ];
      for (const member of members) {
        const { status, problem } = await send(method, path, `{${member}}`);
        expect({ route, member, status, code: problem.code }).toEqual({
          route,
          member,
          status: 400,
          code: "invalid_request",
        });
      }
    }
  });

  test.each(names)("%s: is refused in every query", async (name) => {
    for (const query of [
      `${name}=x`,
      `${name}[title]=x`,
      `${name}.title=x`,
      `constructor[prototype][${name}]=x`,
    ]) {
      for (const path of ["/v1/conversations", "/v1/documents", "/v1/users/ada/memories"]) {
        expect({ query, status: (await service.get(`${path}?${query}`)).status }).toEqual({
          query,
          status: 400,
        });
      }
    }
  });

  test("is a key of metadata like any other, but for __proto__", async () => {
    const metadata = Object.fromEntries(names.slice(1).map((name) => [name, `of ${name}`]));
    const { status, body } = await service.post<Conversation>("/v1/conversations", {
      user_id: "ada",
      metadata,
    });
    expect([status, body.metadata]).toEqual([201, metadata]);
    const kept = await service.get<Conversation>(`/v1/conversations/${body.id}`);
    expect(kept.body.metadata).toEqual(metadata);
    const raw = `{"user_id":"ada","metadata":{"__proto__":"x"}}`;
    expect((await send("POST", "/v1/conversations", raw)).status).toBe(400);
  });

  test("has changed no object of the service", async () => {
    const created = await service.post<Conversation>("/v1/conversations", { user_id: "ada" });
    expect([created.body.title, created.body.metadata]).toEqual([null, {}]);
    const profile = await service.get<ProfileView>("/v1/users/nobody/profile");
    expect(profile.body.display_name).toBeNull();
    await service.post("/v1/chat", { user_id: "ada", message: "Hello" });
    const request = model.requests.at(-1)!.body as unknown as Record<string, unknown>;
    expect(request.model).toBe(testModel);
    expect("temperature" in request).toBe(false);
    expect(JSON.stringify([created.body, profile.body, request])).not.toContain("polluted");
  });
});

describe("JSON that is hard to hold", () => {
  const limit = 1024 * 1024;
  const count = 60_000;
  const ofKeys = (key: (n: number) => string): string =>
    `{${Array.from({ length: count }, (_, n) => `"${key(n)}":0`).join(",")}}`;

  test.each([
    ["lists in lists, to the limit of its size", "[".repeat(limit / 2) + "]".repeat(limit / 2)],
    ["lists in lists that don't end", "[".repeat(limit)],
    ["objects in objects", `${'{"a":'.repeat(limit / 6)}1${"}".repeat(limit / 6)}`],
    ["many keys", ofKeys((n) => `k${n}`)],
    ["many keys that look like places of a list", ofKeys(String)],
    ["places of a list far apart", ofKeys((n) => String(n * 70_001))],
    ["keys of one length and one end", ofKeys((n) => String(n).padStart(10, "A"))],
    ["the same key again and again", ofKeys(() => "user_id")],
    ["many escapes", `{"user_id":"${"\\u0061".repeat(limit / 6 - 10)}"}`],
    ["a number of a million digits", `{"user_id":${"9".repeat(limit - 20)}}`],
    ["a fraction of a million digits", `{"user_id":0.${"3".repeat(limit - 20)}}`],
  ])("%s: is refused", async (_name, body) => {
    for (const path of ["/v1/chat", "/v1/conversations", "/v1/documents"]) {
      const { status } = await send("POST", path, body.slice(0, limit));
      expect(status).toBe(400);
    }
  });
});

describe("numbers at their ends", () => {
  const chat = (members: string) =>
    send("POST", "/v1/chat", `{"user_id":"ada","message":"Hello",${members}}`);
  const search = (members: string) => send("POST", "/v1/documents/search", `{"query":"text",${members}}`);

  test.each([
    ["1e400"],
    ["-1e400"],
    ["1e308"],
    ["-1"],
    ["9007199254740993"],
    ["-9223372036854775808"],
    ["18446744073709551616"],
    ['"1"'],
    ["true"],
    ["[1]"],
    ["{}"],
  ])("%s is out of every range, or no number", async (number) => {
    for (const [where, sent] of [
      ["temperature", await chat(`"temperature":${number}`)],
      ["max_tokens", await chat(`"max_tokens":${number}`)],
      ["limit", await search(`"limit":${number}`)],
    ] as const) {
      expect({ where, status: sent.status, path: sent.problem.errors?.[0]?.path }).toEqual({
        where,
        status: 400,
        path: `body.${where}`,
      });
    }
  });

  test.each(["NaN", "Infinity", "-Infinity", "0x10", "010", "1.", ".5", "+1", "1_000", "1n"])(
    "%s is no JSON",
    async (number) => {
      const { status, problem } = await chat(`"max_tokens":${number}`);
      expect([status, problem.code]).toEqual([400, "malformed_json"]);
    },
  );

  test("what is within a range is taken, however it is written", async () => {
    for (const members of [
      '"temperature":1e-400',
      '"temperature":-0',
      '"temperature":2.0',
      '"max_tokens":1e3',
      '"max_tokens":1000000',
    ])
      expect({ members, status: (await chat(members)).status }).toEqual({ members, status: 200 });
    for (const members of ['"limit":5e1', '"limit":1.0']) expect((await search(members)).status).toBe(200);
  });
});
