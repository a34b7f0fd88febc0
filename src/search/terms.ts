/** From a question to the terms that are looked for: its words without the small ones, each with its stem. */
import { stemmer } from "stemmer";
import { deu, eng, fra, ita, jpn, nld, por, spa, zho } from "stopword";

/** A question's terms at most: more tell no more, and each costs a look-up. */
const termsMax = 24;

/** The lists of small words, and what is missing in them: forms of theirs, what questions begin with, greetings. */
const lists: readonly [list: readonly string[], missing: string][] = [
  [
    eng,
    `does doing done having doesn didn don isn aren wasn won shall whose whom when why its she us hers ours yours theirs s t m d ll re ve
    just let say said please tell know want need show give explain mean means talk talked mention mentioned help helpful
    anyone someone somebody anybody thing things something anything everything get gets got getting cannot may lot lots
    really often always ever again already yet maybe actually currently yesterday today tonight tomorrow
    hello hi hey thank thanks welcome goodbye bye ok okay yes yeah sure`,
  ],
  [deu, "bitte sag weißt mache wieviel danke hallo guten gibts unseren gestern heute ok okay"],
  [
    fra,
    "c d j l m n s t qu combien peut peux pouvez puis faut doit dois quand comment pourquoi quoi ça fait salut bonjour merci quelqu chez",
  ],
  [
    spa,
    "cuánto cuánta cuántos cuántas quiénes cuáles puedo puede pueden tengo tiene hay debo debe hola gracias mis nuestra nuestro",
  ],
  [ita, "quali posso può devo deve ciao grazie"],
  [por, "quantos onde posso pode devo deve olá obrigado tenho"],
  [nld, "hoeveel hallo waar wanneer waarom welke"],
  [zho, "怎么 多少 多少钱 什么时候 可以 应该 请问 没有 哪里 哪个 为什么 你好 谢谢"],
  [jpn, "どう って です 何 いくら いつ どこ 誰 どの どれ ます ました てい"],
];

const english = 0;
const smallWords = lists.map(
  ([list, missing]) =>
    new Set(
      [...list, ...missing.trim().split(/\s+/)]
        // As `cutWords` leaves them.
        .map((word) =>
          word
            .toLowerCase()
            .normalize("NFKD")
            .replace(/[\u0300-\u036f]/g, "")
            .normalize("NFC"),
        ),
    ),
);

/**
 * The small words of a question's own language: those that tell nothing of what a text is about. It is the language
 * that most of its words are small in, since what is small in one is telling in another: car, son, die, Mia.
 * @param words as `cutWords` gives them
 */
function smallWordsOf(words: readonly string[]): ReadonlySet<string> {
  const small = smallWords.map((list) => words.filter((word) => list.has(word)));
  const most = Math.max(...small.map(({ length }) => length));
  const enough = (count: number, language: number): boolean =>
    count === most && (language === english || count > 1 || 2 * count >= words.length);
  return new Set(small.flatMap((found, language) => (enough(found.length, language) ? found : [])));
}

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

/** The stem of each word, in order. @param words separated by single spaces */
export const stemmed = (words: string): string => words.split(" ").map(stemOf).join(" ");

/**
 * The terms of a question.
 * @param words as `cutWords` gives them
 * Where there are only small words, all of them are terms, so that "who is who" can be looked for.
 */
export function termsOf(words: string): Term[] {
  const all = [...new Set(words === "" ? [] : words.split(" "))];
  const smallOnes = smallWordsOf(all);
  const telling = all.filter((word) => !smallOnes.has(word));
  const terms = new Map<string, Term>();
  const small = telling.length === 0;
  for (const word of small ? all : telling) {
    const stem = stemOf(word);
    if (!terms.has(stem)) terms.set(stem, { word, stem, small });
    if (terms.size === termsMax) break;
  }
  return [...terms.values()];
}
