/**
 * Whole replies in the odd forms that servers give them, each with what has to come of it: for the tests of the
 * adapter, and for those of the whole service.
 */
import type { FinishReason } from "../../src/models/model.ts";
import { type Seen, textFrame } from "./model-faults.ts";
import type { Chunk, RawOptions } from "./model-server.ts";

export interface ModelOddity {
  form: string;
  /** What the server sends; where it waits, the first part has to be read by itself. */
  chunks: (seen: Seen) => Chunk[];
  options?: RawOptions;
  text: string;
  /** Null where the server gives none. */
  finish_reason: FinishReason | null;
  /** As the provider reported it. */
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
}

const choiceFrame = (choice: object): string => `data: ${JSON.stringify({ choices: [choice] })}\n\n`;
const endFrame = (finish_reason: string | null, delta: object = {}): string =>
  choiceFrame({ index: 0, delta, finish_reason });
const usageFrame = (completion_tokens: number): string =>
  `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 5, completion_tokens } })}\n\n`;
const [a, stop, done] = [textFrame("a"), endFrame("stop"), "data: [DONE]\n\n"];
const whole = { text: "a", finish_reason: "stop" } as const;

/** A frame cut in two inside of a character. */
function cutInside(character: string): [Uint8Array, Uint8Array] {
  const bytes = new TextEncoder().encode(textFrame(character));
  const middle = bytes.findIndex((byte) => byte >= 0x80) + 2;
  return [bytes.slice(0, middle), bytes.slice(middle)];
}

const [firstHalf, secondHalf] = cutInside("👋");

/** Every server's usual frames, in lines that end so. */
const linesEndedBy = (name: string, ending: string): ModelOddity => ({
  form: `lines that end in ${name}, with comments between them`,
  chunks: (seen) =>
    [": hello\n\n", a, seen("a"), ": ping\n", textFrame("b\r\n"), seen("ab\r\n"), ":\n", stop, done].map(
      (chunk) => (typeof chunk === "string" ? chunk.replaceAll("\n", ending) : chunk),
    ),
  text: "ab\r\n",
  finish_reason: "stop",
});

export const modelOddities: ModelOddity[] = [
  {
    form: "[DONE] with the socket left open",
    chunks: () => [a, stop, done],
    options: { hang: true },
    ...whole,
  },
  {
    form: "[DONE] without finish_reason, with the socket left open",
    chunks: () => [a, done],
    options: { hang: true },
    text: "a",
    finish_reason: null,
  },
  {
    form: "finish_reason without [DONE], with the socket left open",
    chunks: () => [a, stop],
    options: { hang: true },
    ...whole,
  },
  { form: "[DONE] without finish_reason", chunks: () => [a, done], text: "a", finish_reason: null },
  { form: "finish_reason without [DONE]", chunks: () => [a, stop], ...whole },
  { form: "choices that are empty", chunks: () => [`data: {"choices":[]}\n\n`, a, stop], ...whole },
  { form: "choices that are null", chunks: () => [`data: {"choices":null}\n\n`, a, stop], ...whole },
  { form: "choices that are absent", chunks: () => [`data: {"id":"x"}\n\n`, a, stop], ...whole },
  { form: "a choice without delta", chunks: () => [choiceFrame({ index: 0 }), a, stop], ...whole },
  {
    form: "content that is null beside reasoning_content",
    chunks: () => [choiceFrame({ delta: { content: null, reasoning_content: "hm" } }), a, stop],
    ...whole,
  },
  {
    form: 'finish_reason "" until the end',
    chunks: () => [choiceFrame({ delta: { content: "a" }, finish_reason: "" }), textFrame("b"), stop],
    text: "ab",
    finish_reason: "stop",
  },
  {
    form: "text in the length chunk",
    chunks: () => [a, endFrame("length", { content: "b" }), done],
    text: "ab",
    finish_reason: "length",
  },
  {
    form: "content_filter",
    chunks: () => [a, endFrame("content_filter"), done],
    text: "a",
    finish_reason: "content_filter",
  },
  {
    form: "a refusal",
    chunks: () => [
      choiceFrame({ delta: { refusal: "I can't " } }),
      choiceFrame({ delta: { refusal: "help." } }),
      stop,
    ],
    text: "I can't help.",
    finish_reason: "content_filter",
  },
  { form: "tool_calls, which were not asked for", chunks: () => [a, endFrame("tool_calls")], ...whole },
  { form: "a reason of its own", chunks: () => [a, endFrame("eos_token")], ...whole },
  {
    form: "content in parts, with the thinking left out",
    chunks: () => [
      choiceFrame({ delta: { content: [{ type: "thinking", thinking: [{ type: "text", text: "hm" }] }] } }),
      choiceFrame({ delta: { content: [{ type: "text", text: "a" }] } }),
      stop,
    ],
    ...whole,
  },
  linesEndedBy("LF", "\n"),
  linesEndedBy("CR", "\r"),
  linesEndedBy("CRLF", "\r\n"),
  { form: "no blank line after the last event", chunks: () => [a, stop.trimEnd()], ...whole },
  { form: "a byte order mark", chunks: () => ["\ufeff", a, stop], ...whole },
  {
    form: "a character split across network chunks",
    // The first half comes with a text, so that it is known to have been read.
    chunks: (seen) => [Buffer.concat([Buffer.from(a), firstHalf]), seen("a"), secondHalf, stop, done],
    text: "a👋",
    finish_reason: "stop",
  },
  {
    form: "cumulative usage, of which the last one counts",
    chunks: (seen) => [
      a,
      usageFrame(1),
      seen("a"),
      textFrame("b"),
      usageFrame(2),
      seen("ab"),
      stop,
      usageFrame(3),
      done,
    ],
    text: "ab",
    finish_reason: "stop",
    usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 },
  },
  {
    form: "text, end and usage in one network chunk",
    chunks: () => [a + stop + usageFrame(2) + done],
    ...whole,
    usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 },
  },
  {
    form: "what comes after [DONE]",
    chunks: () => [`${a + done + textFrame("b")}data: {"choices": no JSON\n\n`],
    text: "a",
    finish_reason: null,
  },
  {
    form: "JSON, from a server that ignores stream: true",
    chunks: () => [
      JSON.stringify({
        object: "chat.completion",
        choices: [{ index: 0, message: { role: "assistant", content: "a" }, finish_reason: "stop" }],
        usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 },
      }),
    ],
    options: { contentType: "application/json; charset=utf-8" },
    ...whole,
    usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 },
  },
];
