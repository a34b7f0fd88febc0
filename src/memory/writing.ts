/** What the model writes in the background, read whole. */
import { type Model, ModelFailure, type ModelRequest, type ModelUsage } from "../models/model.ts";
import { countTokens } from "../models/tokens.ts";

/** Of a reply, thoughts included. */
const charsMax = 50_000;

export interface Written {
  text: string;
  tokens_used: number;
}

/** What a background request asks; the rest of a request is as usual. */
export interface WritingTask extends Pick<ModelRequest, "model" | "response_format"> {
  instructions: string;
  material: string;
}

/**
 * Lets the model write.
 * @throws ModelFailure, also where it takes longer than `secondsMax` or writes without end; the signal's reason
 */
export async function write(
  model: Model,
  task: WritingTask,
  signal: AbortSignal,
  secondsMax = 60,
): Promise<Written> {
  signal.throwIfAborted();
  const { instructions, material, ...asked } = task;
  const attempt = new AbortController();
  const stop = () => attempt.abort(signal.reason);
  signal.addEventListener("abort", stop);
  let givenUp: ModelFailure | undefined;
  const giveUp = (why: ModelFailure): void => {
    givenUp = why;
    attempt.abort();
  };
  const timer = setTimeout(
    () => giveUp(new ModelFailure("model_timeout", "The model took too long.")),
    secondsMax * 1000,
  );
  const request: ModelRequest = {
    ...asked,
    messages: [
      { role: "system", content: instructions },
      { role: "user", content: material },
    ],
    grounding: { profileFacts: [], memories: [], recalled: [], passages: [] },
    temperature: null,
    max_tokens: null,
  };
  let text = "";
  let usage: ModelUsage | undefined;
  try {
    await model.reply(request, attempt.signal, (piece) => {
      text += piece.text ?? "";
      usage = piece.usage ?? usage;
      if (text.length > charsMax)
        giveUp(new ModelFailure("model_bad_response", "The model wrote without end."));
    });
  } catch (error) {
    throw givenUp ?? error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
  const counted = () => countTokens(instructions) + countTokens(material) + countTokens(text);
  return { text: withoutThoughts(text), tokens_used: usage?.total_tokens ?? counted() };
}

/** What reasoning models of some servers say before they answer. */
const withoutThoughts = (text: string): string => text.replace(/^\s*<think>[\s\S]*?<\/think>/, "").trim();
