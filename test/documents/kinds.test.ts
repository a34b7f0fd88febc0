/** What a document is taken for, and how its text is decoded. */
import { describe, expect, test } from "bun:test";
import { zipSync } from "fflate";
import { extract } from "../../src/documents/extract.ts";
import { refusalOf, source } from "../support/documents.ts";
import { docxOf, paragraph } from "../support/docx.ts";
import { pdfWith } from "../support/pdf.ts";

const charsMax = 1_000;
const read = (...args: Parameters<typeof source>) => extract(source(...args), charsMax);
const pdf = pdfWith([[{ text: "Hello", y: 700 }]]);
const docx = docxOf(paragraph("Hello"));
const docxType = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";

describe("a document is taken for", () => {
  test.each([
    ["what its name says", "a.md", "# Hello", null, "text/markdown"],
    [
      "what its name says, where the type is vague",
      "a.csv",
      "a,b\n1,2",
      "application/octet-stream",
      "text/csv",
    ],
    [
      "what its name says, where the type is Excel's",
      "a.csv",
      "a,b\n1,2",
      "application/vnd.ms-excel",
      "text/csv",
    ],
    ["what its name says, where the type is plain text", "a.md", "# Hello", "text/plain", "text/markdown"],
    ["what its type says", "a", "# Hello", "text/markdown; charset=utf-8", "text/markdown"],
    ["what its type says, whatever its name", "a.txt", "<p>Hello", "text/html", "text/html"],
    ["text, where nothing says more", "README", "Hello", null, "text/plain"],
    ["text, where its type is some text", "a.py", "print(1)", "text/x-python", "text/plain"],
    ["HTML, where it looks like it", "page", "<!DOCTYPE html><p>Hello", null, "text/html"],
    ["a PDF, whatever it is called", "a.txt", pdf, "text/plain", "application/pdf"],
    ["a DOCX, whatever it is called", "a", docx, null, docxType],
    ["JSON by an extension in capitals", "A.JSON", '{"a": 1}', null, "application/json"],
  ])("%s", async (_what, name, content, mediaType, expected) => {
    expect((await read(name, content, mediaType)).media_type).toBe(expected);
  });
});

describe("a document is refused, with what it looks like, where it is", () => {
  const taken = "Taken are text, Markdown, HTML, PDF, DOCX, CSV and JSON.";
  const html = " <!-- saved --> <!doctype HTML><title>Log in</title>";
  test.each([
    ["HTML named .pdf", "a.pdf", html, null, "It looks like HTML, not PDF."],
    ["HTML sent as a PDF", "a", html, "application/pdf", "It looks like HTML, not PDF."],
    ["HTML named .docx", "a.docx", html, null, "It looks like HTML, not DOCX."],
    ["HTML named .csv", "a.csv", html, null, "It looks like HTML, not CSV."],
    ["HTML named .json", "a.json", "<html><p>", null, "It looks like HTML, not JSON."],
    ["text named .pdf", "a.pdf", "Hello", null, "It looks like text, not PDF."],
    ["binary data named .pdf", "a.pdf", "\0\x01\x02", null, "It looks like something else, not PDF."],
    ["binary data named .txt", "a.txt", "\x7fELF\0\0", null, "It looks like binary data, not text."],
    ["binary data sent as Markdown", "a", "\0", "text/markdown", "It looks like binary data, not Markdown."],
    [
      "an encrypted DOCX",
      "a.docx",
      Buffer.from("d0cf11e0a1b11ae100", "hex"),
      null,
      "It looks like an encrypted or an old Word document, not DOCX.",
    ],
    ["empty", "a.txt", "", null, "The document is empty."],
    ["an empty PDF", "a.pdf", "", null, "The document is empty."],
    ["blank", "a.md", " \n\t\n", null, "The document is empty."],
    ["HTML without text", "a.html", "<html><script>1</script>", null, "The document is empty."],
    ["JSON without text", "a.json", '{"a": [null, ""]}', null, "The document is empty."],
  ])("%s", async (_what, name, content, mediaType, detail) => {
    expect(await refusalOf(read(name, content, mediaType))).toEqual({ code: "document_unreadable", detail });
  });

  test.each([
    [
      "binary data",
      "a.bin",
      crypto.getRandomValues(new Uint8Array(5_000)).fill(0, 9, 10),
      null,
      "Files of this kind",
    ],
    ["a picture", "a.png", "\x89PNG\0", "image/png", "Documents of this media type"],
    [
      "an Excel workbook",
      "a.xlsx",
      zipSync({ "xl/workbook.xml": Buffer.from("x") }),
      null,
      "Excel workbooks",
    ],
    [
      "slides",
      "a.pptx",
      zipSync({ "ppt/presentation.xml": Buffer.from("x") }),
      null,
      "PowerPoint presentations",
    ],
    ["an archive", "a.docx", zipSync({ "a.txt": Buffer.from("x") }), null, "Archives"],
    ["an archive in an archive", "a.docx", zipSync({ "a.docx": docx }), null, "Archives"],
    ["text in an unknown charset", "a.txt", "x", "text/plain; charset=klingon", "Texts of this charset"],
  ])("of a kind that is not taken: %s", async (_what, name, content, mediaType, what) => {
    expect(await refusalOf(read(name, content, mediaType))).toEqual({
      code: "unsupported_media_type",
      detail: `${what} are not taken. ${taken}`,
    });
  });
});

describe("a text is decoded", () => {
  const text = "Zoë 😀 – “quoted”";
  test.each([
    ["as UTF-8", Buffer.from(text), null],
    ["as UTF-8 with a mark", Buffer.from(`\ufeff${text}`), null],
    ["as UTF-16 with a mark", Buffer.from(`\ufeff${text}`, "utf16le"), null],
    ["as big-endian UTF-16 with a mark", Buffer.from(`\ufeff${text}`, "utf16le").swap16(), null],
    [
      "as what its mark says, whatever the type does",
      Buffer.from(`\ufeff${text}`, "utf16le"),
      "text/plain; charset=utf-8",
    ],
  ])("%s", async (_what, bytes, mediaType) => {
    expect((await read("a.txt", bytes, mediaType)).text).toBe(text);
  });

  test("as the charset that its type declares", async () => {
    const bytes = Buffer.from([0x5a, 0x6f, 0xeb, 0x20, 0x93, 0x94, 0x80]);
    expect((await read("a.txt", bytes, 'text/plain; charset="Windows-1252"')).text).toBe("Zoë “”€");
    expect(await refusalOf(read("a.txt", bytes, "text/plain"))).toEqual({
      code: "document_unreadable",
      detail: "The text is not valid UTF-8.",
    });
    expect(await refusalOf(read("a.txt", bytes, "text/plain; charset=shift_jis"))).toEqual({
      code: "document_unreadable",
      detail: "The text is not valid in its declared charset.",
    });
  });

  test("as the charset that HTML declares itself", async () => {
    const page = Buffer.from('<meta charset="iso-8859-1"><p>Zo\xeb</p>', "latin1");
    expect((await read("a.html", page)).text).toBe("Zoë");
    const old = Buffer.from(
      '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252"><p>Zo\xeb</p>',
      "latin1",
    );
    expect((await read("a.html", old)).text).toBe("Zoë");
  });

  test("into Parley's normal form, with line ends as one character", async () => {
    const later = "x".repeat(8_000);
    const { text } = await extract(source("a.txt", `a\r\nb\rc\n${later}\0`), 10_000);
    expect(text).toBe(`a\nb\nc\n${later}\ufffd`);
    const surrogate = Buffer.from([0xff, 0xfe, 0x00, 0xd8, 0x41, 0x00]);
    expect(await refusalOf(read("a.txt", surrogate))).toEqual({
      code: "document_unreadable",
      detail: "The text is not valid in its declared charset.",
    });
    expect((await read("a.json", '{"a": "x\\ud800y\\u0000z"}')).text).toBe("a: x\ufffdy\ufffdz");
  });
});

describe("a text that is too long is refused", () => {
  const detail = "The document has more than 1000 characters of text.";
  test.each([
    ["text", "a.txt", "x".repeat(1_001)],
    ["text of many bytes", "a.txt", "漢".repeat(5_000)],
    ["Markdown", "a.md", "x".repeat(1_001)],
    ["HTML", "a.html", "<p>x</p>".repeat(200)],
    [
      "a PDF",
      "a.pdf",
      pdfWith(
        Array.from({ length: 30 }, () => [{ text: "A page of some forty characters of text", y: 700 }]),
      ),
    ],
    ["a DOCX", "a.docx", docxOf(paragraph("x".repeat(1_001)))],
    ["a CSV that grows by its names", "a.csv", `a long name of a column\n${"x\n".repeat(100)}`],
    [
      "JSON that grows by its paths",
      "a.json",
      `{"${"long".repeat(20)}": {${Array.from({ length: 20 }, (_, i) => `"a${i}": 1`)}}}`,
    ],
    [
      "JSON with a row that grows",
      "a.json",
      `[{"${"long".repeat(20)}": {${Array.from({ length: 20 }, (_, i) => `"a${i}": 1`)}}}]`,
    ],
  ])("%s", async (_what, name, content) => {
    expect(await refusalOf(read(name, content))).toEqual({ code: "payload_too_large", detail });
  });
});
