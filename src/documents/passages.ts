/** Passages: the parts of a document that are searched, quoted, and put into prompts. */
import { countTokens } from "../models/tokens.ts";
import { type Cut, cut, nextCut, type Span, trimmed } from "./cuts.ts";
import type { Block, Structured } from "./structure.ts";

/** A part of a document's text. Its quote is `text.slice(start, end)`, which is neither empty nor begins or ends blank. */
export interface Passage {
  readonly start: number;
  readonly end: number;
  /** The headings that it stands under, from the highest, such as `Guide > Install > Linux`; may be empty. */
  readonly heading: string;
  /** From 1; null where the document has no pages. */
  readonly page: number | null;
  /** Of its quote, as `countTokens` counts them. */
  readonly tokens: number;
}

/** Tokens of a passage: a few paragraphs, which is about as much as one question needs. */
export const passageTokensMax = 256;

const firstCut: Record<Block["kind"], Cut> = {
  heading: "sentence",
  paragraph: "sentence",
  list: "line",
  table: "line",
  code: "line",
};

/** Of a long heading in a heading path. */
const titleCharsMax = 120;

/**
 * Passages of at most `tokensMax` tokens, in order, that don't overlap and together hold all of the text but blanks.
 * They follow the structure: a heading starts a passage, a passage is on one page, and a block that fits into a
 * passage isn't divided. Longer ones are cut between
 * lines (lists, tables, code) or sentences, else words, else characters.
 * @param tokensMax at least 8
 */
export function toPassages({ text, blocks }: Structured, { tokensMax }: { tokensMax: number }): Passage[] {
  const packer = new Packer(text, tokensMax);
  for (const block of blocks) packer.add(block);
  return packer.finish();
}

class Packer {
  readonly #passages: Passage[] = [];
  /** What the next passage is made of so far, and the sum of its tokens. */
  #parts: Span[] = [];
  #tokens = 0;
  #page: number | null = null;
  #heading = "";
  /** Whether it is only headings, which belong to what follows. */
  #isHeadings = true;
  /** The headings that the block at hand stands under. */
  readonly #path: { level: number; title: string }[] = [];

  constructor(
    readonly text: string,
    readonly tokensMax: number,
  ) {}

  add(block: Block): void {
    const page = block.page ?? null;
    const isHeading = block.kind === "heading";
    if (page !== this.#page || (isHeading && !this.#isHeadings)) this.#close();
    this.#page = page;
    if (isHeading) this.#enter(block.level, block.title);
    // Rather than leaving its heading alone, a block is divided.
    const divides = !isHeading && this.#isHeadings;
    this.#pack(block, firstCut[block.kind], divides);
    if (!isHeading) this.#isHeadings = false;
  }

  finish(): Passage[] {
    this.#close();
    return this.#passages;
  }

  #enter(level: number, title: string): void {
    while (this.#path.length > 0 && this.#path.at(-1)!.level >= level) this.#path.pop();
    this.#path.push({ level, title: shortened(title) });
  }

  /** Adds a span to the passage at hand, else begins the next one with it, else divides it. */
  #pack(span: Span, where: Cut, divides: boolean): void {
    const { start, end } = trimmed(this.text, span);
    if (start === end) return;
    const last = this.#parts.at(-1);
    if (last !== undefined) {
      const tokens = this.#tokens + this.#count(last.end, end);
      if (tokens <= this.tokensMax) {
        this.#push({ start, end }, tokens);
        return;
      }
    }
    const tokens = this.#count(start, end);
    if (tokens > this.tokensMax || (divides && last !== undefined)) {
      for (const part of cut(this.text, { start, end }, where, this.tokensMax)) {
        this.#pack(part, nextCut[where], false);
      }
    } else {
      this.#close();
      this.#push({ start, end }, tokens);
    }
  }

  #push(part: Span, tokens: number): void {
    this.#parts.push(part);
    this.#tokens = tokens;
    this.#heading = this.#path.map(({ title }) => title).join(" > ");
  }

  /** Makes a passage of the parts, or several where they have more tokens together than one by one. */
  #close(): void {
    while (this.#parts.length > 0) {
      const { start } = this.#parts[0]!;
      let count = this.#parts.length;
      let tokens = this.#count(start, this.#parts[count - 1]!.end);
      while (tokens > this.tokensMax && count > 1) tokens = this.#count(start, this.#parts[--count - 1]!.end);
      const { end } = this.#parts[count - 1]!;
      this.#passages.push({ start, end, heading: this.#heading, page: this.#page, tokens });
      this.#parts.splice(0, count);
    }
    this.#tokens = 0;
    this.#isHeadings = true;
  }

  #count(start: number, end: number): number {
    return countTokens(this.text.slice(start, end));
  }
}

const shortened = (title: string): string =>
  title.length <= titleCharsMax ? title : `${title.slice(0, titleCharsMax - 1).toWellFormed()}…`;
