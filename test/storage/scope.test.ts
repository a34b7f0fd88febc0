/** What words in the indexes begin with: no word of one scope is one of another. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { scopeCode, withCode } from "../../src/storage/sqlite/scope.ts";

test("words of two scopes are never the same, whatever digits they begin with", () => {
  // The same digits, divided in two ways into a scope's number and a word.
  const digits = fc.stringMatching(/^[1-9][0-9]{2,9}$/);
  fc.assert(
    fc.property(digits, fc.nat(8), fc.nat(8), (text, one, other) => {
      const cuts = [1 + (one % (text.length - 1)), 1 + (other % (text.length - 1))];
      fc.pre(cuts[0] !== cuts[1]);
      const [first, second] = cuts.map((cut) =>
        withCode(scopeCode(Number(text.slice(0, cut))), text.slice(cut)),
      );
      expect(first).not.toBe(second!);
    }),
    { numRuns: 2_000 },
  );
});

test("also where one scope's number is the beginning of another's, and words are digits", () => {
  const coded = new Set<string>();
  const rows = [1, 10, 11, 100, 101, 110, 111, 1111];
  const words = ["", "0", "1", "00", "01", "10", "11", "000", "111"].map((digits) => `${digits}x`);
  for (const n of rows) for (const each of words) coded.add(withCode(scopeCode(n), each));
  expect(coded.size).toBe(rows.length * words.length);
});

test("each word has the code, and no words stay none", () => {
  expect(withCode(scopeCode(12), "red apple")).toBe("212red 212apple");
  expect(withCode(scopeCode(12), "")).toBe("");
});
