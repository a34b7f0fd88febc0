/** Looking for traces of text in the files of a data directory. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** Every file under a directory, read whole. */
function filesIn(directory: string): { file: string; bytes: Buffer }[] {
  return (readdirSync(directory, { recursive: true }) as string[])
    .filter((file) => statSync(join(directory, file)).isFile())
    .map((file) => ({ file, bytes: readFileSync(join(directory, file)) }));
}

/**
 * Which markers are found in which files, as `file: marker`: in UTF-8, in UTF-16, and, of those in ASCII, whatever
 * their case, as words of an index are.
 */
export function tracesIn(directory: string, markers: readonly string[]): string[] {
  return filesIn(directory).flatMap(({ file, bytes }) => {
    const lowerCase = bytes.toString("latin1").toLowerCase();
    return markers
      .filter(
        (marker) =>
          bytes.includes(marker) ||
          bytes.includes(Buffer.from(marker, "utf16le")) ||
          (/^[\x20-\x7e]+$/.test(marker) && lowerCase.includes(marker.toLowerCase())),
      )
      .map((marker) => `${file}: ${marker}`);
  });
}
