/** What the lines of a PDF's pages are: headings by their size, paragraphs by the space between them. */
import type { Structured } from "../structure.ts";
import { TextBuilder } from "../text-builder.ts";

export interface Line {
  readonly text: string;
  /** Of its letters, in points, to the half point. */
  readonly size: number;
  /** The baseline's height on the page, in points. */
  readonly y: number;
  /** From its first letter to its last, in points. */
  readonly width: number;
}

/** How much larger than the body a heading's letters are, and how long headings get. */
const headingRatio = 1.15;
const headingCharsMax = 200;
const headingLevelMax = 6;
/** A gap between baselines that is so much larger than usual sets paragraphs apart. */
const gapRatio = 1.3;
/** A line that is so much shorter than usual ends on purpose, as in lists and tables. */
const shortRatio = 0.7;
/** What stands at the edge of so many pages is no part of the text. */
const marginPagesMin = 3;
const marginCharsMax = 120;

/** @param pages the lines of each page, in reading order; not all empty @throws payload_too_large */
export function layOut(pages: Line[][], charsMax: number): Structured {
  const builder = new TextBuilder(charsMax);
  const bodySize = mostCommonSize(pages);
  const levels = headingLevels(pages, bodySize);
  const shortWidth = usualWidth(pages, bodySize) * shortRatio;
  for (const [index, lines] of withoutMargins(pages).entries()) {
    builder.page = index + 1;
    for (const paragraph of paragraphsOf(lines)) {
      const text = joinLines(paragraph, shortWidth);
      const level = levels.get(paragraph[0]!.size);
      if (level !== undefined && text.length <= headingCharsMax) builder.heading(level, text);
      else builder.block("paragraph", text);
    }
  }
  return builder.finish();
}

/** Of most characters. */
function mostCommonSize(pages: Line[][]): number {
  const chars = new Map<number, number>();
  for (const { text, size } of pages.flat()) chars.set(size, (chars.get(size) ?? 0) + text.length);
  return [...chars].reduce((most, entry) => (entry[1] > most[1] ? entry : most))[0];
}

/** The largest letters are of level 1. */
function headingLevels(pages: Line[][], bodySize: number): Map<number, number> {
  const sizes = [...new Set(pages.flat().map(({ size }) => size))]
    .filter((size) => size >= bodySize * headingRatio)
    .toSorted((a, b) => b - a);
  return new Map(sizes.map((size, index) => [size, Math.min(index + 1, headingLevelMax)]));
}

/** How wide the lines of the body are: at least a quarter of them are so wide. */
const usualWidth = (pages: Line[][], bodySize: number): number =>
  quantile(
    pages
      .flat()
      .filter(({ size }) => size === bodySize)
      .map(({ width }) => width),
    0.75,
  );

const quantile = (values: number[], portion: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * portion)] ?? 0;

/** Pages without their running heads, feet and numbers: first or last lines that, but for numbers, come again. */
function withoutMargins(pages: Line[][]): Line[][] {
  const seen = new Map<string, number>();
  for (const lines of pages) {
    for (const line of new Set([lines[0], lines.at(-1)])) {
      if (line !== undefined) seen.set(withoutNumbers(line), (seen.get(withoutNumbers(line)) ?? 0) + 1);
    }
  }
  const isMargin = (line: Line | undefined): boolean =>
    line !== undefined &&
    line.text.length <= marginCharsMax &&
    seen.get(withoutNumbers(line))! >= marginPagesMin;
  return pages.map((lines) => {
    const from = isMargin(lines[0]) ? 1 : 0;
    return lines.slice(from, lines.length > from && isMargin(lines.at(-1)) ? -1 : undefined);
  });
}

const withoutNumbers = ({ text }: Line): string => text.replace(/\d+/g, "#");

/** Lines of one size that follow each other as closely as most lines of the page do. */
function paragraphsOf(lines: Line[]): Line[][] {
  const paragraphs: Line[][] = [];
  const gaps = lines.slice(1).flatMap((line, index) => {
    const above = lines[index]!;
    return above.size === line.size && above.y > line.y ? [above.y - line.y] : [];
  });
  const gapMax = quantile(gaps, 0.5) * gapRatio;
  let last: Line | null = null;
  for (const line of lines) {
    const gap = last === null ? 0 : last.y - line.y;
    const follows = last?.size === line.size && gap >= 0 && gap <= Math.max(gapMax, line.size);
    if (follows) paragraphs.at(-1)!.push(line);
    else paragraphs.push([line]);
    last = line;
  }
  return paragraphs;
}

/** A paragraph in one line, but for lines that end on purpose; words hyphenated at a line's end are whole again. */
function joinLines(lines: Line[], shortWidth: number): string {
  let text = "";
  let last: Line | null = null;
  for (const line of lines) {
    const divided = /[\p{L}\p{N}][-\u00ad\u2010]$/u.test(text.slice(-3)) && /^[\p{L}\p{N}]/u.test(line.text);
    if (last === null) text = line.text;
    else if (!divided) text += (last.width < shortWidth ? "\n" : " ") + line.text;
    else text = (isHyphenation(last.text, line.text) ? text.slice(0, -1) : text) + line.text;
    last = line;
  }
  return text;
}

/** Whether a hyphen is there for the line's end alone; `OpenAI-compatible` and `2024-11` have theirs anyway. */
const isHyphenation = (line: string, next: string): boolean =>
  line.endsWith("\u00ad") ||
  (/(?:^|[\s(“"'‘])\p{L}\p{Ll}*[-\u2010]$/u.test(line) && /^\p{Ll}{2}/u.test(next));
