/** DOCX files made by hand, whole and hostile ones. */
import { zipSync } from "fflate";

const relationships = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const wordNamespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";

const text = (content: string): Uint8Array => new TextEncoder().encode(content);

/** The parts of a DOCX around the XML of its body. */
export const docxParts = (body: string, prolog = ""): Record<string, Uint8Array> => ({
  "[Content_Types].xml": text(
    '<?xml version="1.0" encoding="UTF-8"?>' +
      '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">' +
      '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>' +
      '<Default Extension="xml" ContentType="application/xml"/>' +
      '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>' +
      "</Types>",
  ),
  "_rels/.rels": text(
    '<?xml version="1.0" encoding="UTF-8"?>' +
      '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">' +
      `<Relationship Id="r1" Type="${relationships}/officeDocument" Target="word/document.xml"/>` +
      "</Relationships>",
  ),
  "word/document.xml": text(
    `<?xml version="1.0" encoding="UTF-8"?>${prolog}<w:document xmlns:w="${wordNamespace}"><w:body>${body}</w:body></w:document>`,
  ),
  "word/styles.xml": text(
    `<?xml version="1.0" encoding="UTF-8"?><w:styles xmlns:w="${wordNamespace}">` +
      [1, 2, 3]
        .map(
          (level) =>
            `<w:style w:type="paragraph" w:styleId="Heading${level}"><w:name w:val="heading ${level}"/></w:style>`,
        )
        .join("") +
      "</w:styles>",
  ),
});

export const docxOf = (body: string, prolog = ""): Buffer => Buffer.from(zipSync(docxParts(body, prolog)));

export const run = (content: string): string => `<w:r><w:t xml:space="preserve">${content}</w:t></w:r>`;
export const paragraph = (content: string): string => `<w:p>${run(content)}</w:p>`;
export const heading = (level: number, content: string): string =>
  `<w:p><w:pPr><w:pStyle w:val="Heading${level}"/></w:pPr>${run(content)}</w:p>`;
export const table = (rows: string[][]): string =>
  `<w:tbl>${rows
    .map((cells) => `<w:tr>${cells.map((cell) => `<w:tc>${paragraph(cell)}</w:tc>`).join("")}</w:tr>`)
    .join("")}</w:tbl>`;

/** A DOCX whose document.xml is this long, most of it one letter. */
export const docxBomb = (chars: number): Buffer => docxOf(paragraph("a".repeat(chars)));

/** The same with another size of document.xml in the archive's headers than it has. */
export function lyingDocx(chars: number, size: number): Buffer {
  const zip = docxBomb(chars);
  const name = Buffer.from("word/document.xml");
  for (const [signature, nameAt, sizeAt] of [
    [0x04034b50, 30, 22],
    [0x02014b50, 46, 24],
  ] as const) {
    for (let at = 0; at < zip.length - 46; at++) {
      if (zip.readUInt32LE(at) === signature && zip.subarray(at + nameAt).indexOf(name) === 0) {
        zip.writeUInt32LE(size, at + sizeAt);
      }
    }
  }
  return zip;
}
