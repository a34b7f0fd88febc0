/** PDF: the lines of each page, as `pdf.js` finds them. */
import { getDocumentProxy } from "unpdf";
import type { PDFDocumentProxy, PDFPageProxy } from "unpdf/pdfjs";
import { textTooLong, unreadable } from "../refusals.ts";
import type { Structured } from "../structure.ts";
import { oneLine } from "../text-builder.ts";
import { type Line, layOut } from "./pdf-layout.ts";

/** @throws document_unreadable, payload_too_large */
export async function readPdf(bytes: Uint8Array, charsMax: number): Promise<Structured> {
  const missing = new Set<string>();
  const pdf = await open(bytes, missing);
  const pages: Line[][] = [];
  let chars = 0;
  for (let number = 1; number <= pdf.numPages; number++) {
    const lines = await linesOf(pdf, number);
    for (const { text } of lines) chars += text.length;
    if (chars > charsMax) throw textTooLong(charsMax);
    pages.push(lines);
  }
  await pdf.loadingTask.destroy();
  // Its text was left out, and the rest would pass for all of it.
  if (missing.has(characterMap))
    throw unreadable(
      "The PDF has text in an older Chinese, Japanese or Korean encoding, which can't be read.",
    );
  if (chars === 0) throw unreadable("The PDF holds no text: it may be a scan.");
  return layOut(pages, charsMax);
}

/** What pdf.js calls the tables that older Chinese, Japanese and Korean fonts need; this program has none. */
const characterMap = "cMapUrl";

/** @param missing gets the kinds of files that pdf.js asks for in vain, while it opens the document or later */
async function open(bytes: Uint8Array, missing: Set<string>): Promise<PDFDocumentProxy> {
  // pdf.js would make do with what is there, and nobody would know what is missing.
  if (Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).lastIndexOf("%%EOF") < 0) {
    throw unreadable("The PDF is cut off.");
  }
  try {
    // A copy, because pdf.js takes what it is given away from its owner.
    return await getDocumentProxy(new Uint8Array(bytes), {
      verbosity: 0,
      useWorkerFetch: false,
      BinaryDataFactory: class {
        async fetch({ kind }: { kind: string }): Promise<Uint8Array> {
          missing.add(kind);
          throw new Error(`there is no ${kind}`);
        }
      },
    });
  } catch (error) {
    if (error instanceof Error && error.name === "PasswordException") {
      throw unreadable("The PDF is encrypted.", error.name);
    }
    throw damaged(error);
  }
}

async function linesOf(pdf: PDFDocumentProxy, number: number): Promise<Line[]> {
  try {
    const page = await pdf.getPage(number);
    const { items } = await page.getTextContent();
    page.cleanup();
    return toLines(items);
  } catch (error) {
    throw damaged(error);
  }
}

const damaged = (error: unknown): Error =>
  unreadable("The PDF is damaged.", error instanceof Error ? error.name : "not an error");

type Items = Awaited<ReturnType<PDFPageProxy["getTextContent"]>>["items"];

function toLines(items: Items): Line[] {
  const lines: Line[] = [];
  let parts: string[] = [];
  let size = 0;
  let y = 0;
  let left = Number.POSITIVE_INFINITY;
  let right = 0;
  const endLine = (): void => {
    const text = oneLine(parts.join("").replace(/\p{Cc}/gu, " "));
    if (text !== "") lines.push({ text, size, y, width: right - left });
    parts = [];
    size = 0;
    left = Number.POSITIVE_INFINITY;
    right = 0;
  };
  for (const item of items) {
    if (!("str" in item)) continue;
    parts.push(item.str);
    if (item.str.trim() !== "") {
      const [, , skew, height, x, baseline] = item.transform as number[];
      const itemSize = Math.round(Math.hypot(skew!, height!) * 2) / 2;
      // A superscript neither moves the line nor makes it smaller.
      if (itemSize > size) {
        size = itemSize;
        y = baseline!;
      }
      left = Math.min(left, x!);
      right = Math.max(right, x! + item.width);
    }
    if (item.hasEOL) endLine();
  }
  endLine();
  return lines;
}
