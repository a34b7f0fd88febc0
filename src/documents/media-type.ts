/** Which kind of document something is: by what it is declared as, by its name, and by what its bytes say. */
import { looksLikeText } from "./decode.ts";
import { notTaken, unreadable } from "./refusals.ts";

export type Kind = "text" | "markdown" | "html" | "pdf" | "docx" | "csv" | "json";

/** The media type that a document of a kind is stored with. */
export const mediaTypes: Record<Kind, string> = {
  text: "text/plain",
  markdown: "text/markdown",
  html: "text/html",
  pdf: "application/pdf",
  docx: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  csv: "text/csv",
  json: "application/json",
};

const byMediaType: Record<string, Kind> = {
  ...(Object.fromEntries(Object.entries(mediaTypes).map(([kind, type]) => [type, kind])) as Record<
    string,
    Kind
  >),
  "text/x-markdown": "markdown",
  "application/xhtml+xml": "html",
  "application/x-pdf": "pdf",
  "application/csv": "csv",
  "text/tab-separated-values": "csv",
  "text/json": "json",
  "application/ld+json": "json",
  "application/jsonl": "json",
  "application/x-ndjson": "json",
};

const byExtension: Record<string, Kind> = {
  txt: "text",
  text: "text",
  log: "text",
  md: "markdown",
  markdown: "markdown",
  html: "html",
  htm: "html",
  xhtml: "html",
  pdf: "pdf",
  docx: "docx",
  csv: "csv",
  tsv: "csv",
  json: "json",
  jsonl: "json",
  ndjson: "json",
};

/** What clients send where they don't know; browsers on Windows take a CSV for Excel's. */
const vague = new Set(["", "application/octet-stream", "binary/octet-stream", "application/vnd.ms-excel"]);

const named: Record<Kind, string> = {
  text: "text",
  markdown: "Markdown",
  html: "HTML",
  pdf: "PDF",
  docx: "DOCX",
  csv: "CSV",
  json: "JSON",
};

export interface Source {
  readonly bytes: Uint8Array;
  readonly name: string;
  /** As the client declared it, with parameters; null where it didn't. */
  readonly media_type: string | null;
}

/** A declared media type, without and with its parameters. */
export interface Declared {
  readonly essence: string;
  readonly charset: string | null;
  /** RFC 4180's `header`: whether the first row of a CSV holds names. */
  readonly header: boolean | null;
}

export function parseMediaType(mediaType: string | null): Declared {
  const [essence, ...parameters] = (mediaType ?? "").toLowerCase().split(";");
  const values = new Map(
    parameters.map((parameter) => {
      const [name, value = ""] = parameter.split("=");
      return [name!.trim(), value.trim().replace(/^"(.*)"$/, "$1")];
    }),
  );
  const header = values.get("header");
  return {
    essence: essence!.trim(),
    charset: values.get("charset") || null,
    header: header === "present" ? true : header === "absent" ? false : null,
  };
}

/**
 * The kind of a document. What begins like a PDF or a ZIP archive is taken for what it is; anything else for what it
 * is declared as or named, unless its bytes say otherwise.
 * @throws document_unreadable where the bytes are of another kind, unsupported_media_type where no kind fits
 */
export function kindOf({ bytes, name, media_type }: Source): Kind {
  if (bytes.length === 0) throw unreadable("The document is empty.");
  const found = look(bytes);
  if (found === "pdf") return "pdf";
  if (found === "zip") return "docx";
  const declared = declaredKind(parseMediaType(media_type).essence, name);
  if (declared === null) {
    if (found === "html") return "html";
    if (found === "text") return "text";
    throw notTaken("Files of this kind");
  }
  const isBinary = declared === "pdf" || declared === "docx";
  if (found === "html" && (isBinary || declared === "csv" || declared === "json")) {
    throw unreadable(`It looks like HTML, not ${named[declared]}.`);
  }
  if (found === "ole" && declared === "docx") {
    throw unreadable("It looks like an encrypted or an old Word document, not DOCX.");
  }
  if (isBinary) {
    const what = found === "text" ? "text" : "something else";
    throw unreadable(`It looks like ${what}, not ${named[declared]}.`);
  }
  if (found === "binary" || found === "ole") {
    throw unreadable(`It looks like binary data, not ${named[declared]}.`);
  }
  return declared;
}

/** What a client says, by type, and where that is vague by name; null where it says nothing. */
function declaredKind(essence: string, name: string): Kind | null {
  const extension = /\.([^.]+)$/.exec(name.toLowerCase())?.[1] ?? "";
  const named = Object.hasOwn(byExtension, extension) ? byExtension[extension]! : null;
  if (vague.has(essence)) return named;
  if (essence === "text/plain") return named ?? "text";
  if (Object.hasOwn(byMediaType, essence)) return byMediaType[essence]!;
  // Source code, YAML, and whatever else somebody calls text.
  if (essence.startsWith("text/")) return named ?? "text";
  throw notTaken("Documents of this media type");
}

type Look = "pdf" | "zip" | "ole" | "html" | "text" | "binary";

/** What the first bytes look like. */
function look(bytes: Uint8Array): Look {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 1024)).toString("latin1");
  if (/^(?:\xef\xbb\xbf)?\s{0,16}%PDF-/.test(head)) return "pdf";
  if (head.startsWith("PK\x03\x04") || head.startsWith("PK\x05\x06")) return "zip";
  if (head.startsWith("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")) return "ole";
  if (!looksLikeText(bytes)) return "binary";
  return /^(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--[\s\S]*?-->\s*)*<(?:!doctype\s+html|html[\s>])/i.test(
    head,
  )
    ? "html"
    : "text";
}
