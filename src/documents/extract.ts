/** An uploaded document becomes text with its structure. */
import { toNormalForm } from "../normal-form.ts";
import { decodeText } from "./decode.ts";
import { type Kind, kindOf, mediaTypes, parseMediaType, type Source } from "./media-type.ts";
import { unreadable } from "./refusals.ts";
import type { Structured } from "./structure.ts";

export interface Extracted extends Structured {
  /** What it was read as, without parameters. */
  readonly media_type: string;
}

/** Parsers are loaded when they are needed: most are larger than the rest of the program that reads a text. */
const readers: Record<Kind, (source: Source, charsMax: number) => Promise<Structured>> = {
  async text({ bytes, media_type }, charsMax) {
    const { readText } = await import("./formats/text.ts");
    return readText(decodeText(bytes, parseMediaType(media_type).charset, charsMax));
  },
  async markdown({ bytes, media_type }, charsMax) {
    const { readMarkdown } = await import("./formats/markdown.ts");
    return readMarkdown(decodeText(bytes, parseMediaType(media_type).charset, charsMax));
  },
  async html({ bytes, media_type }, charsMax) {
    const { decodeHtml, readHtml } = await import("./formats/html.ts");
    return readHtml(decodeHtml(bytes, parseMediaType(media_type).charset, charsMax), charsMax);
  },
  async pdf({ bytes }, charsMax) {
    const { readPdf } = await import("./formats/pdf.ts");
    return await readPdf(bytes, charsMax);
  },
  async docx({ bytes }, charsMax) {
    const { readDocx } = await import("./formats/docx.ts");
    return await readDocx(bytes, charsMax);
  },
  async csv({ bytes, media_type }, charsMax) {
    const { readCsv } = await import("./formats/csv.ts");
    const { charset, header } = parseMediaType(media_type);
    return readCsv(decodeText(bytes, charset, charsMax), header, charsMax);
  },
  async json({ bytes, media_type }, charsMax) {
    const { readJson } = await import("./formats/json.ts");
    return readJson(decodeText(bytes, parseMediaType(media_type).charset, charsMax), charsMax);
  },
};

/**
 * The text of a document, in Parley's normal form, with line ends as \n, and the blocks that it is made of.
 * It takes as long and as much memory as the document makes it: only `Extractor` bounds both.
 * @param charsMax UTF-16 code units that the text may have
 * @throws document_unreadable, unsupported_media_type, payload_too_large
 */
export async function extract(source: Source, charsMax: number): Promise<Extracted> {
  const kind = kindOf(source);
  const { text, blocks } = await readers[kind](source, charsMax);
  if (text.trim() === "") throw unreadable("The document is empty.");
  // The normal form has the same length, so that the blocks stay where they are.
  return { media_type: mediaTypes[kind], text: toNormalForm(text), blocks };
}
