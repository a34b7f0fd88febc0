/** The model that needs no network: it quotes what it can find, and says plainly that no language model is there. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Model, ModelPiece, ModelRequest, PromptMessage } from "./model.ts";
import { countTokens } from "./tokens.ts";

const pieceMs = 5;
const quoteCharsMax = 280;

const noModel =
  "No language model is configured, so I can only look things up. " +
  "Set OPENAI_API_KEY, or OPENAI_BASE_URL for a local or compatible server, to get written answers.";

/** Streams word by word; never fails. */
export function embedded(): Model {
  async function reply(
    request: ModelRequest,
    signal: AbortSignal,
    onPiece: (piece: ModelPiece) => void,
  ): Promise<void> {
    let left = request.max_tokens ?? Number.POSITIVE_INFINITY;
    for (const word of answer(request.messages).match(/\s*\S+/g) ?? []) {
      left -= request.max_tokens === null ? 0 : countTokens(word);
      if (left < 0) {
        onPiece({ finish_reason: "length" });
        return;
      }
      await sleep(pieceMs, undefined, { signal }).catch(() => signal.throwIfAborted());
      onPiece({ text: word });
    }
    onPiece({ finish_reason: "stop" });
  }
  return { name: "embedded", answersAs: () => "embedded", reply };
}

function answer(messages: PromptMessage[]): string {
  const spoken = messages.filter(({ role }) => role !== "system");
  const question = spoken.at(-1)?.content ?? "";
  const found = related(question, spoken.slice(0, -1));
  if (found === null) return `I found nothing about this in our conversation. ${noModel}`;
  const whose = found.role === "user" ? "You wrote" : "I answered";
  return `${whose} earlier in this conversation:\n\n> ${quote(found.content)}\n\n${noModel}`;
}

/** The message that shares the most of the question's words, the latest of equals; null where none shares any. */
function related(question: string, earlier: PromptMessage[]): PromptMessage | null {
  const asked = wordsOf(question);
  let best: PromptMessage | null = null;
  let most = 0;
  for (const message of earlier) {
    // Its own notices would otherwise be quoted back.
    if (message.content.includes(noModel)) continue;
    let shared = 0;
    for (const word of wordsOf(message.content)) if (asked.has(word)) shared++;
    if (shared > 0 && shared >= most) {
      most = shared;
      best = message;
    }
  }
  return best;
}

const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });

const smallWords = new Set(
  "about and are but can did does for from had has have her his how into its just let may not our out say she that the their them then there they this was were what when where which who why will with would you your".split(
    " ",
  ),
);

/** The words that say what a text is about: lower case, without the small ones. */
function wordsOf(text: string): Set<string> {
  const words = new Set<string>();
  for (const { segment, isWordLike } of segmenter.segment(text)) {
    const word = segment.toLowerCase();
    // Scripts without letter case, such as Chinese, have words of one or two characters.
    if (isWordLike && !smallWords.has(word) && (word.length > 2 || /[^\p{Ll}\p{Lu}]/u.test(word)))
      words.add(word);
  }
  return words;
}

/** The beginning of a text on one line, cut at a word. */
function quote(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  if (line.length <= quoteCharsMax) return line;
  const cut = line.slice(0, quoteCharsMax);
  const space = cut.lastIndexOf(" ");
  return `${space > 0 ? cut.slice(0, space) : cut.replace(/[\ud800-\udbff]$/, "")} …`;
}
