/** What the tests of models share: limits, a request, and a reply read to its end. */
import { type Config, loadConfig } from "../../src/config.ts";
import { type Model, ModelFailure, type ModelPiece, type ModelRequest } from "../../src/models/model.ts";

/** The limits of a fresh configuration, with some replaced; fractions of seconds are fine here. */
export const limitsWith = (limits: Partial<Config["limits"]> = {}): Config["limits"] => ({
  ...loadConfig({}).limits,
  ...limits,
});

export const request = (changes: Partial<ModelRequest> = {}): ModelRequest => ({
  model: null,
  messages: [{ role: "user", content: "Hello?" }],
  grounding: { profileFacts: [], memories: [], recalled: [], passages: [] },
  temperature: null,
  max_tokens: null,
  ...changes,
});

export interface Outcome {
  pieces: ModelPiece[];
  /** All text that was yielded. */
  text: string;
  finish_reason: ModelPiece["finish_reason"];
  /** The last usage. */
  usage: ModelPiece["usage"];
  /** The name the answer announced, if any. */
  model: ModelPiece["model"];
  failure: ModelFailure | undefined;
}

/** Reads a reply to its end, and tells the text as it comes. Throws what isn't a `ModelFailure`. */
export async function read(
  model: Model,
  asked: ModelRequest = request(),
  signal: AbortSignal = new AbortController().signal,
  onText: (text: string) => void = () => {},
): Promise<Outcome> {
  const outcome: Outcome = {
    pieces: [],
    text: "",
    finish_reason: undefined,
    usage: undefined,
    model: undefined,
    failure: undefined,
  };
  try {
    await model.reply(asked, signal, (piece) => {
      outcome.pieces.push(piece);
      outcome.text += piece.text ?? "";
      outcome.finish_reason = piece.finish_reason ?? outcome.finish_reason;
      outcome.usage = piece.usage ?? outcome.usage;
      outcome.model = piece.model ?? outcome.model;
      onText(piece.text ?? "");
    });
  } catch (error) {
    if (!(error instanceof ModelFailure)) throw error;
    outcome.failure = error;
  }
  return outcome;
}
