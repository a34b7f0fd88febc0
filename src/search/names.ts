/** The names in a question: what a text has to mention to be about it, however much else of the question it holds. */
import { deu, eng, fra, ita, nld, por, spa } from "stopword";
import { cutWords } from "./words.ts";

/** Longer messages tell more than they ask: a name in them may be anyone's. */
const wordsMax = 20;
/** Shorter ones are abbreviations, which texts often write out. */
const nameCharsMin = 4;
/** Where more of the words are capitalised, that says nothing. */
const capitalisedMax = 0.5;

const word = /[\p{L}\p{M}\p{N}]+/gu;
const name = /^\p{Lu}[\p{Lu}\p{Ll}\p{M}]+$/u;
/** E12, B52 */
const code = /^\p{Lu}{1,4}\d+$/u;
/** Texts tell these in figures, messages by when they were written. */
const dates = new Set(
  (
    "january february march april may june july august september october november december " +
    "monday tuesday wednesday thursday friday saturday sunday christmas easter"
  ).split(" "),
);

const otherLanguages = [eng, fra, spa, ita, por, nld].map((list) => new Set(list));
const german = new Set(deu);

/**
 * The names that a question of one sentence asks about, as `cutWords` leaves them. A name is told by its capital letter,
 * so there are none in languages without, in German, which has one in every noun, and in what is typed without.
 */
export function namesIn(question: string): string[] {
  const sentence = question.trim();
  const words = sentence.match(word) ?? [];
  if (words.length > wordsMax || /[.!?\n:;]\s*\S/u.test(sentence) || isGerman(words)) return [];
  // The first word has a capital letter anyway.
  const others = words.slice(1).filter((each) => each !== "I");
  const capitalised = others.filter((each) => /^\p{Lu}/u.test(each)).length;
  if (capitalised > others.length * capitalisedMax) return [];
  return others
    .filter((each) => (name.test(each) && each.length >= nameCharsMin) || code.test(each))
    .map(cutWords)
    .filter((each) => !dates.has(each));
}

function isGerman(words: readonly string[]): boolean {
  const lowerCase = words.map((each) => each.toLowerCase());
  const countIn = (list: ReadonlySet<string>): number => lowerCase.filter((each) => list.has(each)).length;
  const count = countIn(german);
  return count > 0 && otherLanguages.every((list) => count >= countIn(list));
}
