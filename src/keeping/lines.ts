/**
 * An archive as JSON Lines: a header, a record a line, and an end that counts them, so that half a file isn't taken for
 * a whole one. A line and what it says of its record depend on the record alone: the same data gives the same bytes.
 */
import type { ArchiveExport } from "../storage/archive-store.ts";

/** Counts the forms that an export has had. */
export const formatVersion = 1;
export const headerType = "parley.export";
export const endType = "end";

/** Lines are put together until they are worth a write. */
const chunkChars = 64 * 1024;

/** The lines of an export, many to a chunk. */
export async function* exportLines(archive: ArchiveExport): AsyncGenerator<string, void, void> {
  let chunk = line({ type: headerType, version: formatVersion });
  let records = 0;
  for await (const record of archive.records()) {
    records++;
    chunk += line(record);
    if (chunk.length < chunkChars) continue;
    yield chunk;
    chunk = "";
  }
  yield chunk + line({ type: endType, records });
}

const line = (value: object): string => `${JSON.stringify(value)}\n`;

export interface Line {
  /** From 1. */
  number: number;
  /** Null where it is longer than allowed. */
  bytes: Uint8Array | null;
}

/** Divides a file into lines; of one that is too long nothing is kept. */
export async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  lineBytesMax: number,
): AsyncGenerator<Line, void, void> {
  let number = 1;
  let pieces: Uint8Array[] = [];
  let length = 0;
  const whole = (): Line => {
    const bytes = length > lineBytesMax ? null : Buffer.concat(pieces);
    pieces = [];
    length = 0;
    return { number: number++, bytes };
  };
  const add = (piece: Uint8Array): void => {
    length += piece.length;
    if (length > lineBytesMax) pieces = [];
    else pieces.push(piece);
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      add(chunk.subarray(start, end));
      yield whole();
      start = end + 1;
    }
    add(chunk.slice(start));
  }
  if (length > 0) yield whole();
}
