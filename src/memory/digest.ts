/**
 * A digest of messages without a model: the first words of each, newest kept where there is no room for all. Used for
 * what a summary doesn't cover yet, and as the summary itself where no language model writes one.
 */
import { countTokens } from "../models/tokens.ts";
import type { MessageRecord } from "../storage/store.ts";

const sentenceCharsMax = 160;

const sentences = new Intl.Segmenter(undefined, { granularity: "sentence" });

/**
 * Adds messages to a digest.
 * @param before the digest so far, a line for each message
 * @param tokensMax of the digest; lines in its middle go first, because a conversation's beginning says what it is about
 */
export function digestOf(
  before: string,
  messages: readonly Pick<MessageRecord, "role" | "content">[],
  tokensMax: number,
): string {
  const lines = before === "" ? [] : before.split("\n");
  for (const { role, content } of messages) {
    if (content.trim() !== "") lines.push(`${role}: ${firstSentence(content)}`);
  }
  const tokens = lines.map((line) => countTokens(line) + 1);
  let total = tokens.reduce((sum, count) => sum + count, 0);
  const firstKept = Math.min(2, lines.length - 1);
  while (total > tokensMax && lines.length > firstKept + 1) {
    lines.splice(firstKept, 1);
    total -= tokens.splice(firstKept, 1)[0]!;
  }
  return lines.join("\n");
}

/** The first sentence of a text on one line, cut at a word where it is long. */
function firstSentence(text: string): string {
  const start = text.trimStart().slice(0, 4 * sentenceCharsMax);
  const [first] = sentences.segment(start);
  const line = (first?.segment ?? "").replace(/\s+/g, " ").trim();
  if (line.length <= sentenceCharsMax) return line;
  const cut = line.slice(0, sentenceCharsMax);
  const space = cut.lastIndexOf(" ");
  return `${space > 0 ? cut.slice(0, space) : cut.replace(/[\ud800-\udbff]$/, "")} …`;
}
