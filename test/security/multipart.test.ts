/** Uploads of many parts, of two readings, and with names that mean something else. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { DocumentView } from "../../src/documents/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());

const type = "multipart/form-data; boundary=b";
const end = "--b--\r\n";
const part = (disposition: string, content: string, more = ""): string =>
  `--b\r\ncontent-disposition: ${disposition}\r\n${more}\r\n${content}\r\n`;
const field = (name: string, content: string): string => part(`form-data; name="${name}"`, content);
const fileNamed = (filename: string, content = "Some text."): string =>
  part(`form-data; name="file"; filename="${filename}"`, content);
const file = fileNamed("a.txt");

async function upload(body: string, contentType = type) {
  const response = await service.fetch("/v1/documents", {
    method: "POST",
    headers: { "content-type": contentType },
    body: Buffer.from(body),
  });
  const answer = (await response.json()) as Partial<DocumentView> &
    Partial<Pick<Problem, "detail" | "errors">>;
  const faults = answer.errors?.map(({ path, message }) => `${path} ${message}`);
  return { status: response.status, name: answer.name, detail: answer.detail, faults };
}

const tooMany = "The upload has more than 32 parts.";
const noBoundary = "The Content-Type names no boundary.";
const invalid = "The body is not valid multipart/form-data.";

describe("many parts", () => {
  test.each([
    ["of one name", field("a", "x").repeat(100_000), type],
    ["of many names", Array.from({ length: 40 }, (_, n) => field(`a${n}`, "x")).join(""), type],
    ["without names", part("form-data", "x").repeat(100_000), type],
    ["that are empty", "--b\r\n\r\n\r\n".repeat(100_000), type],
    ["that are files", file.repeat(100_000), type],
    [
      "behind another parameter",
      field("a", "x").repeat(100_000),
      "multipart/form-data; xboundary=c; boundary=b",
    ],
    ["in quotes", field("a", "x").repeat(100_000), 'multipart/form-data; boundary="b"'],
    ["in capitals", field("a", "x").repeat(100_000), "MULTIPART/FORM-DATA; BOUNDARY=b"],
  ])("are refused before they are read: %s", async (_name, parts, contentType) => {
    expect(await upload(parts + file + end, contentType)).toMatchObject({ status: 400, detail: tooMany });
  });

  test("within a part are no parts of the upload", async () => {
    const nested = `--c\r\ncontent-disposition: form-data; name="name"\r\n\r\nother.txt\r\n--c--`;
    const mixed = part(
      'form-data; name="file"; filename="a.txt"',
      nested,
      "content-type: multipart/mixed; boundary=c\r\n",
    );
    const { status, name } = await upload(mixed + end);
    expect(name).not.toBe("other.txt");
    expect([201, 415]).toContain(status);
  });
});

describe("a boundary", () => {
  test.each([
    ["given twice", "multipart/form-data; boundary=b; boundary=c", noBoundary],
    ["given twice, the other way round", "multipart/form-data; boundary=c; boundary=b", noBoundary],
    ["hidden in another parameter", 'multipart/form-data; x="; boundary=c"; boundary=b', noBoundary],
    ["that is empty", "multipart/form-data; boundary=", noBoundary],
    ["that is empty, in quotes", 'multipart/form-data; boundary=""', noBoundary],
    ["of more than 70 characters", `multipart/form-data; boundary=${"b".repeat(71)}`, noBoundary],
    ["that ends in a space", 'multipart/form-data; boundary="b "', noBoundary],
    ["with an escape", 'multipart/form-data; boundary="b\\"', noBoundary],
    ["with a pattern", "multipart/form-data; boundary=(b+)+$", noBoundary],
    ["of another body", "multipart/form-data; boundary=c", invalid],
  ])("%s is refused", async (_name, contentType, detail) => {
    expect(await upload(file + end, contentType)).toMatchObject({ status: 400, detail });
  });

  test.each([
    ["no end", file],
    ["half an end", `${file}--b`],
    ["no beginning", end],
    ["bare line feeds", (file + end).replaceAll("\r\n", "\n")],
  ])("with %s is refused", async (_name, body) => {
    expect((await upload(body)).status).toBe(400);
  });

  test("that stands within a line of a file belongs to the file", async () => {
    const text = "x --b y\r\n--bc\r\n--";
    const added = await upload(field("collection", "inner") + fileNamed("inner.txt", text) + end);
    expect(added).toMatchObject({ status: 201, name: "inner.txt" });
  });

  test("that has ended ends it: other parts behind it are not taken in place of those before it", async () => {
    const body = fileNamed("first.txt") + end + fileNamed("second.txt") + end;
    expect(await upload(body)).toMatchObject({ status: 400, faults: ["body.file must be given once"] });
  });
});

describe("a part's head", () => {
  test("may be large, or of many lines, and costs nothing else", async () => {
    const long = part(
      'form-data; name="file"; filename="long.txt"',
      "x",
      `x-long: ${"a".repeat(5_000_000)}\r\n`,
    );
    const many = part('form-data; name="file"; filename="many.txt"', "x", "x: y\r\n".repeat(500_000));
    expect([(await upload(long + end)).status, (await upload(many + end)).status]).toEqual([201, 201]);
  });

  test.each([
    ["two names", 'form-data; name="file"; name="other"; filename="a.txt"'],
    ["a name that is no field", `form-data; name="${"n".repeat(1_000_000)}"`],
    ["a name of objects", 'form-data; name="__proto__"'],
    ["a constructor", 'form-data; name="constructor"'],
    ["a name in another case", 'form-data; name="Name"'],
  ])("with %s is refused, and its name not repeated", async (_name, disposition) => {
    const { status, faults } = await upload(part(disposition, "x") + file + end);
    expect(status).toBe(400);
    expect(faults!.join().length).toBeLessThan(300);
  });

  test("with a field twice is refused", async () => {
    const body = field("name", "a.txt") + field("name", "b.txt") + file + end;
    expect(await upload(body)).toMatchObject({ status: 400, faults: ["body.name must be given once"] });
  });
});

describe("a file's name", () => {
  test.each([
    ["../../etc/passwd", "passwd"],
    ["/etc/shadow", "shadow"],
    ["..\\..\\windows\\win.ini", "win.ini"],
    ["..%2f..%2fa.txt", "..%2f..%2fa.txt"],
    ["~/home.txt", "home.txt"],
    ["__proto__", "__proto__"],
    ["a;b.txt", "a;b.txt"],
    ["a%0d%0ab.txt", "a%0d%0ab.txt"],
    ["' or 1=1 --.txt", "' or 1=1 --.txt"],
  ])("is a name and no path: %s", async (filename, name) => {
    const { status, name: stored } = await upload(field("collection", "names") + fileNamed(filename) + end);
    expect([status, stored]).toEqual([201, name]);
  });

  test.each([
    ["none", ""],
    ["a directory", "."],
    ["the one above", ".."],
    ["an empty one at the end of a path", "a/b/"],
    ["of control characters", "a\x1b[31m.txt"],
    ["of two lines", "a\nb.txt"],
    ["of five million characters", "n".repeat(5_000_000)],
  ])("is refused where it is %s", async (_name, filename) => {
    const { status, faults } = await upload(fileNamed(filename) + end);
    expect([status, faults!.map((fault) => fault.split(" ")[0])]).toEqual([400, ["body.name"]]);
  });

  test("leads to no file: nothing is written but in the data directory", () => {
    const names = readdirSync(service.dataDir, { recursive: true }).map(String);
    expect(names.filter((name) => /passwd|shadow|win\.ini|home\.txt/.test(name))).toEqual([]);
    expect(readdirSync(join(service.dataDir, "..")).filter((name) => name === "passwd")).toEqual([]);
  });
});

describe("metadata in a field", () => {
  test.each([
    ["of a million pairs", `{${Array.from({ length: 1_000_000 }, (_, n) => `"k${n}":"v"`).join(",")}}`],
    ["of ten million values", `[${"1,".repeat(10_000_000)}1]`],
    ["nested a million times", "[".repeat(1_000_000)],
  ])("%s isn't read: it would hold up everybody", async (_name, json) => {
    expect(await upload(field("metadata", json) + file + end)).toMatchObject({
      status: 400,
      faults: ["body.metadata must have at most 65536 characters"],
    });
  });

  test("as large as may be is taken", async () => {
    const value = "\\u4e2d".repeat(512);
    const pairs = Array.from({ length: 16 }, (_, n) => `"${String(n).padEnd(64, "k")}":"${value}"`);
    const body = field("collection", "large") + field("metadata", `{${pairs}}`) + file + end;
    expect((await upload(body)).status).toBe(201);
  });

  test.each([
    ['{"__proto__":"x"}', "body.metadata.__proto__ is not a known property"],
    [`${'{"a":'.repeat(9_000)}1${"}".repeat(9_000)}`, "body.metadata.a must be a string"],
    ["[".repeat(9_000), "body.metadata must be an object"],
  ])("is validated like any other: %#", async (json, fault) => {
    expect(await upload(field("metadata", json) + file + end)).toMatchObject({
      status: 400,
      faults: [fault],
    });
  });
});
