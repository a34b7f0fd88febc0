/** What the patterns of all languages share. */
import type { Fact } from "../fact.ts";
import type { Statement } from "../statements.ts";

/** What of a fact isn't as usual. */
export type Made = Partial<Fact> & { text: string };

export const toFact = (made: Made): Fact => ({
  kind: "fact",
  slot: null,
  denies: null,
  supersedes: [],
  ...made,
});

/** What a pattern makes of a statement that it matches; null where a closer look says that it is none. */
export type Pattern = readonly [
  form: RegExp,
  make: (groups: Record<string, string | undefined>, statement: Statement) => Made | null,
];

/** The first pattern that makes a fact of a statement. */
export function firstOf(patterns: readonly Pattern[], statement: Statement): Fact | null {
  for (const [form, make] of patterns) {
    const match = form.exec(statement.text);
    const made = match && make(match.groups ?? {}, statement);
    if (made) return toFact(made);
  }
  return null;
}

/** The value that stands at the beginning of a text: up to where the sentence goes on. */
export const valueIn = (text: string): string =>
  text
    .split(
      /[,;:(–—]| - | (?:and|but|so|because|since|while|which|who|where|when|by the way|btw|though|und|aber|weil|seit|wo|übrigens)\b/i,
    )[0]!
    .trim();

const nameWord = /^\p{L}[\p{L}\p{M}'.-]{0,39}$/u;
const startsUpper = /^(?:\p{Lu}|\p{Lo})/u;
const nameWordsMax = 4;
/** Words that stand where a name might: "my name is important", "call me Monday". */
const notNames = new Set(
  (
    "a an the not in on at of to is it its that this these those what who very so too also just only important irrelevant " +
    "spelled misspelled spelt wrong correct missing unknown secret short long common rare tired sorry happy sad fine good " +
    "ok okay here back later tomorrow today tonight now maybe crazy when if as by with from looking trying going having " +
    "monday tuesday wednesday thursday friday saturday sunday nicht kein keine ein eine der die das egal wichtig falsch"
  ).split(" "),
);

/** A name, tidied; null where the words are none. @param upper whether it must begin with a capital */
export function nameIn(text: string, upper: boolean): string | null {
  const value = valueIn(text).replace(/[.!]+$/, "");
  const words = value.split(" ");
  const isName =
    words.length <= nameWordsMax &&
    words.every((word) => nameWord.test(word)) &&
    !notNames.has(words[0]!.toLowerCase()) &&
    (startsUpper.test(value) || (!upper && words.length <= 2));
  return isName ? value : null;
}

/** Whether what follows "I like" is a thing of this conversation and not of the user's life: "I like your answer". */
export const isOfTheMoment = (object: string): boolean =>
  /^(?:it|its|this|that|these|those|your?|him|her|them|how|what|when|where|why|if|to (?:know|see|ask|say|hear|get|have|be|try)|the (?:first|second|third|fourth|former|latter|last|other|one|idea|answer|version|option|way|result|text|tone|style|suggestion|plan|draft|new|rest|part|same)|das|dies\w*|es|dich|dir|euch|ihn|ihm|sie|ihr|deine?\w*|ihre?\w*|wie|was|wenn|dass|die (?:idee|antwort|erste|zweite|variante|version))\b/i.test(
    object,
  );

/** The sentence as the user said it, which also questions in its own words find. */
export const quotedFact = (statement: string): string => `The user said: “${statement}.”`;
