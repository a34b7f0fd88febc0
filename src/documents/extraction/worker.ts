/** The thread that reads documents: one after the other, for as long as each takes. See child.ts for who ends it. */
import { AppError } from "../../errors.ts";
import { extract } from "../extract.ts";
import { passageTokensMax, toPassages } from "../passages.ts";
import type { ExtractionAnswer, ExtractionFailure, WorkerAnswer, WorkerRequest } from "./messages.ts";

declare const self: Worker;

/** Characters and passages in one line. */
const lineChars = 64 * 1024;
const linePassages = 256;

// The libraries' warnings would stand between the answers.
for (const method of ["log", "info", "warn", "error", "debug"] as const) console[method] = () => {};

self.onmessage = async ({ data }: MessageEvent<WorkerRequest>) => {
  try {
    const { name, media_type, content, limits } = data;
    const extracted = await extract({ bytes: content, name, media_type }, limits.documentCharsMax);
    const passages = toPassages(extracted, { tokensMax: passageTokensMax });
    const { text } = extracted;
    for (let at = 0; at < text.length; at += lineChars) say({ text: text.slice(at, at + lineChars) });
    for (let at = 0; at < passages.length; at += linePassages) {
      say({ passages: passages.slice(at, at + linePassages) });
    }
    say({ done: { media_type: extracted.media_type } });
  } catch (error) {
    say({ error: failureOf(error) });
  }
};

function say(answer: ExtractionAnswer): void {
  const message: WorkerAnswer = {
    line: JSON.stringify(answer),
    isLast: "done" in answer || "error" in answer,
  };
  self.postMessage(message);
}

function failureOf(error: unknown): ExtractionFailure {
  if (error instanceof AppError) {
    const { code, detail, cause } = error;
    return { code, detail, ...(typeof cause === "string" && { cause }) };
  }
  if (error instanceof RangeError) {
    return {
      code: "document_unreadable",
      detail: "The document is nested too deeply, or too large.",
      cause: error.name,
    };
  }
  // Where it was thrown, but not its message, which may hold the document's text.
  const cause = error instanceof Error ? `${error.name} ${framesOf(error)}` : typeof error;
  return { code: "internal", detail: "Something went wrong on the server.", cause };
}

const framesOf = ({ stack = "" }: Error): string =>
  stack
    .split("\n")
    .filter((line) => /^\s+at /.test(line))
    .slice(0, 5)
    .join("");
