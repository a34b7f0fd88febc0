/** From a question to the terms that are looked for: its words without the small ones, each with its stem. */
import { stemmer } from "stemmer";
import { deu, eng, fra, ita, jpn, nld, por, spa, zho } from "stopword";

/** A question's terms at most: more tell no more, and each costs a look-up. */
const termsMax = 24;

/** Small words that the lists don't have: forms of theirs, what questions begin with, greetings. */
const missingWords = `
does doing done having doesn didn don isn aren wasn won shall whose whom when why its she us hers ours yours theirs ll re ve
just let say said please tell know want need show give explain mean means talk talked mention mentioned help helpful anyone someone somebody anybody
get gets got getting cannot may lot lots really often always ever again already yet maybe actually currently today
thing things something anything everything hello hi hey thank thanks welcome goodbye bye ok okay yes yeah sure
yesterday tomorrow tonight gestern heute
bitte sag weißt mache wieviel danke hallo guten gibts unseren
combien peut peux pouvez puis faut doit dois quand comment pourquoi quoi ça fait salut bonjour merci quelqu chez
cuánto cuánta cuántos cuántas quiénes cuáles puedo puede pueden tengo tiene hay debo debe hola gracias mis nuestra nuestro
quali posso può devo deve ciao grazie quantos onde pode olá obrigado tenho hoeveel waar wanneer waarom welke
怎么 多少 多少钱 什么时候 可以 应该 请问 没有 哪里 哪个 为什么 どう って です 何 いくら いつ どこ 誰 どの どれ ます ました てい`;

const smallWords = new Set(
  [eng, deu, fra, spa, ita, por, nld, zho, jpn]
    .flat()
    .concat(missingWords.trim().split(/\s+/))
    // As `cutWords` leaves them.
    .map((word) =>
      word
        .toLowerCase()
        .normalize("NFKD")
        .replace(/[\u0300-\u036f]/g, "")
        .normalize("NFC"),
    ),
);

/** Whether a word tells nothing of what a text is about. @param word as `cutWords` gives it */
export const isSmall = (word: string): boolean => smallWords.has(word);

/** One thing to look for: a word or anything else of the same stem. */
export interface Term {
  word: string;
  stem: string;
  /** It tells nothing of what a text is about: there was nothing else in the question. */
  small: boolean;
}

const stemmable = /^[a-z]{3,40}$/;

/**
 * The stem of a word (Porter, "An algorithm for suffix stripping", 1980), which conflates much of other European
 * languages' inflection too; words of other scripts are their own stems. Porter writes `deploi` for deploying and
 * `deploy` for deployment, so a last i is y here.
 */
export const stemOf = (word: string): string =>
  stemmable.test(word) ? stemmer(word).replace(/i$/, "y") : word;

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

/**
 * The terms of a question.
 * @param words as `cutWords` gives them
 * Where there are only small words, all of them are terms, so that "who is who" can be looked for.
 */
export function termsOf(words: string): Term[] {
  const all = [...new Set(words === "" ? [] : words.split(" "))];
  const telling = all.filter((word) => !isSmall(word));
  const terms = new Map<string, Term>();
  const small = telling.length === 0;
  for (const word of small ? all : telling) {
    const stem = stemOf(word);
    if (!terms.has(stem)) terms.set(stem, { word, stem, small });
    if (terms.size === termsMax) break;
  }
  return [...terms.values()];
}
