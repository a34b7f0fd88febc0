/** What the bench's model says: known to the model server, which writes it, and to the client, which checks it. */
export interface ReplyShape {
  tokens: number;
  /** Milliseconds between tokens; 0 sends all of them in one write. */
  everyMs: number;
}

export const burst: ReplyShape = { tokens: 64, everyMs: 0 };
export const paced: ReplyShape = { tokens: 64, everyMs: 30 };

const words = [
  " the",
  " turn",
  " is",
  " a",
  " resource",
  ",",
  " a",
  " connection",
  " only",
  " watches",
  " it",
  ".\n",
];

export const tokensOf = ({ tokens }: ReplyShape): string[] =>
  Array.from({ length: tokens }, (_, index) => words[index % words.length]!);

export const textOf = (shape: ReplyShape): string => tokensOf(shape).join("");

/** The path whose PUT tells the model server to answer in this shape from now on, such as `/64x30`. */
export const pathOf = ({ tokens, everyMs }: ReplyShape): string => `/${tokens}x${everyMs}`;

/** The shape that such a path names. */
export function shapeOf(path: string): ReplyShape | null {
  const [, tokens, everyMs] = /^\/(\d{1,4})x(\d{1,5})$/.exec(path) ?? [];
  return tokens === undefined ? null : { tokens: Number(tokens), everyMs: Number(everyMs) };
}
