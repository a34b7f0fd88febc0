import { expect, test } from "bun:test";
import { toNormalForm } from "../src/normal-form.ts";

test.each([
  ["plain", "plain"],
  ["", ""],
  ["a\0b\0", "a\ufffdb\ufffd"],
  ["a\ud800b", "a\ufffdb"],
  ["a\udc00b", "a\ufffdb"],
  ["\ude00\ud83d", "\ufffd\ufffd"],
  ["\ud83d\ud83d\ude00", "\ufffd😀"],
  ["😀\ude00", "😀\ufffd"],
  ["😀👩‍👧 é e\u0301", "😀👩‍👧 é e\u0301"],
])("the normal form of %j is %j", (raw, normal) => {
  expect(toNormalForm(raw)).toBe(normal);
  expect(toNormalForm(normal)).toBe(normal);
  expect(normal.length).toBe(raw.length);
});
