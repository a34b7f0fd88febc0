/**
 * What the many servers' chunks mean. One `Answer` gathers what came since it was last taken, so that
 * everything in one network chunk becomes one `ModelPiece`.
 */
import type { CompletionUsage } from "openai/resources/completions";
import type { FinishReason, ModelPiece, ModelUsage } from "./model.ts";
import { failure, fromErrorObject } from "./upstream-error.ts";

/** A `chat.completion.chunk`, or a whole `chat.completion`, as loosely as servers write them. */
interface WireChunk {
  object?: string;
  choices?: WireChoice[] | null;
  usage?: Partial<CompletionUsage> | null;
  error?: unknown;
}

interface WireChoice {
  error?: unknown;
  delta?: WireMessage | null;
  message?: WireMessage | null;
  finish_reason?: string | null;
}

interface WireMessage {
  content?: string | WirePart[] | null;
  refusal?: string | null;
  reasoning_content?: string | null;
  reasoning?: string | null;
  tool_calls?: unknown[] | null;
}

interface WirePart {
  type?: string;
  text?: string;
}

const finishReasons: Record<string, FinishReason> = {
  length: "length",
  max_tokens: "length",
  content_filter: "content_filter",
};

export class Answer {
  /** `data: [DONE]` was seen. */
  done = false;
  finishReason: FinishReason | undefined;
  /** Something came that counts as progress: text, reasoning, a tool call, an end or usage. */
  progressed = false;
  #text = "";
  #refused = false;
  #ended: FinishReason | undefined;
  #usage: ModelUsage | undefined;

  /** The data of one event. @throws ModelFailure for what isn't a chunk, and for an error in a chunk's place */
  addEvent(data: string): void {
    if (data === "[DONE]") {
      this.done = true;
      return;
    }
    let chunk: unknown;
    try {
      chunk = JSON.parse(data);
    } catch {
      throw failure("model_bad_response", { code: "malformed_json" });
    }
    if (typeof chunk !== "object" || chunk === null) {
      throw failure("model_bad_response", { code: "not_a_chunk" });
    }
    this.addChunk(chunk);
  }

  /** @throws ModelFailure for an error in the chunk's place */
  addChunk(chunk: WireChunk): void {
    if (chunk.error) throw fromErrorObject(chunk.error);
    if (chunk.object === "error") throw fromErrorObject(chunk);
    const choice = chunk.choices?.[0];
    if (choice) this.#addChoice(choice);
    if (chunk.usage) this.#addUsage(chunk.usage);
  }

  /** What came since the last call, or null. */
  take(): ModelPiece | null {
    if (this.#text === "" && this.#ended === undefined && this.#usage === undefined) return null;
    const piece: ModelPiece = {};
    if (this.#text !== "") piece.text = this.#text;
    if (this.#ended !== undefined) piece.finish_reason = this.#ended;
    if (this.#usage !== undefined) piece.usage = this.#usage;
    this.#text = "";
    this.#ended = undefined;
    this.#usage = undefined;
    return piece;
  }

  #addChoice(choice: WireChoice): void {
    const message = choice.delta ?? choice.message;
    if (message) {
      const { content } = message;
      if (content) {
        this.#text += typeof content === "string" ? content : textOf(content);
        this.progressed = true;
      } else if (message.refusal && typeof message.refusal === "string") {
        this.#text += message.refusal;
        this.#refused = true;
        this.progressed = true;
      } else if (message.reasoning_content || message.reasoning || message.tool_calls?.length) {
        this.progressed = true;
      }
    }
    // Some servers send "" until the end, as others send null.
    if (choice.finish_reason) {
      if (choice.finish_reason === "error") throw fromErrorObject(choice.error);
      this.finishReason = this.#refused ? "content_filter" : (finishReasons[choice.finish_reason] ?? "stop");
      this.#ended = this.finishReason;
      this.progressed = true;
    }
  }

  /** Counts are cumulative wherever they come more than once, so the last ones are right. */
  #addUsage(usage: Partial<CompletionUsage>): void {
    const prompt_tokens = countOf(usage.prompt_tokens);
    const completion_tokens = countOf(usage.completion_tokens);
    this.#usage = {
      prompt_tokens,
      completion_tokens,
      total_tokens: countOf(usage.total_tokens) || prompt_tokens + completion_tokens,
      cached_tokens: countOf(usage.prompt_tokens_details?.cached_tokens),
      reasoning_tokens: countOf(usage.completion_tokens_details?.reasoning_tokens),
    };
    this.progressed = true;
  }
}

/** Content in parts: the text ones; thinking isn't part of the reply. */
const textOf = (parts: WirePart[]): string =>
  Array.isArray(parts) ? parts.map((part) => (typeof part?.text === "string" ? part.text : "")).join("") : "";

const countOf = (value: unknown): number => (Number.isSafeInteger(value) ? Math.max(0, value as number) : 0);
