/** Which of the passages that a search found are cited. */
import { expect, test } from "bun:test";
import { relevantPassages } from "../../src/chat/relevance.ts";
import type { FoundPassage } from "../../src/storage/document-store.ts";

const passage = (quote: string, score: number, coverage: number): FoundPassage => ({
  document_id: "doc_1",
  name: "birds.md",
  heading: "",
  quote,
  start: 0,
  end: quote.length,
  tokens: 1,
  score,
  coverage,
});

const quotesOf = (passages: FoundPassage[]): string[] => passages.map(({ quote }) => quote);

test("none, where the best accounts for too little of the message", () => {
  const found = [passage("puffins", 0.9, 0.49), passage("terns", 0.8, 0.4)];
  expect(relevantPassages("when can I see puffins", found, true)).toEqual([]);
  expect(relevantPassages("when can I see puffins", [], true)).toEqual([]);
});

test("those that are not far behind the best, by their scores too where words alone were searched", () => {
  const found = [passage("near", 2, 1), passage("behind", 0.9, 0.6), passage("far", 0.9, 0.4)];
  expect(quotesOf(relevantPassages("when can I see puffins", found, true))).toEqual(["near"]);
  expect(quotesOf(relevantPassages("when can I see puffins", found, false))).toEqual(["near", "behind"]);
});

test("of a name that none of them mentions only what holds nearly all else", () => {
  const message = "When can you see puffins in Iceland?";
  expect(relevantPassages(message, [passage("puffins", 2, 0.85)], true)).toEqual([]);
  expect(quotesOf(relevantPassages(message, [passage("puffins", 2, 0.95)], true))).toEqual(["puffins"]);
  const mentioned = [passage("puffins", 2, 0.85), passage("Iceland's coast", 1.5, 0.5)];
  expect(quotesOf(relevantPassages(message, mentioned, true))).toEqual(["puffins", "Iceland's coast"]);
});
