/**
 * Ranking by BM25F (Robertson, Zaragoza and Taylor, "Simple BM25 extension to multiple weighted fields", CIKM 2004):
 * the words of a text, of its heading and of its neighbours are counted with different weights, then saturated
 * together. FTS5's own bm25() is not used: it counts every term over the whole table for each query, so that its cost
 * grows with everybody's texts, and it knows nothing of neighbours.
 */
import type { Term } from "./terms.ts";

/** What follows was chosen by `bun bench/main.ts retrieval`; small changes change little. */
const k1 = 1.2;
const b = 0.3;
/** A word that only begins like a term's (`Belegen` for `Beleg`, `certified` for `certificate`) counts so much. */
const alikeWeight = 0.3;
/** What a question asks counts up to so much: what is asked beside it needn't be held. */
const askedMax = 2.4;

/** How much a word counts where it isn't in the text itself. */
export interface FieldWeights {
  heading: number;
  context: number;
}

/** What is ranked. Its fields are words as the index holds them, separated and enclosed by single spaces. */
export interface Unit {
  words: string;
  /** Stems of words that differ from them. */
  stems: string;
  heading?: string;
  /** Words and stems of the neighbours. */
  context?: string;
}

/** A term with how telling it is: see `idf`. */
export interface WeightedTerm extends Term {
  idf: number;
}

export interface Ranked<Candidate> {
  candidate: Candidate;
  /** In units of a term that no other text holds, once. */
  score: number;
  /**
   * Which part of the question the text accounts for, 0 to 1: its score in relation to how telling the question's terms
   * are. Of a long question `askedMax` is enough, because long questions hold words that no answer repeats.
   */
  coverage: number;
}

/** Fewer texts than these say little about how telling a word is. */
const textsMin = 1_000;

/**
 * Inverse document frequency, never negative (Lucene's form), in relation to that of a term which one text holds: so it
 * is 1 for that, and compares between small collections and large ones.
 * @param holding how many of `total` texts hold the term
 */
export function idf(holding: number, total: number): number {
  const texts = Math.max(total, holding, textsMin);
  return idfAmong(texts, holding) / idfAmong(texts, 1);
}

const idfAmong = (texts: number, holding: number): number =>
  Math.log(1 + (texts - holding + 0.5) / (holding + 0.5));

/** Ranks units for a question, best first; those without any term are left out. */
export function rank<Candidate extends Unit>(
  terms: readonly WeightedTerm[],
  candidates: readonly Candidate[],
  weights: FieldWeights,
): Ranked<Candidate>[] {
  const meanLength = candidates.reduce((sum, { words }) => sum + words.length, 0) / candidates.length || 1;
  const asked = terms.reduce((sum, { idf, small }) => sum + (small ? 0 : idf), 0);
  const parts = terms.map((term) => ({ ...term, beginning: beginningOf(term.word) }));
  const ranked: Ranked<Candidate>[] = [];
  for (const candidate of candidates) {
    const lengthNorm = 1 - b + b * (candidate.words.length / meanLength);
    let score = 0;
    for (const { word, stem, idf, beginning } of parts) {
      const own = countOf(candidate.words, word, candidate.stems, stem);
      const heading = candidate.heading ? countOf(candidate.heading, word, candidate.heading, stem) : 0;
      const near = candidate.context ? countOf(candidate.context, word, candidate.context, stem) : 0;
      const isAlike = own + heading === 0 && beginning !== null && holdsBeginning(candidate, beginning);
      const weighted =
        own / lengthNorm +
        weights.heading * Math.min(heading, 1) +
        weights.context * Math.min(near, 2) +
        (isAlike ? alikeWeight : 0);
      score += (idf * weighted * (k1 + 1)) / (weighted + k1);
    }
    // Where there are only small words, nothing says what the question is about.
    const coverage = asked === 0 ? 0 : Math.min(1, score / Math.min(asked, askedMax));
    if (score > 0) ranked.push({ candidate, score, coverage });
  }
  return ranked.sort((one, other) => other.score - one.score);
}

const inflected = /^\p{L}{5,}$/u;

/** What inflections and derivations of a word begin with too, behind a space: half of it; null for words that are too short. */
const beginningOf = (word: string): string | null =>
  inflected.test(word) ? ` ${word.slice(0, Math.max(4, Math.ceil(word.length / 2)))}` : null;

const holdsBeginning = ({ words, heading }: Unit, beginning: string): boolean =>
  words.includes(beginning) || heading?.includes(beginning) === true;

/** How often a word stands in the words, or its stem among words and stems. */
function countOf(words: string, word: string, stems: string, stem: string): number {
  const asStem = occurrences(stems, stem);
  if (stem === word) return asStem + (stems === words ? 0 : occurrences(words, word));
  return Math.max(asStem + (stems === words ? 0 : occurrences(words, stem)), occurrences(words, word));
}

function occurrences(text: string, word: string): number {
  const padded = ` ${word} `;
  let count = 0;
  for (let at = text.indexOf(padded); at >= 0; at = text.indexOf(padded, at + padded.length - 1)) count++;
  return count;
}

/** Words enclosed by spaces, as `Unit` wants them. */
export const enclosed = (words: string): string => ` ${words} `;
