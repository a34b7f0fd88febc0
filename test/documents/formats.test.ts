/** The text and the structure of each kind of document. */
import { describe, expect, test } from "bun:test";
import { extract } from "../../src/documents/extract.ts";
import { outline, refusalOf, source } from "../support/documents.ts";
import { docxOf, heading, paragraph, run, table } from "../support/docx.ts";
import { pdfWith } from "../support/pdf.ts";

const charsMax = 10_000_000;
const read = (...args: Parameters<typeof source>) => extract(source(...args), charsMax);

describe("plain text", () => {
  test("is kept as it is, in paragraphs between blank lines", async () => {
    const text = "First line\nsecond line\n\n \t\n  Indented.\n\n\nLast";
    const extracted = await read("a.txt", text);
    expect(extracted.text).toBe(text);
    expect(outline(extracted)).toEqual([
      "paragraph First line\nsecond line",
      "paragraph Indented.",
      "paragraph Last",
    ]);
  });
});

describe("Markdown", () => {
  test("is kept as it is written, with blocks from its structure", async () => {
    const text = [
      "---",
      "title: Front",
      "---",
      "Guide",
      "=====",
      "",
      "Some *text*",
      "over two lines.",
      "",
      "## Install `parley` on [Linux](https://example.org) ##",
      "- one",
      "- two",
      "  wrapped",
      "  - nested",
      "",
      "```sh",
      "# no heading",
      "",
      "npm start",
      "```",
      "",
      "| a | b |",
      "|---|---|",
      "| 1 | 2 |",
      "",
      "> # quoted",
      "",
      "    code",
      "",
      "[ref]: https://example.org",
      "***",
    ].join("\n");
    const extracted = await read("a.md", text);
    expect(extracted.text).toBe(text);
    expect(outline(extracted)).toEqual([
      "code ---\ntitle: Front\n---",
      "# Guide",
      "paragraph Some *text*\nover two lines.",
      "## Install parley on Linux",
      "list - one",
      "list - two\n  wrapped",
      "list - nested",
      "code ```sh\n# no heading\n\nnpm start\n```",
      "table | a | b |\n|---|---|\n| 1 | 2 |",
      "paragraph > # quoted",
      "code code",
      "paragraph [ref]: https://example.org\n***",
    ]);
  });

  test("keeps a code fence whole where the document is read in parts", async () => {
    const filler = "A paragraph of some words.\n\n".repeat(9_300);
    const code = `\`\`\`\n${"# no heading\n\n".repeat(30_000)}\`\`\``;
    const { text, blocks } = await read("a.md", `${filler}${code}\n\n# Heading\n\nText.`);
    expect(filler.length).toBeLessThan(256 * 1024);
    const fences = blocks.filter(({ kind }) => kind === "code");
    expect(fences.map(({ start, end }) => text.slice(start, end).trim() === code)).toEqual([true]);
    expect(
      blocks.filter(({ kind }) => kind === "heading").map((block) => "title" in block && block.title),
    ).toEqual(["Heading"]);
    expect(blocks).toHaveLength(9_300 + 3);
  });
});

describe("HTML", () => {
  const body = `
    <nav><p>Home | About</p></nav>
    <h1>The&nbsp;<em>guide</em></h1>
    <p>First &amp; fore&shy;most,<br>a <b>para</b>graph
       of two lines.<p>No closing tag
    <script>alert("no")</script><style>p { color: red }</style>
    <ul><li>one<li><p>two</p><ul><li>inner</ul></ul>
    <table><thead><tr><th>Name</th><th>Age</th></tr></thead>
      <tr><td><p>Ada</p></td><td>36</td></tr><tr><td></td><td>40</td></table>
    <pre>
  keep
    this</pre>
    <div hidden>Hidden</div><div role="navigation">Menu</div><template>T</template>
    <div>Loose <!-- comment --> text<h2>Next</h2>after it</div>
    <footer>Imprint</footer>`;

  test("is what a reader reads: headings, paragraphs, lists, rows of tables, no boilerplate", async () => {
    const extracted = await read(
      "a.html",
      `<html><head><title>Ignored</title></head><body>${body}</body></html>`,
    );
    expect(outline(extracted)).toEqual([
      "# The guide",
      "paragraph First & foremost,\na paragraph of two lines.",
      "paragraph No closing tag",
      "list - one\n- two\n- inner",
      "table Name | Age\nAda | 36\n40",
      "code keep\n    this",
      "paragraph Loose text",
      "## Next",
      "paragraph after it",
    ]);
  });

  test("has its title as a heading where it has no other of the first level", async () => {
    const extracted = await read("a.html", "<title>A page</title><h2>Part</h2><p>Text");
    expect(outline(extracted)).toEqual(["# A page", "## Part", "paragraph Text"]);
  });

  test("is its main element where it has one with text in it", async () => {
    const page = "<div>Cookies!</div><main><p>Content</p><div>and more</div></main><div>Links</div>";
    expect(outline(await read("a.html", page))).toEqual(["paragraph Content", "paragraph and more"]);
    const empty = "<main></main><p>Content";
    expect(outline(await read("a.html", empty))).toEqual(["paragraph Content"]);
  });

  test("has no rows where a table is there for the layout", async () => {
    const page = "<table><tr><td><h1>Title</h1><p>One</p><p>Two</p></td><td>Three</td></tr></table>";
    expect(outline(await read("a.html", page))).toEqual([
      "# Title",
      "paragraph One",
      "paragraph Two",
      "paragraph Three",
    ]);
  });
});

describe("DOCX", () => {
  test("has headings, paragraphs, lists and tables", async () => {
    const body =
      heading(1, "Guide") +
      paragraph("First &amp; foremost.") +
      `<w:p>${run("Two ")}${run("runs")}<w:r><w:br/></w:r>${run("and a line")}</w:p>` +
      heading(2, "Data") +
      table([
        ["Name", "Age"],
        ["Ada", "36"],
      ]);
    expect(outline(await read("a.docx", docxOf(body)))).toEqual([
      "# Guide",
      "paragraph First & foremost.",
      "paragraph Two runs\nand a line",
      "## Data",
      "table Name | Age\nAda | 36",
    ]);
  });
});

describe("PDF", () => {
  const line = (text: string, y: number, size = 10) => ({ text, y, size });
  const long = "This line is about as wide as all lines of the body are";

  test("has its pages, paragraphs, and headings by their size", async () => {
    const extracted = await read(
      "a.pdf",
      pdfWith([
        [
          line("Guide", 740, 24),
          line("Install", 700, 16),
          line(`${long}, and it is divi-`, 680),
          line("ded here. It goes on (in brackets) and on and on and on and", 668),
          line("ends.", 656),
          line(`${long}, next paragraph.`, 630),
        ],
        [line(`${long}, on the second page.`, 740), line("Linux", 700, 16), line("Text.", 680)],
      ]),
    );
    expect(outline(extracted)).toEqual([
      "p1 # Guide",
      "p1 ## Install",
      `p1 paragraph ${long}, and it is divided here. It goes on (in brackets) and on and on and on and ends.`,
      `p1 paragraph ${long}, next paragraph.`,
      `p2 paragraph ${long}, on the second page.`,
      "p2 ## Linux",
      "p2 paragraph Text.",
    ]);
  });

  test("keeps the hyphens that belong to a word", async () => {
    const { text } = await read(
      "a.pdf",
      pdfWith([
        [
          line(`${long} OpenAI-`, 700),
          line("compatible and made in 2024-", 688),
          line("11, it has a dia-", 676),
          line("log.", 664),
        ],
      ]),
    );
    expect(text).toBe(`${long} OpenAI-compatible and made in 2024-11, it has a dialog.`);
  });

  test("keeps the lines of lists and tables apart", async () => {
    const { text } = await read(
      "a.pdf",
      pdfWith([
        [line(long, 700), line(long, 688), line("Apples 3", 676), line("Pears 4", 664), line("Plums 5", 652)],
      ]),
    );
    expect(text).toBe(`${long} ${long} Apples 3\nPears 4\nPlums 5`);
  });

  test("has no running heads, feet and page numbers", async () => {
    const pages = [1, 2, 3, 4].map((number) => [
      line(`Chapter ${number}: Turns`, 760),
      line(`Content of page ${"i".repeat(number)}`, 700),
      line(String(number), 30),
    ]);
    expect(outline(await read("a.pdf", pdfWith(pages)))).toEqual(
      [1, 2, 3, 4].map((number) => `p${number} paragraph Content of page ${"i".repeat(number)}`),
    );
  });
});

describe("CSV", () => {
  const rows = async (text: string, mediaType: string | null = null) =>
    (await read("a.csv", text, mediaType)).text;

  test("has a line for each row, with the names of its columns", async () => {
    const text = 'name,age,"home ""town"""\nAda,36,"London,\nEngland"\r\nBob,,\n';
    const extracted = await read("a.csv", text);
    expect(extracted.text).toBe('name: Ada; age: 36; home "town": London, England\nname: Bob');
    expect(extracted.blocks.map(({ kind }) => kind)).toEqual(["table"]);
  });

  test.each([
    ["semicolons", "name;share\nAda;36,5\nBob;1,5\n"],
    ["tabs", "name\tshare\nAda\t36,5\nBob\t1,5\n"],
    ["pipes", "name|share\nAda|36,5\nBob|1,5\n"],
    ["semicolons, with commas in quotes", 'name;share\nAda;"36,5"\nBob;"1,5"\n'],
  ])("is separated by %s too", async (_what, text) => {
    expect(await rows(text)).toBe("name: Ada; share: 36,5\nname: Bob; share: 1,5");
  });

  test("is separated by what stands between its quoted cells, not in them", async () => {
    expect(await rows('"name, first";share\n"Ada, A";36\n')).toBe("name, first: Ada, A; share: 36");
  });

  test("may have rows with fewer or more cells than names, and quotes within cells", async () => {
    expect(await rows('a,b\n1\n1,2,3\n\n,\n5" pipe,"he said ""hi"""\n')).toBe(
      'a: 1\na: 1; b: 2; 3\na: 5" pipe; b: he said "hi"',
    );
  });

  test("has names in its first row where its type says so, or its cells look like it", async () => {
    expect(await rows("1,2\n3,4\n")).toBe("1; 2\n3; 4");
    expect(await rows("a,a\n3,4\n")).toBe("a; a\n3; 4");
    expect(await rows("a,b\n3,4\n", "text/csv; header=absent")).toBe("a; b\n3; 4");
    expect(await rows("1,2\n3,4\n", "text/csv; header=present")).toBe("1: 3; 2: 4");
    expect(await rows("name,age\n")).toBe("name; age");
  });

  test("is refused where a quote is never closed", async () => {
    expect(await refusalOf(rows('a,b\n1,"2\n3,4\n'))).toEqual({
      code: "document_unreadable",
      detail: "A quoted field of the CSV is never closed.",
    });
  });
});

describe("JSON", () => {
  test("has its leaves with their paths, and lists of objects as rows", async () => {
    const extracted = await read(
      "a.json",
      JSON.stringify({
        site: { name: "Parley", tags: ["chat", "api"], ports: [8000], none: null, empty: "" },
        people: [
          { name: "Ada\nLovelace", born: { year: 1815 }, works: [{ title: "Notes" }], ok: true },
          { name: "Bob" },
        ],
        matrix: [
          [1, 2],
          [3, 4],
        ],
        last: "leaf",
      }),
    );
    expect(outline(extracted)).toEqual([
      "table site.name: Parley\nsite.tags: chat, api\nsite.ports: 8000\nlast: leaf",
      "# people",
      "table name: Ada Lovelace; born.year: 1815; works[0].title: Notes; ok: true\nname: Bob",
      "# matrix",
      "table 1, 2\n3, 4",
    ]);
  });

  test("may be a list, lines, or a single value", async () => {
    expect((await read("a.json", '[{"a": 1}, 2, "x"]')).text).toBe("a: 1\n2\nx");
    expect((await read("a.jsonl", '{"a": 1}\n\n{"a": 2}\n')).text).toBe("a: 1\na: 2");
    expect((await read("a.json", '"x"')).text).toBe("x");
  });

  test("keeps numbers as they are written where a double can't hold them", async () => {
    expect((await read("a.json", '{"id": 12345678901234567890, "x": 1.0}')).text).toBe(
      "id: 12345678901234567890\nx: 1.0",
    );
  });

  test("is refused before a row is made that no memory would hold", async () => {
    const leaves = Array.from({ length: 3_000 }, (_, index) => [`leaf${index}`, 1]);
    const json = JSON.stringify([{ ["k".repeat(1_000_000)]: Object.fromEntries(leaves) }]);
    expect(await refusalOf(read("a.json", json))).toEqual({
      code: "payload_too_large",
      detail: "The document has more than 10000000 characters of text.",
    });
  });

  test.each([
    ["broken", '{"a":', "The JSON is not valid."],
    ["with a broken line", '{"a": 1}\n{"a": \n', "The JSON is not valid."],
    [
      "100,000 lists deep",
      "[".repeat(100_000) + "]".repeat(100_000),
      "The JSON is nested deeper than 100 levels.",
    ],
    [
      "100,000 objects deep",
      `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`,
      "The JSON is nested deeper than 100 levels.",
    ],
  ])("is refused where it is %s", async (_what, text, detail) => {
    expect(await refusalOf(read("a.json", text))).toEqual({ code: "document_unreadable", detail });
  });
});
