/** What a document becomes: its text, and the blocks that the text is made of. */

interface Span {
  /** Offsets into the text, in UTF-16 code units; the end is exclusive. */
  readonly start: number;
  readonly end: number;
  /** From 1, where the document has pages. */
  readonly page?: number;
}

interface Heading extends Span {
  readonly kind: "heading";
  /** 1 is the highest. */
  readonly level: number;
  /** The heading without marks such as `##`, in one line. */
  readonly title: string;
}

interface Content extends Span {
  /** Lists and tables have an item or a row a line, mostly. */
  readonly kind: "paragraph" | "list" | "table" | "code";
}

/** A part of a document's text, which may begin and end with blanks. */
export type Block = Heading | Content;

/** A text with its blocks, which are in order, don't overlap, and hold all of the text but blanks. */
export interface Structured {
  readonly text: string;
  readonly blocks: readonly Block[];
}
