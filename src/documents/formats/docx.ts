/** DOCX: `mammoth` makes HTML of it, once it is sure how much there is. */
import { unzipSync, zipSync } from "fflate";
import mammoth from "mammoth";
import { notTaken, unreadable } from "../refusals.ts";
import type { Structured } from "../structure.ts";
import { readHtml } from "./html.ts";

/** XML that is read at most; a book of a million words has 30 MB of it. */
const expandedBytesMax = 64 * 1024 * 1024;
/** No text compresses better; XML of nothing but marks does, a little. */
const expansionMax = 200;

const isPart = (name: string): boolean =>
  /^(?:\[Content_Types\]\.xml|_rels\/\.rels|word\/.*\.(?:xml|rels))$/i.test(name);

/** @throws document_unreadable, unsupported_media_type for other archives, payload_too_large */
export async function readDocx(bytes: Uint8Array, charsMax: number): Promise<Structured> {
  const parts = unpack(bytes);
  // What mammoth gets to see are the parts that were unpacked here, within bounds, and nothing else of the archive.
  const buffer = Buffer.from(zipSync(parts, { level: 0 }));
  const noImage = mammoth.images.imgElement(async () => ({ src: "" }));
  let html: string;
  try {
    ({ value: html } = await mammoth.convertToHtml({ buffer }, { convertImage: noImage }));
  } catch (error) {
    if (error instanceof RangeError) throw unreadable("The document is nested too deeply.", error.name);
    throw unreadable("The DOCX is damaged.", error instanceof Error ? error.name : error);
  }
  return readHtml(html, charsMax);
}

/** Parts by name, each of the size that the archive's directory says: what is packed beyond that is left out. */
function unpack(bytes: Uint8Array): Record<string, Uint8Array> {
  const names: string[] = [];
  let expandedBytes = 0;
  let parts: Record<string, Uint8Array>;
  try {
    parts = unzipSync(bytes, {
      filter({ name, size, originalSize }) {
        names.push(name);
        if (!isPart(name)) return false;
        expandedBytes += originalSize;
        const expandsTooFar = originalSize > 1024 * 1024 && originalSize > size * expansionMax;
        if (expandsTooFar || expandedBytes > expandedBytesMax) throw tooFar;
        return true;
      },
    });
  } catch (error) {
    if (error === tooFar) throw unreadable("The archive expands too far.");
    throw unreadable("The archive is damaged.", error instanceof Error ? error.name : error);
  }
  if (!names.some((name) => name === "word/document.xml")) throw notTaken(archiveOf(names));
  return parts;
}

const tooFar = new Error("the archive expands too far");

const archiveOf = (names: string[]): string =>
  names.some((name) => name.startsWith("xl/"))
    ? "Excel workbooks"
    : names.some((name) => name.startsWith("ppt/"))
      ? "PowerPoint presentations"
      : "Archives";
