/** Plain text: paragraphs are set apart by blank lines. */
import type { Block, Structured } from "../structure.ts";

export function readText(text: string): Structured {
  return { text, blocks: paragraphsOf(text, 0, text.length) };
}

/** The paragraphs of a part of a text, each from its first line's start to its last line's end. */
export function paragraphsOf(text: string, from: number, to: number): Block[] {
  const blocks: Block[] = [];
  let start = -1;
  let end = from;
  for (let at = from; at < to; ) {
    const newline = text.indexOf("\n", at);
    const lineEnd = newline < 0 || newline > to ? to : newline;
    if (!isBlank(text, at, lineEnd)) {
      if (start < 0) start = at;
      end = lineEnd;
    } else if (start >= 0) {
      blocks.push({ kind: "paragraph", start, end });
      start = -1;
    }
    at = lineEnd + 1;
  }
  if (start >= 0) blocks.push({ kind: "paragraph", start, end });
  return blocks;
}

const isBlank = (text: string, start: number, end: number): boolean => {
  // Most lines show it in their first character.
  const first = text.charCodeAt(start);
  return !(start < end && first > 0x20 && first < 0x7f) && text.slice(start, end).trim() === "";
};
