/** When a result counts as relevant. Systems cut documents as they like, so that a passage has no id to compare. */
import type { Range } from "./corpus.ts";
import type { MessageHit } from "./retriever.ts";

export interface Judged {
  /** Of each result, best first. */
  relevant: boolean[];
  /** How many relevant results there can be. */
  total: number;
}

/** Whether a passage holds at least half of the quote. */
export function covers(passage: Range, quote: Range): boolean {
  if (passage.document !== quote.document) return false;
  const shared = Math.min(passage.end, quote.end) - Math.max(passage.start, quote.start);
  return shared > 0 && shared * 2 >= quote.end - quote.start;
}

export const isMessage = ({ message }: MessageHit, id: string): boolean => message === id;

/**
 * A result is relevant where it brings an answer that no result before it brought: overlapping passages gain nothing
 * by repeating each other. Answers that one result brings together count as one.
 */
export function judge<Hit, Answer>(
  hits: readonly Hit[],
  answers: readonly Answer[],
  brings: (hit: Hit, answer: Answer) => boolean,
): Judged {
  let missing = [...answers];
  let total = answers.length;
  const relevant = hits.map((hit) => {
    const left = missing.filter((answer) => !brings(hit, answer));
    const brought = missing.length - left.length;
    missing = left;
    if (brought > 1) total -= brought - 1;
    return brought > 0;
  });
  return { relevant, total };
}
