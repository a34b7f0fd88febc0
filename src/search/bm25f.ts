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
/** Whatever else is asked, a text of this score accounts for the whole question. */
const askedMax = 2.4;

/** How much a word counts where it isn't in the text itself. */
export interface FieldWeights {
  heading: number;
  context: number;
}

/** How often each term of a question stands in a text, in the order of the terms. */
export type Counts = readonly number[];

/** What is ranked: see `TermCounter`. */
export interface Unit {
  /** Of the text, in any unit. */
  length: number;
  own: Counts;
  heading?: Counts;
  /** Terms that aren't held, but a word that begins alike; left out where there is none. */
  alike?: readonly boolean[];
  /** Of each neighbour. */
  context?: readonly Counts[];
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
   * Which part of the question the text accounts for, 0 to 1: of its terms, counted by how telling they are, those that
   * the text holds; or its score in relation to `askedMax`, because long questions hold words that no answer repeats.
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
  const meanLength = candidates.reduce((sum, { length }) => sum + length, 0) / candidates.length || 1;
  const asked = terms.reduce((sum, { idf, small }) => sum + (small ? 0 : idf), 0);
  const ranked: Ranked<Candidate>[] = [];
  for (const candidate of candidates) {
    const lengthNorm = 1 - b + b * (candidate.length / meanLength);
    let score = 0;
    let held = 0;
    for (const [index, { idf, small }] of terms.entries()) {
      const own = candidate.own[index]!;
      const heading = candidate.heading?.[index] ?? 0;
      const near = candidate.context?.reduce((sum, counts) => sum + counts[index]!, 0) ?? 0;
      const weighted =
        own / lengthNorm +
        weights.heading * Math.min(heading, 1) +
        weights.context * Math.min(near, 2) +
        (candidate.alike?.[index] ? alikeWeight : 0);
      const part = (idf * weighted * (k1 + 1)) / (weighted + k1);
      score += part;
      if (!small) held += Math.min(part, idf);
    }
    // Where there are only small words, nothing says what the question is about.
    const coverage = asked === 0 ? 0 : Math.min(1, Math.max(held / asked, score / askedMax));
    if (score > 0) ranked.push({ candidate, score, coverage });
  }
  return ranked.sort((one, other) => other.score - one.score);
}

const inflected = /^\p{L}{5,}$/u;

/** What inflections and derivations of a word begin with too: half of it; null for words that are too short. */
const beginningOf = (word: string): string | null =>
  inflected.test(word) ? word.slice(0, Math.max(4, Math.ceil(word.length / 2))) : null;

/** The fields of a text: words separated by single spaces, as `cutWords` leaves them. */
export interface Fields {
  words: string;
  /** Of those words that differ from them, as `stemsOf` gives them. */
  stems: string;
  /** Words and stems of what stands above it. */
  heading?: string;
}

/** Counts the terms of a question in texts, each in one pass. */
export class TermCounter {
  /** By word: the term whose word it is, and the one whose stem it is. */
  readonly #places = new Map<string, { word: number; stem: number }>();
  /** What words like each term begin with, behind a space. */
  readonly #beginnings: readonly string[][];
  readonly #codeChars: number;

  /** @param codes what each word of the texts begins with: one of these */
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
    this.#codeChars = codes[0]!.length;
    this.#beginnings = terms.map(({ word }) => {
      const beginning = beginningOf(word);
      return beginning === null ? [] : codes.map((code) => ` ${code}${beginning}`);
    });
  }

  unitOf({ words, stems, heading = "" }: Fields): Unit & Required<Pick<Unit, "heading" | "alike">> {
    const own = this.#count(words, stems);
    const above = this.#count(heading, "");
    const text = ` ${words} ${heading}`;
    const alike = this.#beginnings.map(
      (beginnings, index) =>
        own[index]! + above[index]! === 0 && beginnings.some((beginning) => text.includes(beginning)),
    );
    // Codes are longer in some scopes than in others, which must not matter: each counts as one of two characters.
    const length = words.length + (2 - this.#codeChars) * words.split(" ").length;
    return { length, own, heading: above, alike };
  }

  #count(words: string, stems: string): Counts {
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
