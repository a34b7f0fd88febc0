/** Whether an answer is what it should be: the model's whole text, and its end. A fault is a sentence, none is null. */
import type { Answer, Load } from "./load.ts";
import { textOf } from "./reply-shape.ts";

type Expected = Pick<Load, "answer" | "reply">;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;

/** What is in an answer as soon as the first token is. */
export const firstTokenMark = (answer: Answer): string =>
  ({
    "turn-stream": 'data: {"token":',
    "model-bytes": '"delta":{"content":',
    "turn-json": "{",
    json: "{",
  })[answer];

/** Reads the last bytes alone, for loads at which reading all of them would slow the client down. */
export function endsWell(response: Buffer, { answer, reply }: Expected): string | null {
  if (!isOk(response)) return firstLine(response);
  const end = response.toString("latin1", Math.max(0, response.length - 1500));
  if (answer === "model-bytes") return end.includes("data: [DONE]\n\n") ? null : "no [DONE]";
  if (answer === "json") return null;
  if (!end.includes('"status":"completed"')) return "not completed";
  if (answer === "turn-json") return null;
  if (!end.includes('data: {"done":true')) return "no done event";
  return end.includes(`"length":${textOf(reply).length},`) ? null : "the text isn't whole";
}

/** Reads every byte. */
export function readAnswer(response: Buffer, expected: Expected): string | null {
  const ended = endsWell(response, expected);
  if (ended !== null) return ended;
  const body = bodyOf(response);
  if (expected.answer === "json") return isObject(JSON.parse(body)) ? null : "no JSON object";
  const text = expected.answer === "turn-json" ? member(JSON.parse(body), "response") : streamedText(body);
  return text === textOf(expected.reply) ? null : "the text isn't what the model said";
}

const isOk = (response: Buffer): boolean => response.toString("latin1", 0, 13) === "HTTP/1.1 200 ";

const firstLine = (response: Buffer): string => {
  const text = response.toString("latin1", 0, 2000);
  return `${text.slice(0, text.indexOf("\r\n"))} ${text.slice(text.indexOf("\r\n\r\n") + 4)}`;
};

function bodyOf(response: Buffer): string {
  const text = response.toString("latin1");
  const headEnd = text.indexOf("\r\n\r\n");
  const chunked = /\r\ntransfer-encoding: *chunked/i.test(text.slice(0, headEnd));
  if (!chunked) return text.slice(headEnd + 4);
  let body = "";
  for (let at = headEnd + 4; at < text.length; ) {
    const lineEnd = text.indexOf("\r\n", at);
    const length = Number.parseInt(text.slice(at, lineEnd), 16);
    body += text.slice(lineEnd + 2, lineEnd + 2 + length);
    at = lineEnd + 2 + length + 2;
  }
  return body;
}

/** The text in a turn's events or in the model's own. */
function streamedText(body: string): string {
  let text = "";
  for (const [, data] of body.matchAll(/^data: (\{.*\})$/gm)) {
    const event: unknown = JSON.parse(data!);
    text += member(event, "token") ?? contentOf(event);
  }
  return text;
}

function contentOf(chunk: unknown): string {
  const choices = isObject(chunk) ? chunk.choices : undefined;
  const choice: unknown = Array.isArray(choices) ? choices[0] : undefined;
  return (isObject(choice) && member(choice.delta, "content")) || "";
}

function member(value: unknown, name: string): string | undefined {
  const found = isObject(value) ? value[name] : undefined;
  return typeof found === "string" ? found : undefined;
}
