/**
 * Texts that make a regular expression slow: what is done with a message in the service's own thread costs at most in
 * proportion to its length. Measured is processor time, at a length and at eight times that; who is quadratic takes 64
 * times as long then.
 */
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { titleFrom } from "../../src/conversations/title.ts";
import { documentName } from "../../src/documents/name.ts";
import { slotOf } from "../../src/memory/fact.ts";
import { factsIn } from "../../src/memory/patterns.ts";
import { countTokens } from "../../src/models/tokens.ts";
import { termsOf } from "../../src/search/terms.ts";
import { cutWords } from "../../src/search/words.ts";

setDefaultTimeout(60_000);

/** `PARLEY_MESSAGE_CHARS_MAX`, and an eighth of it. */
const [short, long] = [4_000, 32_000];
/** Between the 8 of what is linear and the 64 of what is quadratic, with room for collecting garbage. */
const ratioMax = 32;
/** What takes less holds up nobody, whatever its growth. */
const harmlessMs = 50;

const units = [
  ...'a \n.!?`"„’-_>(,;\\@0é漢\u0301\ufffc',
  ...["``` ", "~~~\n", '"a ', "- ", "1. ", "A. ", "dr. ", "a.b", "Aa ", "😀", "ﷺ"],
  ...["i am ", "I'm , ", "my name is ", "my dog is ", "please ", "always ", "and ", "well, ", "if ", "says "],
  ...["not ", "currently ", "remember that ", "ich bin ", "nenn mich ", "<|endoftext|>"],
];
const frames = [
  ["", ""],
  ["My name is ", " x,"],
  ["Please remember that my ", "!x"],
] as const;

/** Texts of any length. */
const texts = frames.flatMap(([head, tail]) =>
  units.map((unit) => ({ name: JSON.stringify(head + unit), head, unit, tail })),
);

/** Processor time of this process, in milliseconds; of what seems slow the less of two runs. */
function costOf(work: (text: string) => unknown, text: string): number {
  const once = (): number => {
    const before = process.cpuUsage();
    work(text);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  };
  const cost = once();
  return cost < harmlessMs ? cost : Math.min(cost, once());
}

/** What grows faster than it may, with its costs. */
function slowOnes(work: (text: string) => unknown, of = texts): string[] {
  return of.flatMap(({ name, head, unit, tail }) => {
    const text = (length: number): string => head + unit.repeat(Math.ceil(length / unit.length)) + tail;
    const cost = costOf(work, text(long));
    if (cost < harmlessMs) return [];
    const base = Math.max(1, costOf(work, text(short)));
    return cost > ratioMax * base ? [`${name}: ${base} to ${cost} ms`] : [];
  });
}

const nameOr = (name: string): string | null => {
  try {
    return documentName(name);
  } catch {
    // Most are too long to be one.
    return null;
  }
};

beforeAll(() => void countTokens("The tokenizer is loaded."));

describe("costs in proportion to its length, at most", () => {
  test.each<[string, (text: string) => unknown]>([
    ["finding facts", factsIn],
    ["cutting words", cutWords],
    ["finding terms", (text) => termsOf(cutWords(text))],
    ["making a title", titleFrom],
    ["counting tokens", countTokens],
    ["naming a slot", slotOf],
    ["naming a document", nameOr],
  ])("%s", (_name, work) => {
    expect(slowOnes(work)).toEqual([]);
  });

  test("and whatever doesn't would be noticed", () => {
    expect(slowOnes((text) => /a+b/.test(text), texts.slice(0, 1))).not.toEqual([]);
  });
});
