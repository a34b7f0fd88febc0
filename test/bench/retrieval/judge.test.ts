import { describe, expect, test } from "bun:test";
import { covers, judge } from "../../../bench/retrieval/judge.ts";

const range = (start: number, end: number, document = "a.md") => ({ document, start, end });
const quote = range(100, 120);

describe("a passage covers a quote", () => {
  test.each([
    ["that it holds whole", range(0, 500)],
    ["that it is", range(100, 120)],
    ["of which it holds the first half", range(50, 110)],
    ["of which it holds the last half", range(110, 400)],
    ["of which it holds the middle", range(105, 115)],
  ])("%s", (_, passage) => {
    expect(covers(passage, quote)).toBe(true);
  });
  test.each([
    ["of which it holds less than half", range(50, 109)],
    ["that begins where it ends", range(0, 100)],
    ["that ends where it begins", range(120, 400)],
    ["that lies elsewhere", range(300, 500)],
    ["that is in another document", range(0, 500, "b.md")],
  ])("but none %s", (_, passage) => {
    expect(covers(passage, quote)).toBe(false);
  });
});

describe("of a list of results", () => {
  const answers = [range(0, 10), range(20, 30), range(200, 210)];

  test("those are relevant that bring an answer", () => {
    expect(judge([range(400, 500), range(0, 15), range(195, 300)], answers, covers)).toEqual({
      relevant: [false, true, true],
      total: 3,
    });
  });

  test("one that repeats what was found gains nothing", () => {
    expect(judge([range(0, 15), range(0, 16), range(18, 32)], answers, covers).relevant).toEqual([
      true,
      false,
      true,
    ]);
  });

  test("answers that one result brings together count as one", () => {
    expect(judge([range(0, 50), range(200, 220)], answers, covers)).toEqual({
      relevant: [true, true],
      total: 2,
    });
  });

  test("none is relevant to a question without an answer", () => {
    expect(judge([range(0, 50)], [], covers)).toEqual({ relevant: [false], total: 0 });
  });
});
