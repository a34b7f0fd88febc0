/** Counts tokens: for the prompt's budget, and for usage where the provider gave none. */
import { readFileSync } from "node:fs";
import vocabularyPath from "gpt-tokenizer/data/o200k_base.tiktoken" with { type: "file" };
import { O200K_TOKEN_SPLIT_REGEX } from "gpt-tokenizer/encodingParams/constants";
import { BytePairs } from "./byte-pairs.ts";

/** Characters that are split into words at once: the pattern backtracks over long runs. */
const pieceCharsMax = 400;

/** UTF-8 bytes that are counted; of a longer text, evenly spread pieces stand for the rest. */
const countedBytesMax = 40_000;

const encoder = new TextEncoder();
const wordBytes = new Uint8Array(pieceCharsMax * 3);
let vocabulary: BytePairs | undefined;

/** Reads the vocabulary, which blocks for about 50 ms; without this the first count does. */
export function loadTokenizer(): void {
  vocabulary ??= new BytePairs(readFileSync(vocabularyPath));
}

/**
 * Tokens of `text` in OpenAI's current encoding, o200k; for other makers' models that is an estimate. Special
 * tokens such as `<|endoftext|>` count as the text they are.
 *
 * At most 10 ms, whatever is in the text and however long it is. For that, runs without a word break are cut after
 * 400 characters or 64 bytes, which can add a token a cut, and of more than 40,000 bytes of UTF-8 (32,000 characters
 * of English are less, 14,000 of Chinese are more) every second, third, ... piece is counted and the rest inferred.
 */
export function countTokens(text: string): number {
  loadTokenizer();
  const stride = Math.ceil(Buffer.byteLength(text) / countedBytesMax);
  let tokens = 0;
  let countedChars = 0;
  for (let start = 0; start < text.length; ) {
    const end = pieceEnd(text, start);
    tokens += countPiece(text.slice(start, end));
    countedChars += end - start;
    start = stride === 1 ? end : pieceEnd(text, end + (stride - 2) * pieceCharsMax);
  }
  return countedChars === text.length ? tokens : Math.round((tokens * text.length) / countedChars);
}

function countPiece(piece: string): number {
  let tokens = 0;
  for (const word of piece.match(O200K_TOKEN_SPLIT_REGEX) ?? []) {
    const { written } = encoder.encodeInto(word, wordBytes);
    tokens += vocabulary!.count(wordBytes, written);
  }
  return tokens;
}

/** The end of the piece that starts at `start`: before the last lone space in reach, where a word ends anyway. */
function pieceEnd(text: string, start: number): number {
  const limit = start + pieceCharsMax;
  if (limit >= text.length) return text.length;
  for (let at = limit; at > start; at--) {
    if (text[at] === " " && /\S/.test(text[at - 1]!) && /\S/.test(text[at + 1] ?? "")) return at;
  }
  return (text.charCodeAt(limit - 1) & 0xfc00) === 0xd800 ? limit - 1 : limit;
}
