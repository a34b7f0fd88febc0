/** How well a text fits a question, and how much of the question it accounts for. */
import { describe, expect, test } from "bun:test";
import { type Fields, idf, rank, TermCounter } from "../../src/search/bm25f.ts";
import { stemsOf, termsOf } from "../../src/search/terms.ts";
import { cutWords } from "../../src/search/words.ts";

const fieldsOf = (text: string, heading = ""): Fields => {
  const words = cutWords(text);
  return { words, stems: stemsOf(words), heading: cutWords(heading) };
};

/** Texts ranked for a question, all terms being equally rare. */
function ranked(question: string, ...texts: (string | [text: string, heading: string])[]) {
  const terms = termsOf(cutWords(question)).map((term) => ({ ...term, idf: 1 }));
  const counter = new TermCounter(terms);
  const units = texts.map((each) => {
    const [text, heading] = typeof each === "string" ? [each] : each;
    return { text, ...counter.unitOf(fieldsOf(text, heading)) };
  });
  return rank(terms, units, { heading: 1.2, context: 0.3 });
}

describe("how telling a term is", () => {
  test("is 1 where one text holds it, whether there are few texts or many", () => {
    for (const total of [1, 1_000, 1_000_000]) expect(idf(1, total)).toBe(1);
  });

  test("is less the more hold it, and never negative", () => {
    const values = [0, 1, 10, 500, 1_000].map((holding) => idf(holding, 1_000));
    expect(values).toEqual(values.toSorted((a, b) => b - a));
    expect(values.at(-1)).toBeWithin(0, 0.001);
  });
});

describe("coverage", () => {
  test("is the part of the terms that a text holds", () => {
    expect(ranked("Where is the harbour?", "the harbour")[0]!.coverage).toBe(1);
    expect(ranked("Is there a harbour master?", "the harbour is old")[0]!.coverage).toBeCloseTo(0.5, 1);
  });

  test("of a long question needs no more than two telling terms and some", () => {
    const long = "Which harbour master repaired ferries, lamps, cranes, ropes and sails?";
    expect(ranked(long, "harbour, cranes and ropes")[0]!.coverage).toBe(1);
    expect(ranked(long, "harbour")[0]!.coverage).toBeLessThan(0.5);
  });

  test("isn't more for a common word that is held often, or in a heading", () => {
    const [common, rare] = termsOf("see puffins").map((term, index) => ({
      ...term,
      idf: index === 0 ? 0.5 : 1,
    }));
    const counter = new TermCounter([common!, rare!]);
    const units = [["see, see, see and see", "What to see"] as const, ["a puffin", ""] as const].map(
      ([text, heading]) => ({ text, ...counter.unitOf(fieldsOf(text, heading)) }),
    );
    const found = rank([common!, rare!], units, { heading: 1.2, context: 0.3 });
    const coverageOf = (text: string) => found.find(({ candidate }) => candidate.text === text)!.coverage;
    expect(coverageOf("see, see, see and see")).toBeCloseTo(1 / 3, 1);
    expect(coverageOf("a puffin")).toBeGreaterThan(0.6);
  });

  test("is nothing where the question has small words alone", () => {
    for (const question of ["who is who", "Hello!", "Thanks, that was really helpful!", "これは何ですか"]) {
      const found = ranked(question, `${question} and this`);
      expect([question, found.map(({ coverage }) => coverage)]).toEqual([question, found.map(() => 0)]);
    }
  });
});

describe("a word that only begins alike", () => {
  test("counts, for less than the word itself", () => {
    const [best, other, ...none] = ranked("Belege", "Abrechnung nach Belegen", "Belege einreichen", "Beton");
    expect([best!.candidate.text, other!.candidate.text]).toEqual([
      "Belege einreichen",
      "Abrechnung nach Belegen",
    ]);
    expect(other!.coverage).toBeWithin(0.2, 0.5);
    expect(none).toEqual([]);
  });

  test("counts in a heading", () => {
    expect(ranked("certificate", ["Ask Ada.", "Certified machines"])).toHaveLength(1);
  });

  test("doesn't count where too little is left to tell", () => {
    expect(ranked("cat", "category")).toEqual([]);
    expect(ranked("1984", "1985")).toEqual([]);
  });
});
