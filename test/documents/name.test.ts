import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { documentName } from "../../src/documents/name.ts";
import { AppError } from "../../src/errors.ts";
import { propertyOptions } from "../support/properties.ts";

describe("a document's name", () => {
  test.each([
    ["report.pdf", "report.pdf"],
    ["  Annual   report\u00a02024.pdf ", "Annual report 2024.pdf"],
    ["../../etc/passwd", "passwd"],
    ["/etc/passwd", "passwd"],
    ["C:\\Users\\ada\\report.pdf", "report.pdf"],
    ["guides/install.md", "install.md"],
    // Shown as "reportexe.pdf" by whatever follows the marks.
    ["report\u202efdp.exe", "reportfdp.exe"],
    ["\u2066a\u2069\u200fb\u200ec\u061cd\ufeff.txt", "abcd.txt"],
    ["zero\u200bwidth.txt", "zerowidth.txt"],
    ["שלום.txt", "שלום.txt"],
    ["Cafe\u0301.txt", "Caf\u00e9.txt"],
    ["..hidden", "..hidden"],
    ["a".repeat(255), "a".repeat(255)],
  ])("%j is kept as %j", (given, kept) => {
    expect(documentName(given)).toBe(kept);
  });

  test.each([
    ["a\0.pdf", "holds characters that no name has"],
    ["a\nb.pdf", "holds characters that no name has"],
    ["a\u0085b.pdf", "holds characters that no name has"],
    ["\x7f.pdf", "holds characters that no name has"],
    ["\ud800.pdf", "holds characters that no name has"],
    ["", "is not the name of a file"],
    [" ", "is not the name of a file"],
    ["..", "is not the name of a file"],
    ["a/.", "is not the name of a file"],
    ["docs/", "is not the name of a file"],
    ["\u202e\u200b", "is not the name of a file"],
    ["a".repeat(256), "must have at most 255 characters"],
  ])("%j is refused", (given, message) => {
    const refuse = (): string => documentName(given, "body.file");
    expect(refuse).toThrow(AppError);
    try {
      refuse();
    } catch (error) {
      const { code, faults } = error as AppError;
      expect({ code, faults }).toEqual({ code: "invalid_request", faults: [{ path: "body.file", message }] });
    }
  });

  test("stays what it is when it is named again, and never holds a path, a control or a bidi mark", () => {
    const names = fc.string({
      unit: fc.constantFrom(..."ab./\\ \0\n\u202e\u2067\u200f\u0301\u00a0é😀\ud800"),
      maxLength: 12,
    });
    fc.assert(
      fc.property(names, (given) => {
        let name: string;
        try {
          name = documentName(given);
        } catch (error) {
          return error instanceof AppError;
        }
        expect(documentName(name)).toBe(name);
        expect(name).not.toMatch(/[/\\]|\p{Cc}|[\u202a-\u202e\u2066-\u2069\u200e\u200f]/u);
      }),
      propertyOptions(),
    );
  });
});
