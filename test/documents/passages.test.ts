/** Passages follow the structure of a document, and hold all of it. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readCsv } from "../../src/documents/formats/csv.ts";
import { readHtml } from "../../src/documents/formats/html.ts";
import { readMarkdown } from "../../src/documents/formats/markdown.ts";
import { readText } from "../../src/documents/formats/text.ts";
import { type Passage, passageTokensMax, toPassages } from "../../src/documents/passages.ts";
import type { Block, Structured } from "../../src/documents/structure.ts";
import { countTokens } from "../../src/models/tokens.ts";
import { propertyOptions } from "../support/properties.ts";

const tokensMax = 40;
const sentence = "The quick brown fox jumps over the lazy dog. ";

const quotes = ({ text }: Structured, passages: Passage[]): string[] =>
  passages.map(({ start, end }) => text.slice(start, end));
const passagesOf = (structured: Structured): string[] =>
  quotes(structured, toPassages(structured, { tokensMax }));

describe("passages", () => {
  test("begin at headings and know the path of headings above them", () => {
    const guide = readMarkdown(
      "Before.\n\n# Guide\n\nAbout.\n\n## Install\n\n### Linux\n\nOn Linux.\n\n### Mac\n\nOn a Mac.\n\n## Use\n\nHow to.\n\n# End\n",
    );
    const passages = toPassages(guide, { tokensMax });
    expect(passages.map(({ heading }, index) => [heading, quotes(guide, passages)[index]])).toEqual([
      ["", "Before."],
      ["Guide", "# Guide\n\nAbout."],
      // A heading without text of its own stays with the next one.
      ["Guide > Install > Linux", "## Install\n\n### Linux\n\nOn Linux."],
      ["Guide > Install > Mac", "### Mac\n\nOn a Mac."],
      ["Guide > Use", "## Use\n\nHow to."],
      ["End", "# End"],
    ]);
  });

  test("hold as many whole paragraphs as fit", () => {
    const paragraph = sentence.repeat(2).trim();
    expect(countTokens(paragraph)).toBe(20);
    const text = Array.from({ length: 5 }, () => paragraph).join("\n\n");
    expect(passagesOf(readText(text))).toEqual([paragraph, paragraph, paragraph, paragraph, paragraph]);
    const short = Array.from({ length: 5 }, () => sentence.trim()).join("\n\n");
    const three = Array.from({ length: 3 }, () => sentence.trim()).join("\n\n");
    expect(passagesOf(readText(short))).toEqual([three, [sentence.trim(), sentence.trim()].join("\n\n")]);
  });

  test("cut a long paragraph between sentences, wrapped lines or not", () => {
    const four = sentence.repeat(4).trim();
    expect(passagesOf(readText(sentence.repeat(9)))).toEqual([four, four, sentence.trim()]);
    // A line more would fit.
    const wrapped = "The quick brown fox\njumps over the\nlazy dog. ".repeat(2).trim();
    const room = { tokensMax: countTokens(`${wrapped} The quick brown fox\njumps over`) };
    const text = readText(`${wrapped} ${wrapped}`);
    expect(quotes(text, toPassages(text, room))).toEqual([wrapped, wrapped]);
  });

  test("cut a long sentence between words, and a long word between characters", () => {
    const words = "word ".repeat(100).trim();
    for (const quote of passagesOf(readText(words))) expect(quote).toMatch(/^word( word)*$/);
    const emoji = "😀".repeat(300);
    // So long that the segmenter gets it in parts, which must not end within a pair either.
    for (let before = 0; before < 24; before++) {
      const structured = readText("漢".repeat(before) + emoji.repeat(20));
      const parts = quotes(structured, toPassages(structured, { tokensMax: 8 }));
      expect(parts.join("")).toBe(structured.text);
      expect(parts.filter((part) => !part.isWellFormed())).toEqual([]);
    }
  });

  test("stay within the budget where parts have more tokens together than one by one", () => {
    const structured = readText("B-bjyE9s.xwr0lasEze-pztxBub0ijlkcvtzn cb");
    for (const { tokens } of toPassages(structured, { tokensMax: 8 })) expect(tokens).toBeLessThanOrEqual(8);
  });

  test("keep rows of tables and lines of code whole", () => {
    const names = "id,name\n";
    const rows = Array.from({ length: 50 }, (_, index) => `${index},name ${index}`).join("\n");
    const table = readCsv(names + rows, null, 10_000);
    const lines = table.text.split("\n");
    const parts = passagesOf(table);
    expect(parts.length).toBeGreaterThan(10);
    expect(parts.flatMap((part) => part.split("\n"))).toEqual(lines);
    const code = `\`\`\`\n${Array.from({ length: 40 }, (_, index) => `  line(${index});`).join("\n")}\n\`\`\``;
    const codeParts = passagesOf(readMarkdown(code));
    expect(codeParts.length).toBeGreaterThan(3);
    expect(codeParts.flatMap((part) => part.split("\n").map((line) => line.trim()))).toEqual(
      code.split("\n").map((line) => line.trim()),
    );
  });

  test("leave no heading alone whose text is long", () => {
    const text = `# Heading\n\n${sentence.repeat(4).trim()}\n`;
    const [first, ...rest] = passagesOf(readMarkdown(text));
    expect(first).toBe(`# Heading\n\n${sentence.repeat(3).trim()}`);
    expect(rest).toEqual([sentence.trim()]);
  });

  test("are on one page each", () => {
    const text = "One.\n\nTwo.\n\nThree.";
    const block = (start: number, end: number, page: number): Block => ({
      kind: "paragraph",
      start,
      end,
      page,
    });
    const structured = { text, blocks: [block(0, 4, 1), block(6, 10, 1), block(12, 18, 2)] };
    const passages = toPassages(structured, { tokensMax });
    expect(passages.map(({ page }) => page)).toEqual([1, 2]);
    expect(quotes(structured, passages)).toEqual(["One.\n\nTwo.", "Three."]);
  });

  test("shorten long headings in the path", () => {
    const [passage] = toPassages(readMarkdown(`# ${"😀".repeat(500)}\n\nText`), {
      tokensMax: passageTokensMax,
    });
    expect(passage!.heading.length).toBeLessThan(200);
    expect(passage!.heading.isWellFormed()).toBe(true);
  });
});

describe("whatever a document holds", () => {
  const piece = fc.oneof(
    fc.lorem({ maxCount: 3, mode: "sentences" }),
    fc.string({ unit: "grapheme", maxLength: 40 }),
    fc.string({ unit: "binary", maxLength: 20 }),
    fc.string({ unit: fc.constantFrom(..."abcdeXYZ'019 .-"), maxLength: 40 }),
    fc.constantFrom(
      "\n",
      "\n\n",
      " \t ",
      "# ",
      "\n***\n",
      "\n[a]: b\n",
      "\n## Title\n",
      "\n- item\n",
      "\n```\n",
      "\n| a | b |\n|---|---|\n| 1 | 2 |\n",
      "<p>",
      "<li>",
      "<h2>",
      "</td><td>",
      "<tr>",
      ",",
      '"',
      "&amp;",
      "今天天气非常好。我们去公园",
      "x".repeat(300),
      " ".repeat(500),
      "😀".repeat(50),
      "e\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301",
      "\ud800",
      "\ufeff\u00a0\u2028",
      "---\na: b\n---\n",
      "\\",
      "    ",
    ),
  );
  const content = fc.array(piece, { maxLength: 25 }).map((pieces) => pieces.join(""));
  const readers: Record<string, (content: string) => Structured> = {
    text: readText,
    Markdown: readMarkdown,
    HTML: (html) => readHtml(html, 1_000_000),
    CSV: (csv) => readCsv(csv.replaceAll('"', ""), null, 1_000_000),
  };

  for (const [kind, reader] of Object.entries(readers)) {
    test(`${kind}: its passages are quotes in order, within the budget, and hold all but blanks`, () => {
      fc.assert(
        fc.property(content, fc.integer({ min: 8, max: 120 }), (given, budget) => {
          const structured = reader(given);
          const { text } = structured;
          let at = 0;
          for (const { start, end, tokens } of toPassages(structured, { tokensMax: budget })) {
            const quote = text.slice(start, end);
            expect(text.slice(at, start).trim()).toBe("");
            expect(start).toBeGreaterThanOrEqual(at);
            expect(quote).not.toBe("");
            expect(quote.trim()).toBe(quote);
            expect(tokens).toBe(countTokens(quote));
            expect(tokens).toBeLessThanOrEqual(budget);
            at = end;
          }
          expect(text.slice(at).trim()).toBe("");
        }),
        propertyOptions(150),
      );
    });
  }

  test("no passage divides a character that was whole", () => {
    fc.assert(
      fc.property(content, (given) => {
        const structured = readText(given.toWellFormed());
        for (const quote of quotes(structured, toPassages(structured, { tokensMax: 8 }))) {
          expect(quote.isWellFormed()).toBe(true);
        }
      }),
      propertyOptions(100),
    );
  });
});
