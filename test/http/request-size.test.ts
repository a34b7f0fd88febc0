/** How large the parts of a request may be, and what is said of those that are larger, or of another size than they claim. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { memoryOf } from "../support/processes.ts";
import { connect, parseAnswer, type RawAnswer, rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const KiB = 1024;

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());

const list = "/v1/conversations?user_id=nobody";
const ask = (path: string, headers = ""): Promise<RawAnswer> =>
  rawRequest(service.port, `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${headers}\r\n`);

describe("the head", () => {
  // Bun's 16 KiB, and 9 times PARLEY_MESSAGE_CHARS_MAX: the longest message in a query, percent-encoded.
  const headBytesMax = 16 * KiB + 9 * 32_000;

  test.each([
    [16 * KiB, 200],
    [64 * KiB, 200],
    [256 * KiB, 200],
    [headBytesMax - 200, 200],
    [headBytesMax, 431],
    [1024 * KiB, 431],
  ])("with a header of %d bytes is answered with %d", async (bytes, status) => {
    const answer = await ask(list, `x-long: ${"a".repeat(bytes)}\r\n`);
    expect(answer.status).toBe(status);
    // What can't be read to its end is refused by the runtime, without words.
    if (status === 431) expect([answer.body, answer.headers.get("connection")]).toEqual(["", "close"]);
  });

  test.each([
    [16 * KiB, 400],
    [256 * KiB, 400],
    [1024 * KiB, 431],
  ])("with a query of %d bytes is answered with %d", async (bytes, status) => {
    const answer = await ask(`/v1/conversations?user_id=${"a".repeat(bytes)}`);
    expect(answer.status).toBe(status);
    if (status === 400) {
      expect((JSON.parse(answer.body) as Problem).errors).toEqual([
        { path: "query.user_id", message: "must have at most 256 characters" },
      ]);
    }
  });

  test.each([
    [150, 200],
    [200, 431],
    [5_000, 431],
  ])("with %d headers is answered with %d", async (count, status) => {
    const headers = Array.from({ length: count }, (_, index) => `x-${index}: 1\r\n`).join("");
    expect((await ask(list, headers)).status).toBe(status);
  });

  test("may hold the longest message of a GET, in which each character takes nine bytes", async () => {
    const message = encodeURIComponent("中".repeat(32_000));
    const answer = await ask(`/v1/chat/stream?user_id=ada&message=${message}`);
    expect(answer.status).toBe(200);
    expect(answer.body).toContain('"status":"completed"');
  });
});

describe("the body", () => {
  const bytesMax = 1024 * KiB;
  const chat = JSON.stringify({ user_id: "sizes", message: "" });
  const head = (lines: string): string =>
    `POST /v1/chat HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n${lines}\r\n\r\n`;
  const chunked = (text: string, bytes: number): string =>
    `${(text.match(new RegExp(`.{1,${bytes}}`, "g")) ?? [])
      .map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`)
      .join("")}0\r\n\r\n`;
  const sent = (lines: string, bytes: string): Promise<RawAnswer> =>
    rawRequest(service.port, head(lines) + bytes);
  const codeOf = ({ body }: RawAnswer): string => (JSON.parse(body) as Problem).code;

  test.each([
    ["at the limit", bytesMax, 400, "invalid_request"],
    ["one byte beyond", bytesMax + 1, 413, "payload_too_large"],
  ])("in chunks, %s", async (_what, bytes, status, code) => {
    const answer = await sent("transfer-encoding: chunked", chunked(chat.padEnd(bytes), 64 * KiB));
    expect([answer.status, codeOf(answer)]).toEqual([status, code]);
  });

  test("in thousands of tiny chunks is taken; in more than 20,000 it is refused, before it costs anything", async () => {
    const tiny = chunked(chat.padEnd(20_000), 1);
    expect(codeOf(await sent("transfer-encoding: chunked", tiny))).toBe("invalid_request");
    // Each chunk would cost a hundred times its size in memory.
    const before = memoryOf(service.pid);
    const beyond = chunked(chat.padEnd(bytesMax), 1);
    const refused = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const connection = await connect(service.port);
        connection.write(head("transfer-encoding: chunked") + beyond);
        await until("the answer comes", () => connection.received.includes("payload_too_large"));
        connection.close();
        return parseAnswer(connection.received);
      }),
    );
    for (const answer of refused) {
      expect(answer.status).toBe(413);
      expect((JSON.parse(answer.body) as Problem).detail).toBe(
        "The body may have at most 20000 small chunks.",
      );
    }
    expect(memoryOf(service.pid) - before).toBeLessThan(100 * bytesMax);
  });

  test("that is longer than its Content-Length is cut there", async () => {
    const answer = await sent("content-length: 5", chat);
    expect([answer.status, codeOf(answer)]).toEqual([400, "malformed_json"]);
  });

  test.each([
    ["two lengths", "content-length: 5\r\ncontent-length: 6", chat],
    ["a length and chunks", "content-length: 5\r\ntransfer-encoding: chunked", chunked(chat, 10)],
    ["a negative length", "content-length: -1", chat],
    ["a length that is no number", "content-length: 1e3", chat],
    ["a length beyond all numbers", `content-length: ${"9".repeat(20)}`, chat],
    ["a chunk whose size is no number", "transfer-encoding: chunked", "zz\r\nhello\r\n0\r\n\r\n"],
  ])(
    "with %s can't be told from what follows it: refused by the runtime, and the connection closed",
    async (_what, lines, bytes) => {
      const answer = await sent(lines, bytes);
      expect([answer.status, answer.body]).toEqual([400, ""]);
    },
  );

  test("that breaks off is no fault of the service", async () => {
    for (const lines of ["content-length: 100", "transfer-encoding: chunked"]) {
      const connection = await connect(service.port);
      connection.write(head(`x-request-id: broken-off\r\n${lines}`));
      // The service has begun to read the body when it has answered this.
      await ask(list);
      connection.close();
    }
    // What comes after it has been logged as well.
    const { body } = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "And now?" });
    await until("what came later is logged", () => service.logs.some((line) => line.includes(body.turn_id)));
    expect(service.logs.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  });
});

test("after all of this nothing is stored", async () => {
  const { body } = await service.get<{ conversations: object[] }>("/v1/conversations?user_id=sizes");
  expect(body.conversations).toEqual([]);
});
