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
/** A term that only a neighbour holds covers this part of itself. */
const contextCover = 0.5;

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
  score: number;
  /** Which part of the question the text and what is around it hold, 0 to 1, terms counted by how telling they are. */
  coverage: number;
}

/** Fewer texts than these say little about how telling a word is. */
const textsMin = 1_000;

/** Inverse document frequency, never negative (Lucene's form). @param holding how many of `total` texts hold the term */
export const idf = (holding: number, total: number): number =>
  Math.log(1 + (Math.max(total, holding, textsMin) - holding + 0.5) / (holding + 0.5));

/** Ranks units for a question, best first; those without any term are left out. */
export function rank<Candidate extends Unit>(
  terms: readonly WeightedTerm[],
  candidates: readonly Candidate[],
  weights: FieldWeights,
): Ranked<Candidate>[] {
  const meanLength = candidates.reduce((sum, { words }) => sum + words.length, 0) / candidates.length || 1;
  const all = terms.reduce((sum, { idf, small }) => sum + (small ? 0 : idf), 0) || 1;
  const ranked: Ranked<Candidate>[] = [];
  for (const candidate of candidates) {
    const lengthNorm = 1 - b + b * (candidate.words.length / meanLength);
    let score = 0;
    let covered = 0;
    for (const { word, stem, idf, small } of terms) {
      const own = countOf(candidate.words, word, candidate.stems, stem);
      const heading = candidate.heading ? countOf(candidate.heading, word, candidate.heading, stem) : 0;
      const near = candidate.context ? countOf(candidate.context, word, candidate.context, stem) : 0;
      if (!small && own + heading + near > 0) covered += own + heading > 0 ? idf : idf * contextCover;
      const weighted =
        own / lengthNorm + weights.heading * Math.min(heading, 1) + weights.context * Math.min(near, 2);
      score += (idf * weighted * (k1 + 1)) / (weighted + k1);
    }
    if (score > 0) ranked.push({ candidate, score, coverage: covered / all });
  }
  return ranked.sort((one, other) => other.score - one.score);
}

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
