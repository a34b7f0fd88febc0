/** Documents that are broken, or made to break what reads them: each is refused, or read within bounds. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { zipSync } from "fflate";
import { Extractor } from "../../src/documents/extractor.ts";
import { refusalOf, source } from "../support/documents.ts";
import { docxBomb, docxOf, docxParts, lyingDocx, paragraph } from "../support/docx.ts";
import { cmapPdf, encryptedPdf, pageObjects, pdfBomb, pdfOf, pdfWith } from "../support/pdf.ts";
import { testMsMax } from "../support/service.ts";

/** Readers have a low priority: where the machine is busy, large documents take many times as long. */
const msMax = testMsMax * 6;
setDefaultTimeout(msMax);

const extractor = new Extractor({
  documentSecondsMax: msMax / 1_000,
  documentMemoryMibMax: 512,
  documentCharsMax: 40_000_000,
});
afterAll(() => extractor.close());

const good = pdfWith([[{ text: "Hello", y: 700 }], [{ text: "World", y: 700 }]]);
const random = (bytes: number): Uint8Array => crypto.getRandomValues(new Uint8Array(bytes));
const page = (content: string) => pageObjects([{ dictionary: "", stream: Buffer.from(content) }]);
const hello = "BT /F 10 Tf 72 700 Td (Hello) Tj ET";

/** How often others got their turn meanwhile. */
async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let turns = 0;
  const heartbeat = setInterval(() => turns++, 1);
  await work.catch(() => {});
  clearInterval(heartbeat);
  return turns;
}

describe("a PDF is refused that", () => {
  test.each([
    ["is encrypted", encryptedPdf(), "The PDF is encrypted."],
    ["has no bytes", "", "The document is empty."],
    ["is cut off in the middle", good.subarray(0, good.length / 2), "The PDF is cut off."],
    ["lacks its last bytes", good.subarray(0, -5), "The PDF is cut off."],
    ["is nothing but a header", "%PDF-1.7\n%%EOF", "The PDF is damaged."],
    [
      "is noise",
      Buffer.concat([Buffer.from("%PDF-1.7\n"), random(20_000), Buffer.from("%%EOF")]),
      "The PDF is damaged.",
    ],
    ["shows no text, like a scan", pdfOf(page("0 0 10 10 re f")), "The PDF holds no text: it may be a scan."],
    [
      "has text that would be left out",
      cmapPdf(),
      "The PDF has text in an older Chinese, Japanese or Korean encoding, which can't be read.",
    ],
    [
      "has a page tree that holds itself",
      pdfOf([
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 1000000000 >>",
      ]),
      "The PDF is damaged.",
    ],
    [
      "claims a thousand million pages",
      pdfOf([
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1000000000 >>",
        "<< /Type /Page /Parent 2 0 R >>",
      ]),
      "The PDF holds no text: it may be a scan.",
    ],
    [
      "draws a form that draws itself",
      pdfOf([
        ...page("/X Do").with(
          3,
          "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R /Resources << /XObject << /X 6 0 R >> >> >>",
        ),
        {
          dictionary:
            "/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 6 0 R >> >>",
          stream: Buffer.from("/X Do /X Do"),
        },
      ]),
      "The PDF holds no text: it may be a scan.",
    ],
    ["holds a gigabyte of zeros", pdfBomb(), "The document takes more than 512 MiB of memory to read."],
  ])("%s", async (_what, content, detail) => {
    expect(await refusalOf(extractor.extract(source("a.pdf", content)))).toEqual({
      code: "document_unreadable",
      detail,
    });
  });

  test("is read where it only has a million objects", async () => {
    const content = pdfOf([...page(hello), ...Array.from({ length: 1_000_000 }, () => "null")]);
    const reading = extractor.extract(source("a.pdf", content));
    expect(await turnsDuring(reading)).toBeGreaterThan(20);
    expect((await reading).text).toBe("Hello");
  });
});

describe("a DOCX is refused that", () => {
  const entities = Array.from(
    { length: 9 },
    (_, index) => `<!ENTITY l${index + 1} "${`&l${index};`.repeat(10)}">`,
  ).join("");
  test.each([
    ["expands a thousandfold", docxBomb(100_000_000), "The archive expands too far."],
    ["expands to more than its headers say", lyingDocx(20_000_000, 1_000), "The DOCX is damaged."],
    ["says that it expands to 4 GB", lyingDocx(1_000, 4_000_000_000), "The archive expands too far."],
    [
      "holds more text than a library",
      zipSync(docxParts(" ".repeat(64 * 2 ** 20)), { level: 0 }),
      "The archive expands too far.",
    ],
    ["is cut off", docxOf(paragraph("Hello")).subarray(0, 700), "The archive is damaged."],
    ["is noise", Buffer.concat([Buffer.from("PK\x03\x04"), random(100_000)]), "The archive is damaged."],
    ["is no XML", docxOf("<w:p><w:r><w:t>Hello"), "The DOCX is damaged."],
    [
      "asks for a file",
      docxOf(paragraph("&x;"), '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
      "The DOCX is damaged.",
    ],
    [
      "has entities that expand a thousand million times",
      docxOf(paragraph("&l9;"), `<!DOCTYPE d [<!ENTITY l0 "lol">${entities}]>`),
      "The DOCX is damaged.",
    ],
    [
      "is 20,000 elements deep",
      docxOf(
        "<w:sdt><w:sdtContent>".repeat(10_000) + paragraph("x") + "</w:sdtContent></w:sdt>".repeat(10_000),
      ),
      "The document is nested too deeply.",
    ],
    [
      "is 100,000 elements deep",
      docxOf("<w:p>".repeat(100_000) + "</w:p>".repeat(100_000)),
      "The archive expands too far.",
    ],
  ])("%s", async (_what, content, detail) => {
    expect(await refusalOf(extractor.extract(source("a.docx", content)))).toEqual({
      code: "document_unreadable",
      detail,
    });
  });

  test("holds an archive that expands a thousandfold", async () => {
    const bomb = zipSync({ "bomb.zip": docxBomb(10_000_000) });
    expect(await refusalOf(extractor.extract(source("a.docx", bomb)))).toMatchObject({
      code: "unsupported_media_type",
    });
  });

  test("is read without what a part of it, that nobody needs, expands to", async () => {
    const parts = { ...docxParts(paragraph("Hello")), "word/media/image.bmp": new Uint8Array(50_000_000) };
    expect((await extractor.extract(source("a.docx", zipSync(parts)))).text).toBe("Hello");
  });
});

describe("large documents are read, and others get their turn meanwhile", () => {
  const lines = (count: number, line: (index: number) => string): string =>
    Array.from({ length: count }, (_, index) => line(index)).join("\n");

  test("a CSV of a million rows", async () => {
    const csv = `id\n${lines(1_000_000, String)}`;
    const reading = extractor.extract(source("a.csv", csv));
    expect(await turnsDuring(reading)).toBeGreaterThan(50);
    const { text, passages } = await reading;
    expect(text).toStartWith("id: 0\nid: 1\n");
    expect(text).toEndWith("\nid: 999999");
    expect(passages.at(-1)!.end).toBe(text.length);
  });

  test("a CSV of 100 columns", async () => {
    const cells = (cell: string): string =>
      Array.from({ length: 100 }, (_, index) => `${cell}${index}`).join(",");
    const { text } = await extractor.extract(
      source("a.csv", `${cells("name")}\n${`${cells("v")}\n`.repeat(1_000)}`),
    );
    expect(text.split("\n")).toHaveLength(1_000);
    expect(text.split("\n")[999]).toStartWith("name0: v0; name1: v1; ");
  });

  test.each([
    ["30 MB of text", `${"The quick brown fox jumps. ".repeat(30)}\n\n`, 30_000_000],
    ["a paragraph of 10 MB", "漢字かな。", 10_000_000],
    ["a word of 2 MB", "x", 2_000_000],
  ])("%s", async (_what, part, size) => {
    const given = part.repeat(size / Buffer.byteLength(part));
    const reading = extractor.extract(source("a.txt", given));
    expect(await turnsDuring(reading)).toBeGreaterThan(20);
    const { text, passages } = await reading;
    expect(text === given).toBe(true);
    expect(passages.at(-1)!.end).toBe(text.trimEnd().length);
  });

  test("HTML of 100,000 elements within each other", async () => {
    const reading = extractor.extract(source("a.html", `${"<div>".repeat(100_000)}deep`));
    expect(await turnsDuring(reading)).toBeGreaterThan(20);
    expect((await reading).text).toBe("deep");
  });

  test("50 MB of text are refused by their limit", async () => {
    expect(await refusalOf(extractor.extract(source("a.txt", "x".repeat(50_000_000))))).toEqual({
      code: "payload_too_large",
      detail: "The document has more than 40000000 characters of text.",
    });
  });
});

test("after all that a document is read like any other", async () => {
  expect((await extractor.extract(source("a.pdf", good))).text).toBe("Hello\n\nWorld");
});
