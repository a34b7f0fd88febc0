/** Cuts of a text that is too long for a passage. */

export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Where a text may be cut, from the kindest place to the last resort. */
export type Cut = "line" | "sentence" | "word" | "character";

/** The segmenter is asked about so much at once, because it takes memory for all of it. */
const segmentedCharsMax = 8_192;

/** UTF-8 bytes of a UTF-16 code unit, and so its tokens at most. */
const unitTokensMax = 3;

const sentences = new Intl.Segmenter(undefined, { granularity: "sentence" });

/**
 * The parts of a span in order; only blanks are missing between them. Where one is still too long, `nextCut` says how
 * to go on; characters come in pieces that can't have more than `tokensMax` tokens.
 */
export function cut(text: string, span: Span, where: Cut, tokensMax: number): Iterable<Span> {
  if (where === "line") return linesOf(text, span);
  if (where === "word") return wordsOf(text, span);
  if (where === "sentence") return sentencesOf(text, span);
  return charactersOf(text, span, Math.max(1, Math.floor(tokensMax / unitTokensMax)));
}

export const nextCut: Record<Cut, Cut> = {
  line: "sentence",
  sentence: "word",
  word: "character",
  character: "character",
};

/** A span without the blanks at its ends; its end is its start where nothing is left. */
export function trimmed(text: string, { start, end }: Span): Span {
  const raw = text.slice(start, end);
  const from = end - raw.trimStart().length;
  return { start: from, end: Math.max(from, start + raw.trimEnd().length) };
}

function* linesOf(text: string, { start, end }: Span): Generator<Span> {
  for (let at = start; at < end; ) {
    const newline = text.indexOf("\n", at);
    const lineEnd = newline < 0 || newline > end ? end : newline;
    yield { start: at, end: lineEnd };
    at = lineEnd + 1;
  }
}

function* wordsOf(text: string, { start, end }: Span): Generator<Span> {
  for (const match of text.slice(start, end).matchAll(/\S+/g)) {
    yield { start: start + match.index, end: start + match.index + match[0].length };
  }
}

function* sentencesOf(text: string, { start, end }: Span): Generator<Span> {
  for (let at = start; at < end; ) {
    const windowEnd = wordEnd(text, at, Math.min(end, at + segmentedCharsMax), end);
    // To the segmenter a line's end is a sentence's end; in wrapped text a sentence goes on with a small letter.
    const window = text.slice(at, windowEnd).replace(/\n(?=[ \t]*\p{Ll})/gu, " ");
    for (const { index, segment } of sentences.segment(window)) {
      yield { start: at + index, end: at + index + segment.length };
    }
    at = windowEnd;
  }
}

function* charactersOf(text: string, { start, end }: Span, unitsMax: number): Generator<Span> {
  for (let at = start; at < end; ) {
    let next = Math.min(end, at + unitsMax);
    if (next < end && isLowSurrogate(text, next)) next += next - at > 1 ? -1 : 1;
    yield { start: at, end: next };
    at = next;
  }
}

/** The last place not after `limit` where a word ends, or `limit` where that is far away. */
function wordEnd(text: string, from: number, limit: number, end: number): number {
  if (limit >= end) return end;
  const blank = Math.max(text.lastIndexOf(" ", limit), text.lastIndexOf("\n", limit));
  if (blank > from) return blank;
  return isLowSurrogate(text, limit) ? limit - 1 : limit;
}

const isLowSurrogate = (text: string, at: number): boolean => (text.charCodeAt(at) & 0xfc00) === 0xdc00;
