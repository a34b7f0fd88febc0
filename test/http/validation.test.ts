/**
 * Every bad request, on every route that takes input: a clear problem and nothing else. Nothing is stored, no model is
 * asked, nothing of the input comes back. All of it under NODE_ENV=development as well.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Fault } from "../../src/errors.ts";
import type { Problem } from "../../src/http/problem.ts";
import type { ExportedUser } from "../../src/users/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { memoryOf } from "../support/processes.ts";
import { connect, parseAnswer, rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const marker = "MARKER";
const someTurn = "turn_01890a5d-ac96-774b-bcce-b302099a8057";
const someConversation = "conv_01890a5d-ac96-774b-bcce-b302099a8057";
const someMemory = "mem_01890a5d-ac96-774b-bcce-b302099a8057";
const noText = "must not contain NUL or unpaired surrogates";

let model: ModelServer;
let services: Service[];

beforeAll(async () => {
  model = startModelServer();
  model.default((all) => all.reply(["this should not have been asked"]));
  services = await Promise.all([
    startService({ model }),
    startService({ model, env: { NODE_ENV: "development" } }),
  ]);
});

afterAll(async () => {
  await Promise.all(services.map((service) => service[Symbol.asyncDispose]()));
  await model.close();
});

/** Faults as `path message`, in any order. */
type Faults = string[];

interface BadRequest {
  method?: string;
  path: string;
  headers?: Record<string, string>;
  /** JSON, unless it is bytes. */
  body?: unknown;
  status?: number;
  code?: string;
  faults?: Faults;
}

/** Sends a bad request to both services and checks that the answer is the problem, in its exact form. */
async function expectProblem(bad: BadRequest): Promise<Problem> {
  const { path, headers = {}, body, status = 400, code = "invalid_request", faults } = bad;
  const method = bad.method ?? (body === undefined ? "GET" : "POST");
  let last: Problem | undefined;
  for (const service of services) {
    const response = await service.fetch(path, {
      method,
      headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
      ...(body !== undefined && {
        body: body instanceof Uint8Array ? Buffer.from(body) : JSON.stringify(body),
      }),
    });
    const text = await response.text();
    const where = `${method} ${path}`;
    expect([where, response.status, response.headers.get("content-type")]).toEqual([
      where,
      status,
      "application/problem+json",
    ]);
    const problem = JSON.parse(text) as Problem;
    const requestId = response.headers.get("x-request-id")!;
    expect(problem).toEqual({
      type: `urn:parley:problem:${code}`,
      title: expect.stringMatching(/^\S/),
      status,
      detail: expect.stringMatching(/^\S/),
      instance: `urn:parley:request:${requestId}`,
      code,
      request_id: requestId,
      ...(code === "invalid_request" && { errors: expect.any(Array) as Fault[] }),
    });
    const listed = (problem.errors ?? []).map(({ path, message }) => `${path} ${message}`);
    if (faults) expect(listed.toSorted()).toEqual(faults.toSorted());
    if (code === "invalid_request") expect(listed.length).toBeGreaterThan(0);
    expect(new Set(listed).size).toBe(listed.length);
    expect(listed.length).toBeLessThanOrEqual(64);
    expect(text).not.toContain(marker);
    expect(text).not.toMatch(/\bat \S+:\d+|node_modules|select |insert |TypeBox|Elysia/);
    last = problem;
  }
  return last!;
}

const json = (text: string): Uint8Array => new TextEncoder().encode(text);
const nested = (depth: number): string => `${"[".repeat(depth)}${"]".repeat(depth)}`;
const pairs = (count: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`key${index}`, "value"]));

const startingRoutes = ["/v1/chat", "/v1/chat/stream", "/v1/turns", "/chat", "/chat/stream", "/turns"];
const chat = { user_id: "ada", message: "Hello" };
/** A body as text, with members that no object literal can have. */
const chatWith = (members: string): Uint8Array => json(`{"user_id":"ada","message":"Hello",${members}}`);

describe("the body of a chat", () => {
  const rows: [what: string, body: unknown, ...faults: Faults][] = [
    ["an empty object", {}, "body.message is required", "body.user_id is required"],
    ["no message", { user_id: "ada" }, "body.message is required"],
    ["no user_id", { message: "Hello" }, "body.user_id is required"],
    ["an array", [chat], "body must be an object"],
    ["a string", "Hello", "body must be an object"],
    ["a number", 1, "body must be an object"],
    ["null", null, "body must be an object"],
    ["true", true, "body must be an object"],
    [
      "an empty message",
      { ...chat, message: "" },
      "body.message must not be empty",
      "body.message must not be blank",
    ],
    ["a blank message", { ...chat, message: " \n\t\u00a0\u3000" }, "body.message must not be blank"],
    [
      "a message of 32,001",
      { ...chat, message: "x".repeat(32_001) },
      "body.message must have at most 32000 characters",
    ],
    [
      "a message of 16,001 emoji, which are two code units each",
      { ...chat, message: "😀".repeat(16_001) },
      "body.message must have at most 32000 characters",
    ],
    ["a message that is no string", { ...chat, message: 5 }, "body.message must be a string"],
    ["a message that is null", { ...chat, message: null }, "body.message must be a string"],
    ["a message that is a list", { ...chat, message: ["Hello"] }, "body.message must be a string"],
    [
      "values with a toString of their own",
      { ...chat, message: { toString: marker }, user_id: { valueOf: 1, toJSON: 2 } },
      "body.message must be a string",
      "body.user_id must be a string",
    ],
    ["an empty user_id", { ...chat, user_id: "" }, "body.user_id must not be empty"],
    [
      "a user_id of 257",
      { ...chat, user_id: "x".repeat(257) },
      "body.user_id must have at most 256 characters",
    ],
    ["a user_id that is a number", { ...chat, user_id: 1 }, "body.user_id must be a string"],
    [
      "a conversation_id that is a number",
      { ...chat, conversation_id: 1 },
      "body.conversation_id must be a string",
    ],
    [
      "a conversation_id of 201",
      { ...chat, conversation_id: "x".repeat(201) },
      "body.conversation_id must have at most 200 characters",
    ],
    ["a model that is empty", { ...chat, model: "" }, "body.model must not be empty"],
    ["a model of 201", { ...chat, model: "x".repeat(201) }, "body.model must have at most 200 characters"],
    ["a temperature that is a string", { ...chat, temperature: "1" }, "body.temperature must be a number"],
    ["a temperature below 0", { ...chat, temperature: -0.1 }, "body.temperature must be at least 0"],
    ["a temperature above 2", { ...chat, temperature: 2.1 }, "body.temperature must be at most 2"],
    ["a temperature that is infinite", chatWith('"temperature":1e400'), "body.temperature must be a number"],
    ["max_tokens as a string", { ...chat, max_tokens: "1" }, "body.max_tokens must be a whole number"],
    ["max_tokens of 1.5", { ...chat, max_tokens: 1.5 }, "body.max_tokens must be a whole number"],
    ["max_tokens of 0", { ...chat, max_tokens: 0 }, "body.max_tokens must be at least 1"],
    ["max_tokens of -1", { ...chat, max_tokens: -1 }, "body.max_tokens must be at least 1"],
    ["max_tokens of 1e7", { ...chat, max_tokens: 1e7 }, "body.max_tokens must be at most 1000000"],
    ["max_tokens of 1e400", chatWith('"max_tokens":1e400'), "body.max_tokens must be a whole number"],
    ["max_tokens of true", { ...chat, max_tokens: true }, "body.max_tokens must be a whole number"],
    ["use_memory as a string", { ...chat, use_memory: "true" }, "body.use_memory must be true or false"],
    ["use_memory as a number", { ...chat, use_memory: 1 }, "body.use_memory must be true or false"],
    ["collections as a string", { ...chat, collections: "a" }, "body.collections must be a list"],
    ["an empty collection name", { ...chat, collections: [""] }, "body.collections.0 must not be empty"],
    ["collections of numbers", { ...chat, collections: ["a", 1] }, "body.collections.1 must be a string"],
    [
      "65 collections",
      { ...chat, collections: Array.from({ length: 65 }, (_, index) => `c${index}`) },
      "body.collections must have at most 64 entries",
    ],
    ["an unknown property", { ...chat, extra: marker }, "body.extra is not a known property"],
    [
      "an unknown property whose name is no word",
      { ...chat, [`${marker} <b>`]: 1 },
      "body.(unnamed) is not a known property",
    ],
    ["a property of another route", { ...chat, title: "x" }, "body.title is not a known property"],
    ["a __proto__", chatWith('"__proto__":{"admin":true}'), "body.__proto__ is not a known property"],
    ["a constructor", chatWith('"constructor":{"prototype":{}}'), "body.constructor is not a known property"],
    ["a toString", chatWith('"toString":1'), "body.toString is not a known property"],
    ["metadata as a string", { ...chat, metadata: "x" }, "body.metadata must be an object"],
    ["metadata as a list", { ...chat, metadata: ["x"] }, "body.metadata must be an object"],
    ["17 pairs of metadata", { ...chat, metadata: pairs(17) }, "body.metadata must have at most 16 entries"],
    [
      "a metadata value of 513",
      { ...chat, metadata: { a: "x".repeat(513) } },
      "body.metadata.a must have at most 512 characters",
    ],
    [
      "a metadata value that is a number",
      { ...chat, metadata: { a: 1 } },
      "body.metadata.a must be a string",
    ],
    ["a metadata value that is null", { ...chat, metadata: { a: null } }, "body.metadata.a must be a string"],
    [
      "a metadata value that is an object",
      { ...chat, metadata: { a: {} } },
      "body.metadata.a must be a string",
    ],
    [
      "a metadata key of 65",
      { ...chat, metadata: { ["x".repeat(65)]: "" } },
      "body.metadata.(unnamed) is not a known property",
    ],
    [
      "an empty metadata key",
      { ...chat, metadata: { "": "" } },
      "body.metadata.(unnamed) is not a known property",
    ],
    [
      "a metadata key __proto__",
      chatWith('"metadata":{"__proto__":"x"}'),
      "body.metadata.__proto__ is not a known property",
    ],
    [
      "a metadata key with NUL",
      { ...chat, metadata: { "a\0": "" } },
      "body.metadata.(unnamed) is not a known property",
    ],
    [
      "a metadata key with half a pair",
      { ...chat, metadata: { "\ud800": "" } },
      "body.metadata.(unnamed) is not a known property",
    ],
    ...["\0", "\ud800", "\udc00", "\ude00\ud83d"].flatMap((bad): [string, unknown, ...Faults][] => {
      const what = JSON.stringify(bad);
      return [
        [`a message with ${what}`, { ...chat, message: `a${bad}b` }, `body.message ${noText}`],
        [`a user_id with ${what}`, { ...chat, user_id: `a${bad}b` }, `body.user_id ${noText}`],
        [
          `a conversation_id with ${what}`,
          { ...chat, conversation_id: `a${bad}b` },
          `body.conversation_id ${noText}`,
        ],
        [`a model with ${what}`, { ...chat, model: `a${bad}b` }, `body.model ${noText}`],
        [
          `a metadata value with ${what}`,
          { ...chat, metadata: { a: `a${bad}b` } },
          `body.metadata.a ${noText}`,
        ],
        [`a collection with ${what}`, { ...chat, collections: [`a${bad}b`] }, `body.collections.0 ${noText}`],
      ];
    }),
    [
      "many faults",
      {
        message: "",
        user_id: 5,
        temperature: 3,
        max_tokens: "9",
        metadata: { a: 1, b: "\0" },
        extra: 1,
        more: 2,
      },
      "body.message must not be empty",
      "body.message must not be blank",
      "body.user_id must be a string",
      "body.temperature must be at most 2",
      "body.max_tokens must be a whole number",
      "body.metadata.a must be a string",
      `body.metadata.b ${noText}`,
      "body.extra is not a known property",
      "body.more is not a known property",
    ],
  ];
  test.each(rows)("%s", async (_what, body, ...faults) => {
    for (const path of startingRoutes) await expectProblem({ path, body, faults });
  });

  test("of more faults than 64, 64 are listed", async () => {
    const body = {
      ...chat,
      ...Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`p${index}`, 1])),
    };
    const { errors } = await expectProblem({ path: "/v1/chat", body });
    expect(errors?.length).toBe(64);
  });

  test("of more faults than 64 in body and query together too", async () => {
    const query = Array.from({ length: 100 }, (_, index) => `q${index}=1&q${index}=2`).join("&");
    const { errors } = await expectProblem({ path: `/v1/chat?${query}`, body: {} });
    expect(errors?.length).toBe(64);
  });

  test("an unknown conversation is 404, whatever its form, and says what to do", async () => {
    for (const conversation_id of [someConversation, someTurn, "conv_1", "x", "💬"]) {
      for (const path of startingRoutes) {
        const { detail } = await expectProblem({
          path,
          body: { ...chat, conversation_id },
          status: 404,
          code: "not_found",
        });
        expect(detail).toContain("Leave conversation_id out to start a new conversation");
      }
    }
  });

  test("what is at the limits is taken", async () => {
    await using taking = await startService({});
    const whole = {
      message: "x".repeat(32_000),
      user_id: "x".repeat(256),
      metadata: Object.fromEntries(
        Array.from({ length: 16 }, (_, index) => [String(index).padStart(64, "k"), "x".repeat(512)]),
      ),
      temperature: 2,
      max_tokens: 1_000_000,
      collections: [],
      use_memory: false,
    };
    expect((await taking.post("/v1/chat", whole)).status).toBe(200);
    expect((await taking.post("/v1/chat", { ...chat, message: "😀".repeat(16_000) })).status).toBe(200);
    expect((await taking.post("/v1/chat", { ...chat, temperature: 0, max_tokens: 1 })).status).toBe(200);
    const query = new URLSearchParams({ user_id: "ada", message: "中".repeat(32_000) });
    const stream = await taking.fetch(`/v1/chat/stream?${query}`);
    expect([stream.status, stream.headers.get("content-type")]).toEqual([
      200,
      "text/event-stream; charset=utf-8",
    ]);
    await stream.body?.cancel();
    expect(
      (await taking.post("/v1/chat", { ...chat, metadata: { constructor: "x", toString: "y" } })).status,
    ).toBe(200);
  });
});

describe("bytes that are no JSON", () => {
  const rows: [what: string, body: Uint8Array, code: string][] = [
    ["nothing at all", json(""), "invalid_request"],
    ["blanks", json("  "), "malformed_json"],
    ["half an object", json('{"message":"Hello"'), "malformed_json"],
    ["a trailing comma", json('{"message":"Hello",}'), "malformed_json"],
    ["single quotes", json("{'message':'Hello'}"), "malformed_json"],
    ["two values", json("{} {}"), "malformed_json"],
    ["NaN", chatWith('"temperature":NaN'), "malformed_json"],
    ["Infinity", chatWith('"temperature":Infinity'), "malformed_json"],
    ["a hexadecimal number", chatWith('"max_tokens":0x10'), "malformed_json"],
    ["a raw control character in a string", chatWith('"model":"a\u0001b"'), "malformed_json"],
    ["a comment", json("{/* */}"), "malformed_json"],
    ["a form", json("message=Hello&user_id=ada"), "malformed_json"],
    ["invalid UTF-8", new Uint8Array([...chatWith('"model":"'), 0xff, 0xfe]), "malformed_json"],
    [
      "UTF-8 cut in a character",
      Buffer.concat([json('{"message":"'), new Uint8Array([0xe4, 0xb8]), json('"}')]),
      "malformed_json",
    ],
    [
      "an overlong NUL",
      Buffer.concat([json('{"message":"'), new Uint8Array([0xc0, 0x80]), json('"}')]),
      "malformed_json",
    ],
    [
      "a surrogate in UTF-8",
      Buffer.concat([json('{"message":"'), new Uint8Array([0xed, 0xa0, 0x80]), json('"}')]),
      "malformed_json",
    ],
    ["UTF-16", Buffer.from('{"message":"Hello"}', "utf16le"), "malformed_json"],
    ["33 nested lists", json(nested(33)), "malformed_json"],
    ["32 nested lists", json(nested(32)), "invalid_request"],
    ["100,000 nested lists", json(nested(100_000)), "malformed_json"],
    ["100,000 nested lists in a property", chatWith(`"metadata":${nested(100_000)}`), "malformed_json"],
  ];
  test.each(rows)("%s", async (_what, body, code) => {
    for (const path of [...startingRoutes, "/v1/conversations", "/conversations"]) {
      await expectProblem({ path, body, code });
    }
  });

  test.each([
    ["unknown properties", `{${Array.from({ length: 80_000 }, (_, n) => `"k${n}":1`)}}`],
    ["pairs of metadata", `{"metadata":{${Array.from({ length: 80_000 }, (_, n) => `"k${n}":1`)}}}`],
    ["lists", `{"metadata":[${Array(340_000).fill("[]")}]}`],
    ["entries of a list", `{"collections":[${Array(500_000).fill("1")}]}`],
  ])("a mebibyte of %s", async (_what, text) => {
    expect(text.length).toBeLessThanOrEqual(1024 * 1024);
    for (const path of startingRoutes)
      await expectProblem({ path, body: json(text), code: "malformed_json" });
  });

  test("of duplicate keys the last one counts, as JSON.parse has it", async () => {
    await expectProblem({
      path: "/v1/chat",
      body: json('{"user_id":"ada","message":"Hello","message":""}'),
      faults: ["body.message must not be empty", "body.message must not be blank"],
    });
  });
});

describe("the content type", () => {
  const body = json(JSON.stringify(chat));
  const wrong = [
    "text/plain",
    "text/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "application/json-seq",
    "application/problem+json",
    "application/octet-stream",
    "application/json, text/plain",
    "json",
    "*/*",
  ];
  test.each(wrong)("%s is 415", async (type) => {
    for (const path of [...startingRoutes, "/v1/conversations"]) {
      await expectProblem({
        path,
        body,
        headers: { "content-type": type },
        status: 415,
        code: "unsupported_media_type",
      });
    }
    await expectProblem({
      method: "PATCH",
      path: `/v1/conversations/${someConversation}`,
      body,
      headers: { "content-type": type },
      status: 415,
      code: "unsupported_media_type",
    });
  });

  test("none at all is 415", async () => {
    for (const service of services) {
      const answer = await rawRequest(
        service.port,
        Buffer.concat([
          json(
            `POST /v1/chat HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n`,
          ),
          body,
        ]),
      );
      expect([answer.status, answer.headers.get("content-type")]).toEqual([415, "application/problem+json"]);
    }
  });

  test("forms are 415, whatever they hold", async () => {
    const form = new FormData();
    for (const [name, value] of Object.entries(chat)) form.set(name, value);
    for (const service of services) {
      for (const encoded of [form, new URLSearchParams(chat)]) {
        expect((await service.fetch("/v1/chat", { method: "POST", body: encoded })).status).toBe(415);
      }
    }
  });

  test.each([
    "application/json",
    "application/json; charset=utf-8",
    "APPLICATION/JSON;charset=UTF-8",
    "application/json ; x=y",
  ])("%s is fine", async (type) => {
    await expectProblem({
      path: "/v1/chat",
      body: json("{}"),
      headers: { "content-type": type },
      faults: ["body.message is required", "body.user_id is required"],
    });
  });
});

describe("the size of the body", () => {
  const bytesMax = 1024 * 1024;
  const head = (lines: string): string =>
    `POST /v1/chat HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n${lines}\r\n\r\n`;

  test("a Content-Length over the limit is 413 without waiting for the body", async () => {
    for (const service of services) {
      const connection = await connect(service.port);
      connection.write(head(`content-length: ${bytesMax + 1}`));
      await until("the answer comes", () => connection.received.includes("payload_too_large"));
      const { status, headers, body } = parseAnswer(connection.received);
      expect([status, headers.get("content-type")]).toEqual([413, "application/problem+json"]);
      expect(JSON.parse(body)).toMatchObject({
        code: "payload_too_large",
        detail: `The body may have at most ${bytesMax} bytes.`,
        request_id: headers.get("x-request-id"),
      });
      connection.close();
    }
  });

  test("a body that says nothing of its size is 413 as soon as it is too large", async () => {
    for (const service of services) {
      const connection = await connect(service.port);
      connection.write(head("transfer-encoding: chunked"));
      const chunk = Buffer.from(`10000\r\n${" ".repeat(0x10000)}\r\n`);
      for (let sent = 0; sent <= bytesMax + chunk.length; sent += chunk.length) connection.write(chunk);
      await until("the answer comes", () => connection.received.includes("payload_too_large"));
      expect(parseAnswer(connection.received).status).toBe(413);
      connection.close();
    }
  });

  test("one byte less passes", async () => {
    const text = JSON.stringify({ ...chat, message: "" });
    const padded = json(text + " ".repeat(bytesMax - text.length));
    expect(padded.byteLength).toBe(bytesMax);
    await expectProblem({ path: "/v1/chat", body: padded });
    const tooLarge = json(text + " ".repeat(bytesMax - text.length + 1));
    await expectProblem({ path: "/v1/chat", body: tooLarge, status: 413, code: "payload_too_large" });
  });

  test("what is too large is never held: 200 MB to the service leave it as it was", async () => {
    const service = services[0]!;
    const before = memoryOf(service.pid);
    const sender = async (declared: boolean): Promise<void> => {
      const connection = await connect(service.port);
      const total = 20 * 1024 * 1024;
      connection.write(head(declared ? `content-length: ${total}` : "transfer-encoding: chunked"));
      const piece = Buffer.alloc(0x10000, " ");
      const chunk = declared ? piece : Buffer.concat([Buffer.from("10000\r\n"), piece, Buffer.from("\r\n")]);
      for (let sent = 0; sent < total; sent += piece.length) connection.write(chunk);
      await until("the answer comes", () => connection.received.includes("payload_too_large"));
      connection.close();
    };
    await Promise.all(Array.from({ length: 10 }, (_, index) => sender(index % 2 === 0)));
    expect(memoryOf(service.pid) - before).toBeLessThan(100 * 1024 * 1024);
  });

  test("PARLEY_BODY_BYTES_MAX and PARLEY_MESSAGE_CHARS_MAX set the limits", async () => {
    await using small = await startService({
      env: { PARLEY_BODY_BYTES_MAX: "100", PARLEY_MESSAGE_CHARS_MAX: "10" },
    });
    const long = await small.post<Problem>("/v1/chat", { ...chat, message: "12345678901" });
    expect([long.status, long.body.errors?.[0]?.message]).toEqual([400, "must have at most 10 characters"]);
    expect((await small.post("/v1/chat", { ...chat, message: "x".repeat(100) })).status).toBe(413);
    expect((await small.post("/v1/chat", { ...chat, message: "1234567890" })).status).toBe(200);
  });
});

/** Resident memory of a process, in bytes. */

describe("the query of GET /v1/chat/stream", () => {
  const whole = "user_id=ada&message=Hello";
  const rows: [query: string, ...faults: Faults][] = [
    ["", "query.message is required", "query.user_id is required"],
    ["message=&user_id=ada", "query.message must not be empty", "query.message must not be blank"],
    ["message=+%20&user_id=ada", "query.message must not be blank"],
    [`message=${"x".repeat(32_001)}&user_id=ada`, "query.message must have at most 32000 characters"],
    ["message=Hello&user_id=", "query.user_id must not be empty"],
    [`${whole}&temperature=1`, "query.temperature is not a known property"],
    [`${whole}&__proto__=1`, "query.__proto__ is not a known property"],
    [`${whole}&constructor=1`, "query.constructor is not a known property"],
    [`${whole}&message=again`, "query.message must be given once"],
    [
      `${whole}&message=again&message=${marker}&user_id=ben`,
      "query.message must be given once",
      "query.user_id must be given once",
    ],
    [`${whole}&m%65ssage=again`, "query.message must be given once"],
    ["user_id=ada&message=a%00b", `query.message ${noText}`],
    ["user_id=a%00b&message=Hello", `query.user_id ${noText}`],
    ["user_id=ada&message=%ff", "query.message must be percent-encoded UTF-8"],
    ["user_id=ada&message=%", "query.message must be percent-encoded UTF-8"],
    ["user_id=ada&message=100%zz", "query.message must be percent-encoded UTF-8"],
    ["user_id=ada&message=%ed%a0%80", "query.message must be percent-encoded UTF-8"],
    [
      `${whole}&%ff=1`,
      "query.(unnamed) must be percent-encoded UTF-8",
      "query.(unnamed) is not a known property",
    ],
    [`${whole}&idempotency_key=`, "query.idempotency_key must be 1 to 255 visible ASCII characters"],
    [`${whole}&idempotency_key=a+b`, "query.idempotency_key must be 1 to 255 visible ASCII characters"],
    [`${whole}&idempotency_key=%C3%A9`, "query.idempotency_key must be 1 to 255 visible ASCII characters"],
    [
      `${whole}&idempotency_key=${"x".repeat(256)}`,
      "query.idempotency_key must be 1 to 255 visible ASCII characters",
    ],
    [
      "message=",
      "query.message must not be empty",
      "query.message must not be blank",
      "query.user_id is required",
    ],
  ];
  test.each(rows)("?%s", async (query, ...faults) => {
    for (const path of ["/v1/chat/stream", "/chat/stream"])
      await expectProblem({ path: `${path}?${query}`, faults });
  });
});

describe("the query of the lists", () => {
  const cursor = (parts: unknown): string => Buffer.from(JSON.stringify(parts)).toString("base64url");
  const conversationCursor = cursor([1_700_000_000_000, someConversation]);
  const messageCursor = cursor([5]);
  const range = "must be a whole number from 1 to 100";
  const badCursor = "must be a cursor from the page before";

  test.each([
    "",
    "0",
    "101",
    "-1",
    "1.5",
    "1e1",
    "0x10",
    " 1",
    "1 ",
    "+1",
    "٣",
    "x",
    "null",
    "9".repeat(30),
    marker,
  ])("limit=%p", async (limit) => {
    const query = `limit=${encodeURIComponent(limit)}`;
    for (const path of [
      "/v1/conversations",
      "/conversations",
      `/v1/conversations/${someConversation}/messages`,
    ]) {
      await expectProblem({ path: `${path}?${query}`, faults: [`query.limit ${range}`] });
    }
  });

  const rows: [query: string, ...faults: Faults][] = [
    ["limit=1&limit=2", "query.limit must be given once"],
    ["limit=1&limit=1", "query.limit must be given once"],
    ["user_id=", "query.user_id must not be empty"],
    [`user_id=${"x".repeat(257)}`, "query.user_id must have at most 256 characters"],
    ["user_id=%00", `query.user_id ${noText}`],
    ["q=%00", `query.q ${noText}`],
    [`q=${"x".repeat(501)}`, "query.q must have at most 500 characters"],
    ["q=a&q=b", "query.q must be given once"],
    ["after=", `query.after ${badCursor}`],
    ["after=garbage", `query.after ${badCursor}`],
    [
      "after=garbage&limit=0&user_id=",
      `query.after ${badCursor}`,
      `query.limit ${range}`,
      "query.user_id must not be empty",
    ],
    ["after=%F0%9F%98%80", `query.after ${badCursor}`],
    [`after=${"x".repeat(301)}`, `query.after ${badCursor}`],
    [`after=${cursor("text")}`, `query.after ${badCursor}`],
    [`after=${cursor({ a: 1 })}`, `query.after ${badCursor}`],
    [`after=${cursor([])}`, `query.after ${badCursor}`],
    [`after=${cursor([null, null])}`, `query.after ${badCursor}`],
    [`after=${cursor(["1", someConversation])}`, `query.after ${badCursor}`],
    [`after=${cursor([1.5, someConversation])}`, `query.after ${badCursor}`],
    [`after=${cursor([1e300, someConversation])}`, `query.after ${badCursor}`],
    [`after=${cursor([1, someConversation, 2])}`, `query.after ${badCursor}`],
    [`after=${messageCursor}`, `query.after ${badCursor}`],
    [`after=${conversationCursor}=`, `query.after ${badCursor}`],
    [`after=${conversationCursor.slice(0, -4)}`, `query.after ${badCursor}`],
    ["before=x", "query.before is not a known property"],
    ["offset=5", "query.offset is not a known property"],
    [
      "limit=0&user_id=&q=%00",
      `query.limit ${range}`,
      "query.user_id must not be empty",
      `query.q ${noText}`,
    ],
    [
      "limit=0&x=%ff",
      `query.limit ${range}`,
      "query.x is not a known property",
      "query.x must be percent-encoded UTF-8",
    ],
  ];
  test.each(rows)("/v1/conversations?%s", async (query, ...faults) => {
    await expectProblem({
      path: `/v1/conversations?${query}`,
      ...(!query.startsWith("limit=0&limit") && { faults }),
    });
  });

  const messageRows: [query: string, ...faults: Faults][] = [
    ["before=", `query.before ${badCursor}`],
    ["before=garbage", `query.before ${badCursor}`],
    [`before=${conversationCursor}`, `query.before ${badCursor}`],
    [`before=${cursor(["5"])}`, `query.before ${badCursor}`],
    [`before=${messageCursor}&before=${messageCursor}`, "query.before must be given once"],
    ["after=x", "query.after is not a known property"],
    ["limit=x&before=", `query.limit ${range}`, `query.before ${badCursor}`],
  ];
  test.each(messageRows)("/v1/conversations/:id/messages?%s", async (query, ...faults) => {
    await expectProblem({ path: `/v1/conversations/${someConversation}/messages?${query}`, faults });
  });

  test.each(["format=pdf", "format=", "format=JSON", "format=json&format=json", "x=1"])(
    "/v1/conversations/:id/export?%s",
    async (query) => {
      const { errors } = await expectProblem({
        path: `/v1/conversations/${someConversation}/export?${query}`,
      });
      expect(errors?.length).toBe(1);
    },
  );

  test.each([
    "after=x",
    "after=-1",
    "after=",
    "after=1.5",
    "after=1&after=2",
    "after=conv_1:5",
    "ticket=a&ticket=b",
    "x=1",
  ])("/v1/turns/:id/stream?%s", async (query) => {
    const { errors } = await expectProblem({ path: `/v1/turns/${someTurn}/stream?${query}` });
    expect(errors?.length).toBe(1);
  });
});

describe("the headers", () => {
  const visible = "must be 1 to 255 visible ASCII characters";
  test.each(["", " ", "a b", "x".repeat(256), "caf\u00e9", "a\tb"])("Idempotency-Key: %p", async (key) => {
    const headers = { "idempotency-key": key };
    const faults = [`headers.idempotency-key ${visible}`];
    for (const path of [...startingRoutes, "/v1/conversations"]) {
      const body = path.endsWith("conversations") ? { user_id: "ada" } : chat;
      await expectProblem({ path, body, headers, faults });
    }
  });

  test.each(["garbage", `${someTurn}:`, `${someTurn}:-1`, `${someTurn}:1:2`, `${someConversation}:1`])(
    "Last-Event-ID: %s",
    async (id) => {
      const faults = [
        "headers.last-event-id must be an event id as the stream sent it: <turn_id>:<offset> or <turn_id>:end",
      ];
      const headers = { "last-event-id": id };
      for (const path of ["/v1/chat/stream", "/chat/stream"]) {
        await expectProblem({ path, body: chat, headers, faults });
        await expectProblem({ path: `${path}?user_id=ada&message=Hello`, headers, faults });
      }
    },
  );

  test("faults of body, query and headers are listed together", async () => {
    await expectProblem({
      path: "/v1/chat/stream?a=1&a=2",
      headers: { "idempotency-key": "", "last-event-id": "garbage" },
      body: { user_id: "", extra: marker },
      faults: [
        "body.message is required",
        "body.user_id must not be empty",
        "body.extra is not a known property",
        "query.a must be given once",
        `headers.idempotency-key ${visible}`,
        "headers.last-event-id must be an event id as the stream sent it: <turn_id>:<offset> or <turn_id>:end",
      ],
    });
  });

  test("a request id of the client's own is kept, a hostile one replaced", async () => {
    const service = services[0]!;
    const idFor = async (given: string): Promise<string | null> =>
      (await service.fetch("/v1/chat", { method: "PUT", headers: { "x-request-id": given } })).headers.get(
        "x-request-id",
      );
    for (const fit of ["abc", "req_1:2.3-4", "x".repeat(128)]) expect(await idFor(fit)).toBe(fit);
    for (const hostile of ["", "a b", "x".repeat(129), '"}{', "<script>", "caf\u00e9", "a\tb", "../etc"]) {
      expect(await idFor(hostile)).toMatch(/^req_[0-9a-f-]{36}$/);
    }
    const ok = await service.fetch("/health", { headers: { "x-request-id": "mine" } });
    expect(ok.headers.get("x-request-id")).toBe("mine");
    const bad = await service.get<Problem>("/v1/conversations?limit=0", { "x-request-id": "mine-too" });
    expect([bad.body.request_id, bad.headers.get("x-request-id")]).toEqual(["mine-too", "mine-too"]);
  });
});

describe("conversations", () => {
  const rows: [what: string, body: unknown, ...faults: Faults][] = [
    ["an empty object", {}, "body.user_id is required"],
    [
      "an empty title",
      { user_id: "ada", title: "" },
      "body.title must not be empty",
      "body.title must not be blank",
    ],
    ["a blank title", { user_id: "ada", title: "  " }, "body.title must not be blank"],
    [
      "a title of 201",
      { user_id: "ada", title: "x".repeat(201) },
      "body.title must have at most 200 characters",
    ],
    ["a title with NUL", { user_id: "ada", title: "a\0b" }, `body.title ${noText}`],
    ["a title with half a pair", { user_id: "ada", title: "a\ud800b" }, `body.title ${noText}`],
    ["a title that is a number", { user_id: "ada", title: 1 }, "body.title must be a string"],
    ["17 pairs", { user_id: "ada", metadata: pairs(17) }, "body.metadata must have at most 16 entries"],
    ["an unknown property", { user_id: "ada", id: marker }, "body.id is not a known property"],
    ["a list", [], "body must be an object"],
  ];
  test.each(rows)("POST with %s", async (_what, body, ...faults) => {
    for (const path of ["/v1/conversations", "/conversations"]) await expectProblem({ path, body, faults });
  });

  test.each(rows.slice(1))("PATCH with %s", async (_what, body, ...faults) => {
    const { user_id: _, ...patch } = body as { user_id?: string };
    for (const prefix of ["/v1", ""]) {
      await expectProblem({
        method: "PATCH",
        path: `${prefix}/conversations/${someConversation}`,
        body: Array.isArray(body) ? body : patch,
        faults,
      });
    }
  });

  test("PATCH doesn't take a user_id", async () => {
    await expectProblem({
      method: "PATCH",
      path: `/v1/conversations/${someConversation}`,
      body: { user_id: "ben" },
      faults: ["body.user_id is not a known property"],
    });
  });
});

describe("users", () => {
  const language = "must be a language tag of BCP 47, such as de-CH";
  const zone = "must be a time zone of the IANA database, such as Europe/Zurich";
  const profileRows: [what: string, body: unknown, ...faults: Faults][] = [
    [
      "an empty display_name",
      { display_name: "" },
      "body.display_name must not be empty",
      "body.display_name must not be blank",
    ],
    ["a blank display_name", { display_name: "\n " }, "body.display_name must not be blank"],
    [
      "a display_name of 201",
      { display_name: "x".repeat(201) },
      "body.display_name must have at most 200 characters",
    ],
    ["a display_name with NUL", { display_name: "a\0b" }, `body.display_name ${noText}`],
    ...["", "english", "en_US", "de-", "x-private", "e", "de-CH ", "d\0e", "\ud800", "日本"].map(
      (tag): [string, unknown, ...Faults] => [
        `language ${JSON.stringify(tag)}`,
        { language: tag },
        `body.language ${language}`,
      ],
    ),
    ["a language that is a number", { language: 5 }, "body.language must be a string"],
    [
      "a language of 101",
      { language: `en${"-abcde".repeat(17)}` },
      "body.language must have at most 100 characters",
      `body.language ${language}`,
    ],
    ...["", "Berlin", "Europe/Nowhere", "+01:00", "-0500", "PST", "Local", "UTC ", "a\0b", "../UTC"].map(
      (name): [string, unknown, ...Faults] => [
        `timezone ${JSON.stringify(name)}`,
        { timezone: name },
        `body.timezone ${zone}`,
      ],
    ),
    ["a timezone that is a list", { timezone: ["UTC"] }, "body.timezone must be a string"],
    [
      "instructions of 4,001",
      { instructions: "x".repeat(4_001) },
      "body.instructions must have at most 4000 characters",
    ],
    ["blank instructions", { instructions: " " }, "body.instructions must not be blank"],
    ["instructions with half a pair", { instructions: "a\ud800b" }, `body.instructions ${noText}`],
    ["17 pairs", { metadata: pairs(17) }, "body.metadata must have at most 16 entries"],
    ["a user_id", { user_id: "ben" }, "body.user_id is not a known property"],
    ["a list", [], "body must be an object"],
    [
      "many faults",
      {
        display_name: 1,
        language: "nope!",
        timezone: "Mars",
        instructions: "",
        metadata: { a: 1 },
        x: marker,
      },
      "body.display_name must be a string",
      `body.language ${language}`,
      `body.timezone ${zone}`,
      "body.instructions must not be empty",
      "body.instructions must not be blank",
      "body.metadata.a must be a string",
      "body.x is not a known property",
    ],
  ];
  test.each(profileRows)("PATCH of a profile with %s", async (_what, body, ...faults) => {
    for (const prefix of ["/v1", ""]) {
      await expectProblem({ method: "PATCH", path: `${prefix}/users/ada/profile`, body, faults });
    }
  });

  const memoryRows: [what: string, body: unknown, ...faults: Faults][] = [
    ["an empty text", { text: "" }, "body.text must not be empty", "body.text must not be blank"],
    ["a blank text", { text: "\u3000" }, "body.text must not be blank"],
    ["a text of 501", { text: "x".repeat(501) }, "body.text must have at most 500 characters"],
    ["a text with NUL", { text: "a\0b" }, `body.text ${noText}`],
    ["a text that is null", { text: null }, "body.text must be a string"],
    [
      "an unknown kind",
      { text: "x", kind: "rumour" },
      "body.kind must be one of: fact, preference, instruction, event",
    ],
    ["a source", { text: "x", source_message_id: marker }, "body.source_message_id is not a known property"],
    ["a list", [], "body must be an object"],
  ];
  test.each(memoryRows)("POST and PATCH of a memory with %s", async (_what, body, ...faults) => {
    for (const prefix of ["/v1", ""]) {
      const path = `${prefix}/users/ada/memories`;
      await expectProblem({ path, body, faults });
      await expectProblem({ method: "PATCH", path: `${path}/${someMemory}`, body, faults });
    }
  });

  test("POST of a memory needs a text, and no slot that is blank or long", async () => {
    const path = "/v1/users/ada/memories";
    await expectProblem({ path, body: {}, faults: ["body.text is required"] });
    const slots = [
      ["", "must not be empty", "must not be blank"],
      [" ", "must not be blank"],
      ["x".repeat(65), "must have at most 64 characters"],
    ] as const;
    for (const [slot, ...faults] of slots) {
      await expectProblem({
        path,
        body: { text: "x", slot },
        faults: faults.map((fault) => `body.slot ${fault}`),
      });
    }
  });

  test("the list of memories takes a limit and a cursor of its own", async () => {
    const path = "/v1/users/ada/memories";
    const cursor = (parts: unknown) => Buffer.from(JSON.stringify(parts)).toString("base64url");
    for (const after of ["", "garbage", cursor([5]), cursor([someMemory, 1]), cursor(someMemory)]) {
      await expectProblem({
        path: `${path}?limit=0&after=${after}&q=x`,
        faults: [
          "query.limit must be a whole number from 1 to 100",
          "query.after must be a cursor from the page before",
          "query.q is not a known property",
        ],
      });
    }
  });

  const everyRoute = (user: string): BadRequest[] => [
    { path: `/users/${user}/profile` },
    { method: "PATCH", path: `/users/${user}/profile`, body: { language: "en" } },
    { path: `/users/${user}/memories` },
    { path: `/users/${user}/memories`, body: { text: "x" } },
    { path: `/users/${user}/memories/${someMemory}` },
    { method: "PATCH", path: `/users/${user}/memories/${someMemory}`, body: { text: "x" } },
    { method: "DELETE", path: `/users/${user}/memories/${someMemory}` },
    { path: `/users/${user}/export` },
    { method: "DELETE", path: `/users/${user}` },
  ];

  test.each([
    ["%00", noText],
    ["a%00b", noText],
    ["x".repeat(257), "must have at most 256 characters"],
    ["%zz", "must be percent-encoded UTF-8"],
    ["%", "must be percent-encoded UTF-8"],
    ["a%ff", "must be percent-encoded UTF-8"],
    ["%ed%a0%80", "must be percent-encoded UTF-8"],
  ])("an id that can be nobody's, %p, is refused", async (user, fault) => {
    for (const request of everyRoute(user)) {
      for (const prefix of ["/v1", ""]) {
        await expectProblem({
          ...request,
          path: prefix + request.path,
          faults: [`params.user_id ${fault}`],
        });
      }
    }
  });

  test.each([someMemory, someTurn, "mem_1", "x", "%F0%9F%98%80", "%zz"])(
    "a memory that is not the user's, %p, is 404",
    async (id) => {
      const notFound = { status: 404, code: "not_found" };
      for (const prefix of ["/v1", ""]) {
        const path = `${prefix}/users/ada/memories/${id}`;
        await expectProblem({ path, ...notFound });
        await expectProblem({ path, method: "PATCH", body: { text: "x" }, ...notFound });
        await expectProblem({ path, method: "DELETE", ...notFound });
      }
    },
  );
});

describe("paths", () => {
  test.each([
    someConversation,
    "conv_1",
    "1",
    "x".repeat(200),
    someTurn,
    "%F0%9F%98%80",
    "..%2f..%2fetc",
    "%zz",
    "%ff",
    "'%20or%201=1--",
  ])("an id that is no conversation's, %p, is 404", async (id) => {
    const notFound = { status: 404, code: "not_found" };
    for (const prefix of ["/v1", ""]) {
      const path = `${prefix}/conversations/${id}`;
      await expectProblem({ path, ...notFound });
      await expectProblem({ path: `${path}/messages`, ...notFound });
      await expectProblem({ path: `${path}/export`, ...notFound });
      await expectProblem({ path, method: "PATCH", body: { title: "x" }, ...notFound });
      await expectProblem({ path, method: "DELETE", ...notFound });
    }
  });

  test.each([
    "/",
    "/v1",
    "/v1/",
    "/v2/chat",
    "/v1/chats",
    "/v1//chat",
    "/favicon.ico",
    `/v1/turns/${someTurn}/x`,
  ])("%s is no route", async (path) => {
    await expectProblem({ path, status: 404, code: "not_found" });
    await expectProblem({ path, body: chat, status: 404, code: "not_found" });
  });

  const wrongMethods: [method: string, path: string, allow: string][] = [
    ["GET", "/v1/chat", "POST"],
    ["PUT", "/v1/chat", "POST"],
    ["DELETE", "/chat", "POST"],
    ["OPTIONS", "/v1/chat", "POST"],
    ["PUT", "/v1/chat/stream", "GET, HEAD, POST"],
    ["GET", "/v1/turns", "POST"],
    ["DELETE", `/v1/turns/${someTurn}`, "GET, HEAD"],
    ["GET", `/v1/turns/${someTurn}/stop`, "POST"],
    ["POST", `/v1/turns/${someTurn}/stream`, "GET, HEAD"],
    ["PUT", "/v1/conversations", "GET, HEAD, POST"],
    ["PUT", `/v1/conversations/${someConversation}`, "DELETE, GET, HEAD, PATCH"],
    ["POST", `/v1/conversations/${someConversation}/messages`, "GET, HEAD"],
    ["POST", `/v1/conversations/${someConversation}/export`, "GET, HEAD"],
    ["GET", "/v1/users/ada", "DELETE"],
    ["PUT", "/users/ada/profile", "GET, HEAD, PATCH"],
    ["DELETE", "/v1/users/ada/memories", "GET, HEAD, POST"],
    ["POST", `/v1/users/ada/memories/${someMemory}`, "DELETE, GET, HEAD, PATCH"],
    ["POST", "/v1/users/ada/export", "GET, HEAD"],
    ["POST", "/health", "GET, HEAD"],
    ["POST", "/ready", "GET, HEAD"],
  ];
  test.each(wrongMethods)("%s %s is 405 and says what is allowed", async (method, path, allow) => {
    await expectProblem({ method, path, status: 405, code: "method_not_allowed" });
    const response = await services[0]!.fetch(path, { method });
    expect(response.headers.get("allow")).toBe(allow);
  });
});

test("after all of this nothing is stored, no model was asked, and no 500 was logged", async () => {
  for (const service of services) {
    const { body } = await service.get<{ conversations: unknown[] }>("/v1/conversations");
    expect(body.conversations).toEqual([]);
    const { body: known } = await service.get<ExportedUser>("/v1/users/ada/export");
    expect([known.profile.created_at, known.memories]).toEqual([null, []]);
    expect(service.logs.filter((line) => line.includes('"level":"error"'))).toEqual([]);
    expect(service.logs.join("\n")).not.toContain(marker);
  }
  expect(model.requests.length).toBe(0);
});
