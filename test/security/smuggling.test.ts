/**
 * Request smuggling: requests whose end is read in one way by a proxy and in another by the service, and requests hidden
 * in the bodies of others. What the runtime makes of each is written down here, so that a newer one is looked at anew.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect, type RawConnection } from "../support/raw-client.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const key = "a-key-of-this-test";
const authorization = `authorization: Bearer ${key}`;

let service: Service;
beforeAll(async () => {
  service = await startService({ env: { PARLEY_API_KEYS: key } });
});
afterAll(() => service[Symbol.asyncDispose]());

const create = "POST /v1/conversations HTTP/1.1";
const outerBody = JSON.stringify({ user_id: "outer" });
const size = outerBody.length;

/** A request of its own, which must never be one where it stands in another's body or behind it. */
const hidden = (() => {
  const body = JSON.stringify({ user_id: "hidden" });
  const head = `host: localhost\r\n${authorization}\r\ncontent-type: application/json`;
  return `${create}\r\n${head}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
})();

const request = (framing: string, payload: string, line = create, more = authorization): string =>
  `${line}\r\nhost: localhost\r\n${more}\r\ncontent-type: application/json\r\n${framing}\r\n\r\n${payload}`;

const chunked = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`;

const statusesOf = ({ received }: RawConnection): string[] =>
  [...received.toString("latin1").matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => status!);

const send = async (bytes: string): Promise<RawConnection> => {
  const connection = await connect(service.port);
  connection.write(Buffer.from(bytes, "latin1"));
  return connection;
};

/** How many conversations a user has, once all that was sent before has been stored or refused. */
async function conversationsOf(user: string): Promise<number> {
  const headers = { authorization: `Bearer ${key}` };
  await service.post("/v1/conversations", { user_id: "later" }, headers);
  const { body } = await service.get<{ conversations: object[] }>(
    `/v1/conversations?user_id=${user}&limit=100`,
    headers,
  );
  return body.conversations.length;
}

describe("a request whose end can't be told is refused, the connection closed, and nothing done", () => {
  const both = `0\r\n\r\n${hidden}`;
  const withLength = (coding: string): string => request(`content-length: ${both.length}\r\n${coding}`, both);
  const coded = (coding: string): string => request(coding, chunked(outerBody) + hidden);
  const lengths = (framing: string): string => request(framing, outerBody + hidden);
  const chunks = (payload: string): string => request("transfer-encoding: chunked", payload + hidden);
  const codings: [name: string, header: string][] = [
    ["a coding that is none", "transfer-encoding: xchunked"],
    ["identity", "transfer-encoding: identity"],
    ["chunked that isn't the last", "transfer-encoding: chunked, identity"],
    ["chunked after another", "transfer-encoding: gzip, chunked"],
    ["a space before the colon", "transfer-encoding : chunked"],
    ["a second header", "transfer-encoding: chunked\r\ntransfer-encoding: x"],
    ["a second header, which counts", "transfer-encoding: x\r\ntransfer-encoding: chunked"],
    ["a bare line feed before it", "x: y\ntransfer-encoding: chunked"],
    ["a bare carriage return behind it", "transfer-encoding: chunked\rx: y"],
    ["a folded line", "transfer-encoding:\r\n chunked"],
    ["a folded line of another header", "x: y\r\n transfer-encoding: chunked"],
    ["quotes", 'transfer-encoding: "chunked"'],
    ["a vertical tab in the value", "transfer-encoding: \x0bchunked"],
    ["a vertical tab in the name", "\x0btransfer-encoding: chunked"],
    ["NUL", "transfer-encoding: chunked\0"],
    ["no value", "transfer-encoding: "],
  ];
  const cases: [name: string, bytes: string][] = [
    ["TE and CL: chunked and a length", withLength("transfer-encoding: chunked")],
    ["TE and CL: in capitals", withLength("TRANSFER-ENCODING: CHUNKED")],
    ["TE and CL: behind a tab", withLength("transfer-encoding:\tchunked")],
    ["TE and CL: before a space", withLength("transfer-encoding: chunked ")],
    ["TE and CL: before a comma", withLength("transfer-encoding: chunked,")],
    ...codings.map(([name, header]): [string, string] => [`TE and CL: ${name}`, withLength(header)]),
    ...codings.map(([name, header]): [string, string] => [`TE: ${name}`, coded(header)]),
    ["CL: two that differ", lengths(`content-length: ${size}\r\ncontent-length: 0`)],
    ["CL: two that differ, the other way round", lengths(`content-length: 0\r\ncontent-length: ${size}`)],
    ["CL: a list", lengths(`content-length: ${size}, ${size}`)],
    ["CL: a plus", lengths(`content-length: +${size}`)],
    ["CL: hexadecimal", lengths(`content-length: 0x${size.toString(16)}`)],
    ["CL: a space in it", lengths("content-length: 1 9")],
    ["CL: less than nothing", lengths("content-length: -5")],
    ["CL: minus nothing", lengths("content-length: -0")],
    ["CL: no value", lengths("content-length: ")],
    ["CL: 2^64", lengths("content-length: 18446744073709551616")],
    ["CL: 2^64 and the right one", lengths(`content-length: ${2n ** 64n + BigInt(size)}`)],
    ["CL: decimals", lengths(`content-length: ${size}.0`)],
    ["CL: a space before the colon", lengths(`content-length : ${size}`)],
    ["CL: a semicolon", lengths(`content-length: ${size};`)],
    ["CL: a bare line feed before it", lengths(`x: y\ncontent-length: ${size}`)],
    ["CL: a folded line", lengths(`content-length:\r\n ${size}`)],
    ["a chunk whose extension has a bare line feed", chunks(`13;a\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk whose extension hides a line feed", chunks(`13;a=\n\r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk's size before a bare line feed", chunks(`13\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk's size with 0x", chunks(`0x13\r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk's size before a space", chunks(`13 \r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk's size behind a space", chunks(` 13\r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk's size with a minus", chunks(`-13\r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk's size with a plus", chunks(`+13\r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk's size with an underscore", chunks(`1_3\r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk's size beyond 2^64", chunks(`10000000000000013\r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk of no size", chunks(`\r\n${outerBody}\r\n0\r\n\r\n`)],
    ["a chunk without its end", chunks(`13\r\n${outerBody}0\r\n\r\n`)],
    ["a chunk that is longer than it says", chunks(`13\r\n${outerBody}XX\r\n0\r\n\r\n`)],
    ["a chunk before a bare line feed", chunks(`13\r\n${outerBody}\n0\r\n\r\n`)],
    ["a last chunk before bare line feeds", chunks(`13\r\n${outerBody}\r\n0\n\n`)],
    [
      "HTTP/1.0 in chunks",
      request("transfer-encoding: chunked", chunked(outerBody) + hidden, create.replace("1.1", "1.0")),
    ],
    ["HTTP/1.0 without a length", request("x: y", hidden, create.replace("1.1", "1.0"))],
    ["a header without a colon", request("foo\r\ncontent-length: 0", hidden)],
    ["a header without a name", request(": x\r\ncontent-length: 0", hidden)],
    ["NUL in a header", request(`x: a\0b\r\ncontent-length: ${size}`, outerBody + hidden)],
    ["a bare carriage return in a header", request(`x: y\rcontent-length: ${size}`, outerBody + hidden)],
    ["no Host", request(`content-length: ${size}`, outerBody + hidden).replace("host: localhost\r\n", "")],
    ["a folded first header", request("content-length: 0", hidden).replace("host:", " x: y\r\nhost:")],
    ["the preface of HTTP/2", `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${hidden}`],
    ["empty lines before it", `\r\n\r\n${hidden}`],
    ["two spaces after the method", request("content-length: 0", hidden).replace("POST /", "POST  /")],
    ["no version of HTTP", `GET /health\r\n\r\n${hidden}`],
    ["another version of HTTP", request("content-length: 0", hidden, create.replace("1.1", "1.2"))],
    ["bare line feeds alone", request(`content-length: ${size}`, "").replaceAll("\r\n", "\n") + outerBody],
  ];
  test.each(cases)("%s", async (_name, bytes) => {
    const connection = await send(bytes);
    await connection.closed;
    const [status, ...others] = statusesOf(connection);
    expect(["400", "505"]).toContain(status!);
    expect(others).toEqual([]);
  });

  test("all of this has done nothing", async () => {
    expect([await conversationsOf("hidden"), await conversationsOf("outer")]).toEqual([0, 0]);
  });
});

describe("what has only one reading is one request", () => {
  test.each([
    ["chunks in capitals", "TRANSFER-ENCODING: CHUNKED", chunked(outerBody)],
    ["chunks behind a tab", "transfer-encoding:\tchunked", chunked(outerBody)],
    ["chunks before a space", "transfer-encoding: chunked ", chunked(outerBody)],
    ["chunks before a comma", "transfer-encoding: chunked,", chunked(outerBody)],
    ["a chunk with an extension", "transfer-encoding: chunked", `13;a=b\r\n${outerBody}\r\n0\r\n\r\n`],
    ["sizes with zeros before them", "transfer-encoding: chunked", `0013\r\n${outerBody}\r\n000\r\n\r\n`],
    ["two lengths that agree", `content-length: ${size}\r\ncontent-length: ${size}`, outerBody],
    ["a length with zeros before it", `content-length: 00${size}`, outerBody],
    ["a length before a space", `content-length: ${size} `, outerBody],
  ])("%s", async (_name, framing, payload) => {
    const before = await conversationsOf("outer");
    const connection = await send(request(framing, payload));
    await until("it is answered", () => statusesOf(connection).length > 0);
    await probed(connection);
    expect(statusesOf(connection)).toEqual(["201", "200"]);
    connection.close();
    expect(await conversationsOf("outer")).toBe(before + 1);
    expect(await conversationsOf("hidden")).toBe(0);
  });

  test("trailers are refused, for they could be taken for headers", async () => {
    const trailer = `13\r\n${outerBody}\r\n0\r\ncontent-length: 5\r\n\r\n`;
    const connection = await send(request("transfer-encoding: chunked", trailer + hidden));
    await connection.closed;
    expect(statusesOf(connection)).toEqual(["400"]);
    expect(await conversationsOf("hidden")).toBe(0);
  });

  test("a header with an underscore is no framing: what follows is no request", async () => {
    for (const framing of ["transfer_encoding: chunked", `content_length: ${size}`]) {
      const connection = await send(request(framing, chunked(outerBody)));
      await connection.closed;
      expect(statusesOf(connection)).toEqual(["400", "400"]);
    }
  });
});

/** Asks for something else on the same connection and waits for the answer: all before it has been answered then. */
async function probed(connection: RawConnection): Promise<void> {
  connection.write(`GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  await until("the next request is answered", () => connection.received.includes('"openapi"'));
}

describe("a request within a body is no request, also where the answer comes before the body", () => {
  const lines: [name: string, line: string, status: string, more?: string][] = [
    ["GET", "GET /health HTTP/1.1", "200"],
    ["HEAD", "HEAD /health HTTP/1.1", "200"],
    ["GET that needs a key", "GET /v1/conversations HTTP/1.1", "200"],
    ["OPTIONS", "OPTIONS /v1/conversations HTTP/1.1", "405"],
    ["TRACE", "TRACE /v1/conversations HTTP/1.1", "405"],
    ["no route", "POST /nope HTTP/1.1", "404"],
    ["another method", "POST /health HTTP/1.1", "405"],
    ["no key", create, "401", "x: y"],
    ["a wrong key", create, "401", "authorization: Bearer another-key"],
    ["another type", create, "415", `${authorization}\r\ncontent-type: text/plain`],
    ["an upgrade to HTTP/2", "GET /health HTTP/1.1", "200", "connection: upgrade\r\nupgrade: h2c"],
    ["an upgrade to a WebSocket", "GET /health HTTP/1.1", "200", "connection: upgrade\r\nupgrade: websocket"],
  ];
  const framings = [
    ["with a length", (body: string) => [`content-length: ${body.length}`, body]],
    ["in chunks", (body: string) => ["transfer-encoding: chunked", chunked(body)]],
  ] as const;
  const cases = lines.flatMap(([name, line, status, more = authorization]) =>
    framings.map(([how, frame]) => ({ name: `${name}, ${how}`, line, status, more, frame })),
  );
  test.each(cases)("$name", async ({ line, status, more, frame }) => {
    const [framing, payload] = frame(hidden);
    const type = more.includes("content-type") ? "" : "content-type: application/json\r\n";
    const head = `${line}\r\nhost: localhost\r\n${more}\r\n${type}${framing}\r\n\r\n`;
    // In one go, and once more with the body after the answer.
    const atOnce = await send(head + payload);
    await until("it is answered", () => statusesOf(atOnce).length > 0);
    await probed(atOnce);
    expect(statusesOf(atOnce)).toEqual([status, "200"]);
    atOnce.close();
    const later = await send(head);
    await until("it is answered", () => statusesOf(later).length > 0);
    later.write(payload!);
    await probed(later);
    expect(statusesOf(later)).toEqual([status, "200"]);
    later.close();
  });

  test("CONNECT is answered, and whatever follows on its connection by nobody", async () => {
    for (const [framing, payload] of framings.map(([, frame]) => frame(hidden))) {
      const line = "CONNECT localhost:80 HTTP/1.1";
      const connection = await send(request(framing!, payload + hidden, line));
      await until("it is answered", () => statusesOf(connection).length > 0);
      expect(await conversationsOf("hidden")).toBe(0);
      expect(statusesOf(connection)).toEqual(["404"]);
      connection.close();
    }
  });

  test("one that is too large, and refused before it has come", async () => {
    const payload = hidden.padEnd(2 * 1024 * 1024, " ");
    const connection = await send(request(`content-length: ${payload.length}`, ""));
    await until("it is refused", () => statusesOf(connection).length > 0);
    connection.write(payload);
    await probed(connection);
    expect(statusesOf(connection)).toEqual(["413", "200"]);
    connection.close();
  });

  test("one that was announced with Expect", async () => {
    const connection = await send(request(`content-length: ${hidden.length}\r\nexpect: 100-continue`, ""));
    await until("it may come", () => statusesOf(connection).length > 0);
    connection.write(hidden);
    await until("it is refused", () => statusesOf(connection).length > 1);
    await probed(connection);
    expect(statusesOf(connection)).toEqual(["100", "400", "200"]);
    connection.close();
  });

  test("all of this has done nothing", async () => {
    expect(await conversationsOf("hidden")).toBe(0);
  });
});

test("a request that comes before the one before it is answered cuts the connection, and isn't done", async () => {
  // The runtime doesn't pipeline: no client does. What matters is that answers are never mixed up.
  const connection = await send(request(`content-length: ${size}`, outerBody + hidden));
  await connection.closed;
  expect(statusesOf(connection)).toEqual([]);
  expect(await conversationsOf("hidden")).toBe(0);
});
