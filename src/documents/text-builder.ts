/** Makes the text of a document from its blocks, for formats whose source isn't text that one would quote. */
import { textTooLong } from "./refusals.ts";
import type { Block, Structured } from "./structure.ts";

/** Pieces that are joined at once: a string each would cost several times the memory of the text. */
const piecesMax = 4_096;

export class TextBuilder {
  readonly #blocks: Block[] = [];
  readonly #joined: string[] = [];
  #pieces: string[] = [];
  #length = 0;
  /** The page that the next blocks are on; null where there are no pages. */
  page: number | null = null;

  /** @param charsMax UTF-16 code units that the text may have */
  constructor(readonly charsMax: number) {}

  /** Whether nothing was added yet. */
  get isEmpty(): boolean {
    return this.#length === 0;
  }

  /** Adds a heading. Blank text is left out, here as below. @throws payload_too_large */
  heading(level: number, text: string): void {
    const title = oneLine(text);
    if (title === "") return;
    const start = this.#append("\n\n", title);
    this.#blocks.push({ kind: "heading", level, title, start, end: this.#length, ...this.#onPage() });
  }

  /** Adds a block of its own. @throws payload_too_large */
  block(kind: "paragraph" | "code", text: string): void {
    if (text.trim() === "") return;
    const start = this.#append("\n\n", text);
    this.#blocks.push({ kind, start, end: this.#length, ...this.#onPage() });
  }

  /** Adds a line to the list or table at hand, or begins one with it. @throws payload_too_large */
  line(kind: "list" | "table", text: string): void {
    if (text.trim() === "") return;
    const last = this.#blocks.at(-1);
    const goesOn = last?.kind === kind && last.page === this.#onPage().page;
    const start = this.#append(goesOn ? "\n" : "\n\n", text);
    if (goesOn) this.#blocks.pop();
    this.#blocks.push({ kind, start: goesOn ? last.start : start, end: this.#length, ...this.#onPage() });
  }

  finish(): Structured {
    return { text: this.#joined.join("") + this.#pieces.join(""), blocks: this.#blocks };
  }

  /** Where the text starts. */
  #append(separator: string, text: string): number {
    const start = this.isEmpty ? 0 : this.#length + separator.length;
    if (start + text.length > this.charsMax) throw textTooLong(this.charsMax);
    if (this.#pieces.push(this.isEmpty ? "" : separator, text) > piecesMax) {
      this.#joined.push(this.#pieces.join(""));
      this.#pieces = [];
    }
    this.#length = start + text.length;
    return start;
  }

  #onPage(): { page?: number } {
    return this.page === null ? {} : { page: this.page };
  }
}

/** A text as one line: runs of white space become a space each. */
export const oneLine = (text: string): string => text.replace(/\s+/g, " ").trim();
