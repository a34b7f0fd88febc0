/** Markdown is kept as it is written, because citations quote it; its blocks come from its structure. */
import MarkdownIt from "markdown-it";
import type { Block, Structured } from "../structure.ts";
import { oneLine } from "../text-builder.ts";
import { paragraphsOf } from "./text.ts";

/**
 * Source that is parsed at once, because tokens take 60 times the memory of their text. Blocks of the first level
 * don't depend on each other, so that a part may begin at any of them.
 */
const partChars = 256 * 1024;
/** The longest block that is kept whole. */
const blockCharsMax = 4 * 1024 * 1024;

const markdown = new MarkdownIt("commonmark", { html: true }).enable("table");
markdown.core.ruler.enableOnly(["normalize", "block"]);

type Token = ReturnType<typeof markdown.parse>[number];

export function readMarkdown(text: string): Structured {
  const blocks: Block[] = [];
  let at = frontMatterEnd(text);
  if (at > 0) blocks.push({ kind: "code", start: 0, end: at });
  let chars = partChars;
  while (at < text.length) {
    const end = lineEnd(text, at + chars);
    const isLast = end >= text.length;
    const part = parsePart(text, at, end, isLast || chars >= blockCharsMax);
    // One block that goes on beyond the part: more of it is needed.
    if (part.end === at) {
      chars *= 2;
      continue;
    }
    for (const block of part.blocks) blocks.push(block);
    at = part.end;
    chars = partChars;
  }
  return { text, blocks: withGaps(text, blocks) };
}

/** YAML between lines of dashes at the very start, which Markdown itself would take for a heading. */
function frontMatterEnd(text: string): number {
  if (!text.startsWith("---\n")) return 0;
  const close = text.indexOf("\n---\n", 3);
  return close < 0 ? 0 : close + 4;
}

const lineEnd = (text: string, from: number): number => {
  const newline = from >= text.length ? -1 : text.indexOf("\n", from);
  return newline < 0 ? text.length : newline + 1;
};

/** The blocks of a part, without the last one of the first level where that may go on; and where they end. */
function parsePart(
  text: string,
  start: number,
  end: number,
  isWhole: boolean,
): { blocks: Block[]; end: number } {
  const source = text.slice(start, end);
  const tokens = markdown.parse(source, {});
  const offsets = lineOffsets(source, start);
  const lastTop = isWhole
    ? -1
    : tokens.findLastIndex(({ level, map, nesting }) => level === 0 && map && nesting >= 0);
  const partEnd = lastTop < 0 ? end : offsets[tokens[lastTop]!.map![0]]!;
  const blocks = blocksOf(tokens, offsets).filter((block) => block.start < partEnd);
  return { blocks, end: partEnd };
}

/** Where each line starts, and at the end, where the last one ends. */
function lineOffsets(source: string, start: number): number[] {
  const offsets = [start];
  for (let at = source.indexOf("\n"); at >= 0; at = source.indexOf("\n", at + 1))
    offsets.push(start + at + 1);
  offsets.push(start + source.length);
  return offsets;
}

const leaves: Record<string, Exclude<Block["kind"], "heading">> = {
  paragraph_open: "paragraph",
  heading_open: "paragraph",
  html_block: "paragraph",
  fence: "code",
  code_block: "code",
  table_open: "table",
};

function blocksOf(tokens: Token[], offsets: number[]): Block[] {
  const blocks: Block[] = [];
  let itemDepth = 0;
  for (const [index, token] of tokens.entries()) {
    const { type, map, level } = token;
    if (type === "list_item_open") itemDepth++;
    else if (type === "list_item_close") itemDepth--;
    const kind = Object.hasOwn(leaves, type) ? leaves[type]! : null;
    if (kind === null || map === null) continue;
    const start = Math.max(offsets[map[0]]!, blocks.at(-1)?.end ?? 0);
    const end = offsets[Math.min(map[1], offsets.length - 1)]!;
    if (end <= start) continue;
    if (type === "heading_open" && level === 0) {
      const title = plain(tokens[index + 1]?.content ?? "");
      blocks.push({ kind: "heading", level: Number(token.tag.slice(1)), title, start, end });
    } else {
      blocks.push({ kind: kind === "paragraph" && itemDepth > 0 ? "list" : kind, start, end });
    }
  }
  return blocks;
}

/** A heading's words without the marks that one meets in headings. */
const plain = (inline: string): string =>
  oneLine(
    inline
      .slice(0, 1_000)
      .replace(/!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])?/g, "$1")
      .replace(/[`*]+|<[^>]*>/g, "")
      .replace(/\\([!-/:-@[-`{-~])/g, "$1"),
  );

/** What Markdown doesn't show, such as definitions of links, is text too. */
function withGaps(text: string, blocks: Block[]): Block[] {
  const whole: Block[] = [];
  let at = 0;
  for (const block of blocks) {
    if (block.start > at) for (const gap of paragraphsOf(text, at, block.start)) whole.push(gap);
    whole.push(block);
    at = block.end;
  }
  for (const gap of paragraphsOf(text, at, text.length)) whole.push(gap);
  return whole;
}
