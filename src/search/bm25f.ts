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

/** How often each term of a question stands in a text, in the order of the terms. */
export type Counts = readonly number[];

/** What is ranked. */
export interface Unit {
  /** Of the text, in characters of its words. */
  length: number;
  own: Counts;
  heading?: Counts;
  /** Of each neighbour. */
  context?: readonly Counts[];
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
  const meanLength = candidates.reduce((sum, { length }) => sum + length, 0) / candidates.length || 1;
  const all = terms.reduce((sum, { idf, small }) => sum + (small ? 0 : idf), 0) || 1;
  const ranked: Ranked<Candidate>[] = [];
  for (const candidate of candidates) {
    const lengthNorm = 1 - b + b * (candidate.length / meanLength);
    let score = 0;
    let covered = 0;
    for (const [index, { idf, small }] of terms.entries()) {
      const own = candidate.own[index]!;
      const heading = candidate.heading?.[index] ?? 0;
      const near = candidate.context?.reduce((sum, counts) => sum + counts[index]!, 0) ?? 0;
      if (!small && own + heading + near > 0) covered += own + heading > 0 ? idf : idf * contextCover;
      const weighted =
        own / lengthNorm + weights.heading * Math.min(heading, 1) + weights.context * Math.min(near, 2);
      score += (idf * weighted * (k1 + 1)) / (weighted + k1);
    }
    if (score > 0) ranked.push({ candidate, score, coverage: covered / all });
  }
  return ranked.sort((one, other) => other.score - one.score);
}

/** Counts the terms of a question in texts, each in one pass. */
export class TermCounter {
  /** By word: the term whose word it is, and the one whose stem it is. */
  readonly #places = new Map<string, { word: number; stem: number }>();

  /** @param code what each word of the texts begins with */
  constructor(
    readonly terms: readonly Term[],
    codes: readonly string[] = [""],
  ) {
    terms.forEach(({ word, stem }, index) => {
      for (const code of codes) {
        this.#placeOf(code + word).word = index;
        this.#placeOf(code + stem).stem = index;
      }
    });
  }

  /**
   * @param words separated by single spaces, as `cutWords` leaves them
   * @param stems of those words that differ from them, as `stemsOf` gives them
   */
  count(words: string, stems: string): Counts {
    const counts = this.terms.map(() => 0);
    const asWords = this.terms.map(() => 0);
    const each = (text: string, isStem: boolean): void => {
      for (let from = 0; from < text.length; ) {
        const space = text.indexOf(" ", from);
        const to = space < 0 ? text.length : space;
        const place = this.#places.get(text.slice(from, to));
        from = to + 1;
        if (place === undefined) continue;
        if (place.stem >= 0) counts[place.stem]!++;
        if (place.word >= 0 && !isStem) asWords[place.word]!++;
      }
    };
    each(words, false);
    each(stems, true);
    // A word that differs from its stem is counted among the stems already.
    return counts.map((count, index) => Math.max(count, asWords[index]!));
  }

  #placeOf(word: string): { word: number; stem: number } {
    const known = this.#places.get(word);
    if (known !== undefined) return known;
    const made = { word: -1, stem: -1 };
    this.#places.set(word, made);
    return made;
  }
}
