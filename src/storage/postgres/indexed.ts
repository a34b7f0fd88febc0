/** What stands of a text in the full-text indexes, without the code of its scope, which the database puts before it. */
import { stemmed, stemsOf } from "../../search/terms.ts";
import { cutWords } from "../../search/words.ts";

/** A lexeme has room for 2,046 bytes with its code; more is spoilt without a word. Few words are longer than this. */
const wordCharsMax = 200;
/**
 * The lexemes of a text have room for a megabyte, where a message's words stand twice, in UTF-8 and with codes. Of a text
 * with more different words the first are found.
 */
const wordsMax = 10_000;
const charsMax = 120_000;

/**
 * The words of a passage and of its heading, and their stems: what `index_passage` takes. In the statement that inserts
 * passages:
 * `select index_passage(p.n, p.revision_n, <words>) from <the inserted rows> p`
 */
export function passageLexemes(heading: string, text: string): string {
  const words = `${cutWords(heading)} ${cutWords(text)}`.trim();
  return distinct(`${words} ${stemsOf(words)}`.trim());
}

/** The words of a message, and their stems: what `index_message` takes. */
export function messageLexemes(content: string): { words: string; terms: string } {
  const words = cutWords(content);
  return { words: distinct(words), terms: distinct(stemmed(words)) };
}

/** The words of a title: what `index_title` takes. */
export const titleLexemes = (title: string | null): string => distinct(cutWords(title ?? ""));

/** Words as the index has them, separated by single spaces. */
function distinct(words: string): string {
  const all = new Set<string>();
  let chars = 0;
  for (const each of words.split(" ")) {
    const word = indexedWord(each);
    if (all.has(word)) continue;
    chars += word.length;
    if (all.size === wordsMax || chars > charsMax) break;
    all.add(word);
  }
  return [...all].join(" ");
}

/** A word as the indexes have it. */
export const indexedWord = (word: string): string =>
  word.length > wordCharsMax ? word.slice(0, wordCharsMax).toWellFormed() : word;
