/** What words in the indexes begin with: no word of one scope is one of another. */
import { expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { scopeCode, withCode } from "../../src/storage/sqlite/scope.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();

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

test("PostgreSQL makes the same of them", async () => {
  const url = await newDatabase();
  await (await openPostgresStore(url)).close();
  await using sql = new Bun.SQL(url, { max: 1 });
  const numbers = [1, 9, 10, 99, 100, 123_456_789, 1_000_000_000_000];
  for (const words of ["", "red", "1x 11x red apple"]) {
    const rows = await sql.unsafe<{ coded: string[] }[]>(
      "select with_code(scope_code(n), $1) as coded from unnest($2::bigint[]) with ordinality u (n, place) order by place",
      [words, numbers],
    );
    expect(rows.map(({ coded }) => coded.join(" "))).toEqual(
      numbers.map((n) => withCode(scopeCode(n), words)),
    );
  }
});
