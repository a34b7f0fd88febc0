/**
 * A digest of messages without a model: the first words of each, the newest kept where there is no room for all. Used
 * for what a summary doesn't cover yet, and as the summary itself where no language model writes one.
 */
import { countTokens } from "../models/tokens.ts";
import type { MessageRecord } from "../storage/store.ts";

const lineCharsMax = 160;
/** A message that begins with less, such as a greeting, is quoted further. */
const lineCharsMin = 40;
/** Lines that stay whatever comes: a conversation's beginning says what it is about. */
const firstLines = 2;

const sentences = new Intl.Segmenter(undefined, { granularity: "sentence" });

/**
 * Adds messages to a digest. Its cost follows `tokensMax`, however many messages there are.
 * @param before the digest so far, a line for each message
 * @param tokensMax of the digest; the lines between its first ones and the newest that fit go
 */
export function digestOf(
  before: string,
  messages: readonly Pick<MessageRecord, "role" | "content">[],
  tokensMax: number,
): string {
  const old = before === "" ? [] : before.split("\n");
  const said = messages.filter(({ content }) => content.trim() !== "");
  const count = old.length + said.length;
  const lineAt = (index: number): string => {
    if (index < old.length) return old[index]!;
    const { role, content } = said[index - old.length]!;
    return `${role}: ${beginningOf(content)}`;
  };
  const first = Array.from({ length: Math.min(firstLines, count - 1) }, (_, index) => lineAt(index));
  let left = tokensMax - first.reduce((sum, line) => sum + countTokens(line) + 1, 0);
  const newest: string[] = [];
  for (let index = count - 1; index >= first.length && index >= 0; index--) {
    const line = lineAt(index);
    left -= countTokens(line) + 1;
    if (left < 0 && newest.length > 0) break;
    newest.push(line);
  }
  return [...first, ...newest.reverse()].join("\n");
}

/** The beginning of a text on one line: whole sentences where they are short, cut at a word where one is long. */
function beginningOf(text: string): string {
  let line = "";
  for (const { segment } of sentences.segment(text.trimStart().slice(0, 4 * lineCharsMax))) {
    if (line.length >= lineCharsMin) break;
    line += segment.replace(/\s+/g, " ");
  }
  line = line.trim();
  if (line.length <= lineCharsMax) return line;
  const cut = line.slice(0, lineCharsMax);
  const space = cut.lastIndexOf(" ");
  return `${space > 0 ? cut.slice(0, space) : cut.replace(/[\ud800-\udbff]$/, "")} …`;
}
