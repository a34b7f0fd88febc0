/** Counts tokens where the provider gave no usage. */

/** Characters counted at once: the tokenizer is quadratic in the length of a word. */
const pieceChars = 400;

type Tokenizer = typeof import("gpt-tokenizer/encoding/o200k_base");
let tokenizer: Tokenizer | undefined;

/** Tokens of `text` in OpenAI's current encoding (o200k); for other models' text that is an estimate. */
export function countTokens(text: string): number {
  tokenizer ??= require("gpt-tokenizer/encoding/o200k_base") as Tokenizer;
  let tokens = 0;
  for (let start = 0; start < text.length; ) {
    let end = Math.min(start + pieceChars, text.length);
    if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end--;
    tokens += tokenizer.countTokens(text.slice(start, end), { disallowedSpecial: new Set() });
    start = end;
  }
  return tokens;
}

const isHighSurrogate = (code: number): boolean => (code & 0xfc00) === 0xd800;
