/**
 * Whether what was found bears on a message. A search always finds something: most questions share a word with some
 * text. What isn't relevant isn't cited, so there may be nothing. Measured by `bun bench/main.ts retrieval`.
 */
import { namesIn } from "../search/names.ts";
import { stemOf } from "../search/terms.ts";
import { cutWords } from "../search/words.ts";
import type { FoundPassage } from "../storage/document-store.ts";
import type { RecalledMessage } from "../storage/memory-store.ts";

/** The best passage must account for so much of the question, or nothing was found. */
export const coverageMin = 0.5;
/** The same where the question names something that no passage mentions: it may be what all of the documents are about. */
const coverageOfUnknownMin = 0.9;
/** Passages that account for less than this part of what the best one does are left out beside it. */
const shareOfBest = 0.5;
/** Messages take part in a prompt for less: they are short, and aren't cited. */
const recallCoverageMin = 0.18;

/**
 * The passages that bear on a message: only these are cited.
 * @param found best first
 * @param byWords whether they were found by words alone: only then their scores say how far one is behind another
 */
export function relevantPassages(
  message: string,
  found: readonly FoundPassage[],
  byWords: boolean,
): FoundPassage[] {
  if (found.length === 0) return [];
  const best = Math.max(0, ...found.map(({ coverage }) => coverage));
  const bestMin = asksAboutUnknown(message, found) ? coverageOfUnknownMin : coverageMin;
  if (best < bestMin) return [];
  const scoreMin = byWords ? found[0]!.score * shareOfBest : 0;
  return found.filter(({ coverage, score }) => coverage >= best * shareOfBest && score >= scoreMin);
}

/** The earlier messages that bear on a message. @param found best first */
export const relevantMessages = (found: readonly RecalledMessage[]): RecalledMessage[] =>
  found.filter(({ coverage }) => coverage >= recallCoverageMin);

/**
 * Whether a message asks about somebody or something that none of the passages mentions: the opening hours of one museum
 * are no answer about another's.
 */
function asksAboutUnknown(message: string, found: readonly FoundPassage[]): boolean {
  const names = namesIn(message);
  if (names.length === 0) return false;
  const words = cutWords(found.map(({ name, heading, quote }) => `${name} ${heading} ${quote}`).join(" "));
  const mentioned = new Set(words.split(" ").flatMap((word) => [word, stemOf(word)]));
  return names.some((name) => !mentioned.has(name) && !mentioned.has(stemOf(name)));
}
