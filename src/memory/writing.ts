/** What the model writes in the background, read whole. */
import { type Model, ModelFailure, type ModelRequest, type ModelUsage } from "../models/model.ts";
import { countTokens } from "../models/tokens.ts";

/** Of a reply, thoughts included. */
const charsMax = 50_000;

/** What a request took, by the provider's count or else by ours. */
export interface WrittenUsage extends ModelUsage {
  estimated: boolean;
  model: string;
  duration_ms: number;
}

/** Hears what a request for a turn took, also where it failed after the model had begun to answer. */
export type EnterUsage = (turnId: string, usage: WrittenUsage) => void;

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
 * @param enter hears what that took, unless nothing came
 * @throws ModelFailure, also where it takes longer than `secondsMax` or writes without end; the signal's reason
 */
export async function write(
  model: Model,
  task: WritingTask,
  signal: AbortSignal,
  secondsMax = 60,
  enter: (usage: WrittenUsage) => void = () => {},
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
  const startedMs = Date.now();
  let text = "";
  let answering = model.answersAs(task.model);
  let reported: ModelUsage | undefined;
  const used = (): WrittenUsage => {
    const own = { model: answering, duration_ms: Date.now() - startedMs };
    if (reported !== undefined) return { ...reported, ...own, estimated: false };
    const prompt_tokens = countTokens(instructions) + countTokens(material);
    const completion_tokens = countTokens(text);
    const total_tokens = prompt_tokens + completion_tokens;
    const counted = { prompt_tokens, completion_tokens, total_tokens, cached_tokens: 0, reasoning_tokens: 0 };
    return { ...counted, ...own, estimated: true };
  };
  try {
    await model.reply(request, attempt.signal, (piece) => {
      text += piece.text ?? "";
      reported = piece.usage ?? reported;
      answering = piece.model ?? answering;
      if (text.length > charsMax)
        giveUp(new ModelFailure("model_bad_response", "The model wrote without end."));
    });
  } catch (error) {
    throw givenUp ?? error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
    if (reported !== undefined || text !== "") enter(used());
  }
  return { text: withoutThoughts(text), tokens_used: used().total_tokens };
}

/** What reasoning models of some servers say before they answer. */
const withoutThoughts = (text: string): string => text.replace(/^\s*<think>[\s\S]*?<\/think>/, "").trim();
