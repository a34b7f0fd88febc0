/** Documents as uploads. */
import type { Source } from "../../src/documents/media-type.ts";
import type { Structured } from "../../src/documents/structure.ts";
import { AppError } from "../../src/errors.ts";

export const source = (
  name: string,
  content: string | Uint8Array,
  mediaType: string | null = null,
): Source => ({
  name,
  bytes: typeof content === "string" ? Buffer.from(content) : content,
  media_type: mediaType,
});

/** The code and the detail with which something is refused. */
export async function refusalOf(promise: Promise<unknown>): Promise<{ code: string; detail: string }> {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { code: error.code, detail: error.detail };
  }
  throw new Error("it was not refused");
}

/** Blocks as `kind text`, headings as `# title`. */
export const outline = ({ text, blocks }: Structured): string[] =>
  blocks.map((block) => {
    const content = text.slice(block.start, block.end).trim();
    const page = block.page === undefined ? "" : `p${block.page} `;
    return block.kind === "heading"
      ? `${page}${"#".repeat(block.level)} ${block.title}`
      : `${page}${block.kind} ${content}`;
  });

/** A document that nobody reads within minutes: the depth of its elements costs its square. */
export const endlessDocument = (): Source => source("endless.html", "<div>".repeat(1_500_000));
