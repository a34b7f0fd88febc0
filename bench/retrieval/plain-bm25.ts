/**
 * Plain BM25, which everything else is compared with: SQLite's FTS5 over pieces of plain text, and the words of the
 * question, any of which may occur. It knows nothing of headings, of neighbours, of scripts without spaces, and it
 * takes the text of a Markdown document as it is.
 */
import { Database } from "bun:sqlite";
import { countTokens } from "../../src/models/tokens.ts";
import type { Message, Range, SourceDocument } from "./corpus.ts";
import type { MessageHit, Retriever, System } from "./retriever.ts";

/** A passage is whole paragraphs up to this many tokens; a longer paragraph is a passage of its own. */
const passageTokensMax = 250;

export const plainBm25: System = {
  name: "plain BM25",
  documents: () => new PlainBm25<SourceDocument, Range>((documents) => documents.flatMap(passagesOf)),
  messages: () =>
    new PlainBm25<Message, MessageHit>((messages) =>
      messages.map(({ id, content }) => ({ hit: { message: id }, text: content })),
    ),
};

interface Entry<Hit> {
  hit: Hit;
  text: string;
}

class PlainBm25<Source, Hit> implements Retriever<Source, Hit> {
  private readonly database = new Database(":memory:");
  private hits: Hit[] = [];

  constructor(private readonly entriesOf: (sources: readonly Source[]) => Entry<Hit>[]) {
    this.database.run("create virtual table entries using fts5 (text, tokenize = 'unicode61')");
  }

  index(sources: readonly Source[]): void {
    const entries = this.entriesOf(sources);
    this.hits = entries.map(({ hit }) => hit);
    const insert = this.database.query("insert into entries (rowid, text) values (?, ?)");
    this.database.transaction(() => {
      for (const [index, { text }] of entries.entries()) insert.run(index, text);
    })();
  }

  search(question: string, k: number): Hit[] {
    const words = question.match(/[\p{L}\p{N}]+/gu) ?? [];
    if (words.length === 0) return [];
    return this.database
      .query<{ rowid: number }, [string, number]>(
        "select rowid from entries where entries match ? order by bm25(entries), rowid limit ?",
      )
      .all(words.map((word) => `"${word}"`).join(" OR "), k)
      .map(({ rowid }) => this.hits[rowid]!);
  }

  close(): void {
    this.database.close();
  }
}

/** Paragraphs, in their order, packed into passages. */
export function passagesOf({ name, text }: SourceDocument): Entry<Range>[] {
  const entries: Entry<Range>[] = [];
  let open: { start: number; end: number; tokens: number } | undefined;
  const close = (): void => {
    if (open === undefined) return;
    const { start, end } = open;
    entries.push({ hit: { document: name, start, end }, text: text.slice(start, end) });
    open = undefined;
  };
  for (const { 0: paragraph, index: start } of text.matchAll(/\S(?:.|\n(?!\s*\n))*/g)) {
    const end = start + paragraph.trimEnd().length;
    const tokens = countTokens(paragraph);
    if (open !== undefined && open.tokens + tokens > passageTokensMax) close();
    open = { start: open?.start ?? start, end, tokens: (open?.tokens ?? 0) + tokens };
  }
  close();
  return entries;
}
