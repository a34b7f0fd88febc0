/** Bytes of a text become a string. */
import { notTaken, textTooLong, unreadable } from "./refusals.ts";

/** As git does it: a NUL so early means that this is no text. */
const lookedAtBytes = 8_000;

const hasUtf16Mark = (bytes: Uint8Array): boolean =>
  (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);

/** Whether bytes may be text at all, in UTF-8, a one-byte encoding, or UTF-16 with its mark. */
export const looksLikeText = (bytes: Uint8Array): boolean =>
  hasUtf16Mark(bytes) || !bytes.subarray(0, lookedAtBytes).includes(0);

/**
 * Text as UTF-8, as UTF-16 where it begins with a byte order mark, or as the charset that is declared; without the
 * mark, and with line ends as \n.
 * @param charset a label of the Encoding Standard, or null
 * @throws document_unreadable where the bytes are something else; payload_too_large
 */
export function decodeText(bytes: Uint8Array, charset: string | null, charsMax: number): string {
  // No encoding has more than three bytes for a UTF-16 unit.
  if (bytes.length > charsMax * 3) throw textTooLong(charsMax);
  const decoder = decoderOf(bytes, charset);
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch (cause) {
    const isUtf8 = decoder.encoding === "utf-8";
    throw unreadable(
      isUtf8 ? "The text is not valid UTF-8." : "The text is not valid in its declared charset.",
      cause,
    );
  }
  const unified = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
  if (unified.length > charsMax) throw textTooLong(charsMax);
  return unified;
}

function decoderOf(bytes: Uint8Array, charset: string | null): TextDecoder {
  if (hasUtf16Mark(bytes)) {
    return new TextDecoder(bytes[0] === 0xff ? "utf-16le" : "utf-16be", { fatal: true });
  }
  try {
    return new TextDecoder((charset ?? "utf-8") as Bun.Encoding, { fatal: true });
  } catch {
    throw notTaken("Texts of this charset");
  }
}
