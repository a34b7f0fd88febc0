/** From a question to the terms that are looked for: its words without the small ones, each with its stem. */
import { stemmer } from "stemmer";
import { deu, eng, fra, ita, jpn, nld, por, spa, zho } from "stopword";

/** A question's terms at most: more tell no more, and each costs a look-up. */
const termsMax = 24;

/** Small words that the lists don't have: forms of theirs, and what questions begin with. */
const missingWords =
  "does doing done having doesn didn don isn aren wasn won shall whose whom when why its she us hers ours yours theirs " +
  "just let say said please tell know want need bitte sag weißt";

const smallWords = new Set(
  [eng, deu, fra, spa, ita, por, nld, zho, jpn]
    .flat()
    .concat(missingWords.split(" "))
    // As `cutWords` leaves them.
    .map((word) =>
      word
        .toLowerCase()
        .normalize("NFKD")
        .replace(/[\u0300-\u036f]/g, ""),
    ),
);

/** One thing to look for: a word or anything else of the same stem. */
export interface Term {
  word: string;
  stem: string;
  /** It tells nothing of what a text is about: there was nothing else in the question. */
  small: boolean;
}

/** Most of what is written is the same few words again. */
const knownStems = new Map<string, string>();
const stemsKnownMax = 20_000;

const stemmable = /^[a-z]{3,40}$/;

/**
 * The stem of a word (Porter, "An algorithm for suffix stripping", 1980), which conflates much of other European
 * languages' inflection too; words of other scripts are their own stems. Porter writes `deploi` for deploying and
 * `deploy` for deployment, so a last i is y here.
 */
export function stemOf(word: string): string {
  if (!stemmable.test(word)) return word;
  let stem = knownStems.get(word);
  if (stem === undefined) {
    stem = stemmer(word).replace(/i$/, "y");
    if (knownStems.size === stemsKnownMax) knownStems.clear();
    knownStems.set(word, stem);
  }
  return stem;
}

/** The stems of words that differ from them, in order: what an index holds beside the words themselves. */
export function stemsOf(words: string): string {
  if (words === "") return "";
  const stems: string[] = [];
  for (const word of words.split(" ")) {
    const stem = stemOf(word);
    if (stem !== word) stems.push(stem);
  }
  return stems.join(" ");
}

/** The stems of the words that tell something, in order. @param words separated by single spaces */
export const tellingStems = (words: string): string =>
  words
    .split(" ")
    .filter((word) => !smallWords.has(word))
    .map(stemOf)
    .join(" ");

/**
 * The terms of a question.
 * @param words as `cutWords` gives them
 * Where there are only small words, all of them are terms, so that "who is who" can be looked for.
 */
export function termsOf(words: string): Term[] {
  const all = [...new Set(words === "" ? [] : words.split(" "))];
  const telling = all.filter((word) => !smallWords.has(word));
  const terms = new Map<string, Term>();
  const small = telling.length === 0;
  for (const word of small ? all : telling) {
    const stem = stemOf(word);
    if (!terms.has(stem)) terms.set(stem, { word, stem, small });
    if (terms.size === termsMax) break;
  }
  return [...terms.values()];
}
