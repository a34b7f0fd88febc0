import { describe, expect, test } from "bun:test";
import { countTokens as countWhole } from "gpt-tokenizer/encoding/o200k_base";
import { countTokens } from "../../src/models/tokens.ts";

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

/** A small generator of its own (mulberry32), so that a printed seed repeats a run. */
function random(from: number): () => number {
  let state = from;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

const exactly = (text: string): number => countWhole(text, { disallowedSpecial: new Set() });

const longest = 32_000;
const repeat = (text: string): string => text.repeat(Math.ceil(longest / text.length)).slice(0, longest);
const letters = "abcdefghijklmnopqrstuvwxyz";

describe("counting tokens", () => {
  test.each([
    ["", 0],
    ["a", 1],
    ["hello world", 2],
    ["Hello, world!", 4],
    ["The quick brown fox jumps over the lazy dog.", 10],
    ["tokenization", 2],
    ["antidisestablishmentarianism", 6],
    ["1234567890", 4],
    ["こんにちは世界", 2],
    ["👍🏽", 3],
    ["a\n\n\nb", 3],
  ])("knows that %j has %i tokens", (text, tokens) => {
    expect(countTokens(text)).toBe(tokens);
    expect(exactly(text)).toBe(tokens);
  });

  test("agrees with the tokenizer library on ordinary text, piece boundaries included", async () => {
    const licence = await Bun.file(new URL("../../node_modules/openai/README.md", import.meta.url)).text();
    const text = licence.slice(0, longest);
    expect(text.length).toBeGreaterThan(10_000);
    expect(Math.abs(countTokens(text) / exactly(text) - 1)).toBeLessThan(0.001);
  });

  test("agrees with the tokenizer library on random words of any script", () => {
    console.log(`SEED=${seed}`);
    const next = random(seed);
    const alphabets = [
      letters,
      "ABCxyz09 '",
      "абвгдеё",
      "漢字仮名交文",
      "กขคงจ",
      "🙂👩‍👩‍👧🏽",
      " \t\n\r.,;!?",
      "\0\ufffd\u0301é",
    ];
    for (let round = 0; round < 2000; round++) {
      const alphabet = [...alphabets[Math.floor(next() * alphabets.length)]!];
      // Short enough that no word is cut.
      const length = 1 + Math.floor(next() * 15);
      const text = Array.from({ length }, () => alphabet[Math.floor(next() * alphabet.length)]).join("");
      expect({ text, tokens: countTokens(text) }).toEqual({ text, tokens: exactly(text) });
    }
  });

  test("agrees with the tokenizer library on words that are in no vocabulary", () => {
    const next = random(seed);
    for (let word = 0; word < 3000; word++) {
      const text = Array.from({ length: 30 }, () => letters[Math.floor(next() * 26)]).join("");
      expect({ text, tokens: countTokens(text) }).toEqual({ text, tokens: exactly(text) });
    }
  });

  test("cuts words of more than 64 bytes, between characters", () => {
    const next = random(seed);
    for (let word = 0; word < 300; word++) {
      const part = (chars: number) =>
        Array.from({ length: chars }, () => String.fromCharCode(0x4e00 + next() * 20_000)).join("");
      // 21 ideographs are 63 bytes.
      const [first, second] = [part(21), part(15)];
      expect(countTokens(first + second)).toBe(exactly(first) + exactly(second));
    }
  });

  test("takes special tokens for the text they are", () => {
    for (const special of ["<|endoftext|>", "<|endofprompt|>", "<|im_start|>", "<|fim_prefix|>"]) {
      expect(countTokens(special)).toBeGreaterThan(3);
      expect(countTokens(`a ${special} b`)).toBeGreaterThan(5);
    }
  });

  test("takes lone surrogates and NUL", () => {
    expect(countTokens("\ud800")).toBeGreaterThan(0);
    expect(countTokens("a\udc00b\0c")).toBeGreaterThan(3);
  });

  test("never cuts inside a surrogate pair", () => {
    // Every offset of the pair relative to the ends of the pieces.
    for (let before = 398; before <= 401; before++) {
      const text = `${"x".repeat(before)}😀${"y".repeat(10)}`;
      expect(countTokens(text)).toBeLessThanOrEqual(exactly(text) + 8);
      expect(countTokens(text)).toBeGreaterThanOrEqual(exactly(text));
    }
  });

  test("is right within 3 % for the longest messages of hard text", () => {
    const next = random(seed);
    const pick = (from: number, count: number) => String.fromCodePoint(from + Math.floor(next() * count));
    const some = (from: number, count: number, chars: number) =>
      Array.from({ length: chars }, () => pick(from, count)).join("");
    for (const text of [
      some(0x61, 26, longest),
      some(0x4e00, 20_000, longest),
      some(0x1f300, 0x300, longest / 2),
      repeat("今天天气非常好，我们一起去公园散步吧。"),
      repeat("a"),
    ]) {
      // The library itself needs the text in parts, or it takes minutes.
      let expected = 0;
      for (let at = 0; at < text.length; at += 2000) expected += exactly(text.slice(at, at + 2000));
      expect(Math.abs(countTokens(text) / expected - 1)).toBeLessThan(0.03);
    }
  });

  test("does bounded work, however long the text and whatever is in it", () => {
    // Time of the CPU: a machine that is busy with other things changes nothing.
    const work = (text: string): number => {
      const works = Array.from({ length: 7 }, () => {
        const before = process.cpuUsage();
        countTokens(text);
        const { user, system } = process.cpuUsage(before);
        return user + system;
      });
      return Math.min(...works);
    };
    const next = random(seed);
    const letter = () => letters[Math.floor(next() * 26)]!;
    const ideograph = () => String.fromCharCode(0x4e00 + next() * 20_000);
    const hard = work(Array.from({ length: longest }, ideograph).join(""));
    for (const text of [
      repeat("a"),
      repeat("<|endoftext|>"),
      repeat("漢"),
      repeat("😀"),
      repeat("7"),
      repeat(" "),
      repeat("\n "),
      Array.from({ length: longest }, letter).join(""),
    ]) {
      // A ratio, with room for what the runtime does beside: work that grows with the square would be hundreds of times more.
      expect(work(text)).toBeLessThan(hard * 6);
    }
    // Ten times the length is not ten times the work.
    for (const text of ["漢字", "abcdefghij", "lorem ipsum dolor ", " "]) {
      const long = text.repeat(100_000 / text.length);
      expect(work(long.repeat(10))).toBeLessThan(work(long) * 4);
    }
  });
});
