import { describe, expect, test } from "bun:test";
import type { Message, SourceDocument } from "../../../bench/retrieval/corpus.ts";
import { passagesOf, plainBm25 } from "../../../bench/retrieval/plain-bm25.ts";
import { countTokens } from "../../../src/models/tokens.ts";

const words = (count: number, word: string): string => Array(count).fill(word).join(" ");

async function search(documents: SourceDocument[], question: string, k = 10): Promise<string[]> {
  const retriever = await plainBm25.documents();
  await retriever.index(documents);
  const hits = await retriever.search(question, k);
  await retriever.close();
  return hits.map(({ document }) => document);
}

describe("passages", () => {
  const text = `# Title\n\n${words(100, "one")}\n\n\n${words(100, "two")}\nand on\n\n${words(100, "three")}\n\n${words(400, "four")}\n`;
  const passages = passagesOf({ name: "a.md", text });

  test("are whole paragraphs, packed in their order up to 250 tokens", () => {
    expect(passages.map(({ text }) => [...new Set(text.match(/\w+/g))].join(" "))).toEqual([
      "Title one two and on",
      "three",
      "four",
    ]);
    expect(countTokens(passages[0]!.text)).toBeLessThanOrEqual(250);
    expect(countTokens(passages[0]!.text) + 100).toBeGreaterThan(250);
  });

  test("know where they are in the text, which they leave out nothing of but blanks", () => {
    for (const { hit, text: own } of passages) {
      expect(hit.document).toBe("a.md");
      expect(text.slice(hit.start, hit.end)).toBe(own);
    }
    expect(
      passages
        .map(({ text }) => text)
        .join("")
        .replace(/\s/g, ""),
    ).toBe(text.replace(/\s/g, ""));
  });

  test("of an empty document are none", () => {
    expect(passagesOf({ name: "a.md", text: "\n \n" })).toEqual([]);
  });
});

describe("plain BM25", () => {
  const documents = [
    { name: "rare.md", text: "the boat has a mast" },
    { name: "common.md", text: "the house has a roof and the roof has a tile" },
    { name: "other.md", text: "Das Flußboot ist groß" },
  ];

  test("finds what has any word of the question, the rarest first", async () => {
    expect(await search(documents, "Has the boat a sail?")).toEqual(["rare.md", "common.md"]);
    expect(await search(documents, "Has the boat a sail?", 1)).toEqual(["rare.md"]);
  });

  test("finds nothing where no word occurs, other forms of a word included", async () => {
    expect(await search(documents, "boats")).toEqual([]);
    expect(await search(documents, "?!")).toEqual([]);
  });

  test("takes no word of a question for an operator", async () => {
    expect(await search(documents, `mast NOT boat" OR (text: NEAR`)).toEqual(["rare.md"]);
  });

  test("searches the messages that it was given", async () => {
    const message = (id: string, content: string): Message => ({
      id,
      user: "ada",
      conversation: "ada-1",
      at: 0,
      role: "user",
      content,
    });
    const retriever = await plainBm25.messages();
    await retriever.index([message("ada-1-1", "I sold the boat"), message("ada-1-2", "Good morning")]);
    expect(await retriever.search("Who bought the boat?", 10)).toEqual([{ message: "ada-1-1" }]);
    await retriever.close();
  });
});
