/** PDFs made by hand, whole and broken ones. */
import { constants, deflateRawSync } from "node:zlib";

/** A line of text: its place in points from the page's lower left corner, and the size of its letters. */
export interface PdfLine {
  text: string;
  y: number;
  size?: number;
  x?: number;
}

export type PdfObject = string | { dictionary: string; stream: Uint8Array };

/** A PDF of objects 1, 2, …, of which the first is the catalog. @param trailer further entries of the trailer */
export function pdfOf(objects: PdfObject[], trailer = ""): Buffer {
  const parts: Buffer[] = [];
  const offsets: number[] = [];
  let length = 0;
  const add = (part: string | Uint8Array): void => {
    parts.push(typeof part === "string" ? Buffer.from(part, "latin1") : Buffer.from(part));
    length += parts.at(-1)!.length;
  };
  add("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n");
  for (const [index, object] of objects.entries()) {
    offsets.push(length);
    add(`${index + 1} 0 obj\n`);
    if (typeof object === "string") add(object);
    else {
      add(`<< ${object.dictionary} /Length ${object.stream.length} >>\nstream\n`);
      add(object.stream);
      add("\nendstream");
    }
    add("\nendobj\n");
  }
  const xref = length;
  add(`xref\n0 ${objects.length + 1}\n0000000000 65535 f \n`);
  add(offsets.map((offset) => `${String(offset).padStart(10, "0")} 00000 n \n`).join(""));
  add(`trailer\n<< /Size ${objects.length + 1} /Root 1 0 R ${trailer} >>\nstartxref\n${xref}\n%%EOF\n`);
  return Buffer.concat(parts);
}

/** The objects of a PDF with these contents of its pages: catalog, page tree, font, then a page and a stream each. */
export function pageObjects(contents: PdfObject[]): PdfObject[] {
  const kids = contents.map((_, index) => `${4 + index * 2} 0 R`).join(" ");
  return [
    "<< /Type /Catalog /Pages 2 0 R >>",
    `<< /Type /Pages /Kids [${kids}] /Count ${contents.length} >>`,
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ...contents.flatMap((content, index): PdfObject[] => [
      `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents ${5 + index * 2} 0 R ` +
        "/Resources << /Font << /F 3 0 R >> >> >>",
      content,
    ]),
  ];
}

/** A PDF with lines of text on each page. */
export const pdfWith = (pages: PdfLine[][]): Buffer =>
  pdfOf(pageObjects(pages.map((lines) => ({ dictionary: "", stream: Buffer.from(show(lines), "latin1") }))));

const show = (lines: PdfLine[]): string =>
  lines
    .map(({ text, y, size = 10, x = 72 }) => {
      const escaped = text.replace(/[\\()]/g, "\\$&");
      return `BT /F ${size} Tf 1 0 0 1 ${x} ${y} Tm (${escaped}) Tj ET`;
    })
    .join("\n");

/** A PDF that opens with a password only. */
export const encryptedPdf = (): Buffer =>
  pdfOf(
    [
      ...pageObjects([{ dictionary: "", stream: Buffer.from(show([{ text: "Secret", y: 700 }])) }]),
      `<< /Filter /Standard /V 1 /R 2 /O <${"a1".repeat(32)}> /U <${"b2".repeat(32)}> /P -4 >>`,
    ],
    `/Encrypt 6 0 R /ID [<${"c3".repeat(16)}> <${"c3".repeat(16)}>]`,
  );

/** A PDF with Japanese text whose characters only a predefined CMap tells, and some English. */
export function cmapPdf(): Buffer {
  const shown = "BT /F 10 Tf 72 700 Td <65e5672c8a9e> Tj ET BT /G 10 Tf 72 600 Td (English) Tj ET";
  const [catalog, pages, latin, page, content] = pageObjects([
    { dictionary: "", stream: Buffer.from(shown) },
  ]);
  return pdfOf([
    catalog!,
    pages!,
    "<< /Type /Font /Subtype /Type0 /BaseFont /Mincho /Encoding /UniJIS-UCS2-H /DescendantFonts [7 0 R] >>",
    (page as string).replace("/F 3 0 R", "/F 3 0 R /G 6 0 R"),
    content!,
    latin!,
    "<< /Type /Font /Subtype /CIDFontType0 /BaseFont /Mincho /FontDescriptor 8 0 R " +
      "/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >> >>",
    "<< /Type /FontDescriptor /FontName /Mincho /Flags 4 >>",
  ]);
}

/** A PDF of a megabyte with a page whose content is a gigabyte of zeros. */
export function pdfBomb(): Buffer {
  const [zlib, end] = [Buffer.from([0x78, 0x9c]), Buffer.from([0x03, 0x00])];
  const mebibyte = deflateRawSync(Buffer.alloc(2 ** 20), { level: 9, finishFlush: constants.Z_FULL_FLUSH });
  const stream = Buffer.concat([zlib, ...Array.from({ length: 1_000 }, () => mebibyte), end]);
  return pdfOf(pageObjects([{ dictionary: "/Filter /FlateDecode", stream }]));
}
