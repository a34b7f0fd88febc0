/** HTML: what a reader would read, without scripts, styles and navigation. */
import { Parser } from "htmlparser2";
import { decodeText } from "../decode.ts";
import type { Structured } from "../structure.ts";
import { oneLine, TextBuilder } from "../text-builder.ts";

/** Where the HTML standard lets an encoding be declared. */
const declarationBytes = 1024;

const words = (text: string): Set<string> => new Set(text.split(" "));

/** Elements whose content isn't the page's text, or is the same on every page of a site. */
const skipped = words(
  "script style noscript template svg math nav footer iframe object canvas audio video select button textarea",
);

const blocks = words(
  "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure form " +
    "h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main ol p pre section summary table tbody td tfoot th thead " +
    "title tr ul",
);

/** In a table's cell these say that the table is there for layout, and that its rows aren't rows. */
const notInRows = words("h1 h2 h3 h4 h5 h6 ul ol dl table pre blockquote article section");

/**
 * The charset of HTML: as declared by the client, else by the document itself.
 * @throws document_unreadable, unsupported_media_type, payload_too_large
 */
export function decodeHtml(bytes: Uint8Array, charset: string | null, charsMax: number): string {
  if (charset !== null) return decodeText(bytes, charset, charsMax);
  const head = Buffer.from(bytes.subarray(0, declarationBytes)).toString("latin1");
  const declared = /<meta\s[^>]{0,200}charset\s*=\s*["']?\s*([\w-]{1,40})/i.exec(head)?.[1] ?? null;
  return decodeText(bytes, declared, charsMax);
}

/** @throws payload_too_large */
export function readHtml(html: string, charsMax: number): Structured {
  const takesTitle = !/<h1[\s>]/i.test(html);
  if (/<main[\s>]/i.test(html)) {
    const main = new Reader(charsMax, takesTitle, "main").read(html);
    if (main.blocks.some(({ kind }) => kind !== "heading")) return main;
  }
  return new Reader(charsMax, takesTitle, null).read(html);
}

class Reader {
  readonly #builder: TextBuilder;
  /** The block at hand: its text, with \n for line breaks and \t between cells, and its element. */
  #text: string[] = [];
  #tag = "p";
  #inRow = false;
  #preDepth = 0;
  #scopeDepth = 0;
  /** The element whose content is skipped, and how many of its name are open in it. */
  #skipping = "";
  #skipDepth = 0;

  /**
   * @param takesTitle whether the page's title is its first heading
   * @param scope the element that is read alone; null for all of the page
   */
  constructor(
    charsMax: number,
    readonly takesTitle: boolean,
    readonly scope: string | null,
  ) {
    this.#builder = new TextBuilder(charsMax);
  }

  read(html: string): Structured {
    const parser = new Parser({
      onopentag: (name, attributes) => this.#open(name, attributes),
      onclosetag: (name) => this.#close(name),
      ontext: (text) => this.#add(this.#preDepth > 0 ? text : text.replace(/\s+/g, " ")),
    });
    parser.write(html);
    parser.end();
    this.#flush();
    return this.#builder.finish();
  }

  #open(name: string, attributes: Record<string, string>): void {
    if (this.#skipDepth > 0) {
      if (name === this.#skipping) this.#skipDepth++;
      return;
    }
    if (this.#isSkipped(name, attributes)) {
      this.#skipping = name;
      this.#skipDepth = 1;
      return;
    }
    if (name === "br") this.#add(this.#inRow ? " " : "\n");
    if (blocks.has(name)) this.#openBlock(name);
  }

  #openBlock(name: string): void {
    if (name === "tr" || (this.#inRow && notInRows.has(name))) {
      this.#flush();
      this.#inRow = name === "tr";
    }
    if (this.#inRow) {
      this.#add(name === "td" || name === "th" ? "\t" : " ");
      return;
    }
    // A paragraph at the start of a list's item is the item.
    if (this.#tag === "li" && this.#text.every((text) => text === " ") && (name === "p" || name === "div"))
      return;
    this.#flush();
    if (name === "pre") this.#preDepth++;
    if (name === this.scope) this.#scopeDepth++;
    this.#tag = name;
  }

  #close(name: string): void {
    if (this.#skipDepth > 0) {
      if (name === this.#skipping) this.#skipDepth--;
      return;
    }
    if (blocks.has(name)) this.#closeBlock(name);
  }

  #closeBlock(name: string): void {
    if (this.#inRow && name !== "tr" && name !== "table") {
      this.#add(" ");
      return;
    }
    this.#flush();
    if (name === "pre" && this.#preDepth > 0) this.#preDepth--;
    if (name === this.scope && this.#scopeDepth > 0) this.#scopeDepth--;
    this.#inRow = false;
    this.#tag = "p";
  }

  #isSkipped(name: string, attributes: Record<string, string>): boolean {
    if (name === "title" && !this.takesTitle) return true;
    return skipped.has(name) || "hidden" in attributes || attributes.role === "navigation";
  }

  #add(text: string): void {
    if (this.#skipDepth > 0) return;
    const isRead = this.scope === null || this.#scopeDepth > 0 || this.#tag === "title";
    // Soft hyphens show nothing, and no search finds the word.
    if (isRead) this.#text.push(text.replaceAll("\u00ad", ""));
  }

  #flush(): void {
    const text = this.#text.join("");
    this.#text = [];
    const level = this.#tag === "title" ? 1 : Number(/^h([1-6])$/.exec(this.#tag)?.[1] ?? 0);
    if (this.#inRow) this.#builder.line("table", text.split("\t").map(oneLine).filter(Boolean).join(" | "));
    else if (this.#preDepth > 0) this.#builder.block("code", text.replace(/^(?:[ \t]*\n)+/, "").trimEnd());
    else if (level > 0) this.#builder.heading(level, text);
    else if (this.#tag === "li") this.#builder.line("list", oneLine(text) && `- ${tidy(text)}`);
    else this.#builder.block("paragraph", tidy(text));
  }
}

const tidy = (text: string): string =>
  text
    .replace(/ +/g, " ")
    .replace(/ ?\n ?/g, "\n")
    .trim();
