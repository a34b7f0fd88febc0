/**
 * The port to a language model.
 *
 * `reply` hands over the pieces of a reply as they come and resolves at its end. It rejects with a `ModelFailure`,
 * and nothing else, when the model fails, or with the signal's reason when the caller aborts; text that came before
 * has been handed over, and the connection to the model is closed by then. Pieces are pushed, not pulled: a reply is
 * kept whole anyway, so there is nobody to wait for, and generators cost several times as much for each token.
 */
import type { ErrorCode } from "../errors.ts";
import type { TraceContext } from "../trace-context.ts";

export interface PromptMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Something that was looked up for a message. */
interface LookedUp {
  /** Which part of the message it accounts for, 0 to 1. */
  coverage: number;
}

/** A piece of a document that the prompt holds under a number. */
export interface PromptPassage extends LookedUp {
  number: number;
  name: string;
  heading: string;
  quote: string;
}

/** What was looked up for a message, as the system message says it in prose: for the model that can't read. */
export interface Grounding {
  /** What the user's profile says, a sentence each. */
  profileFacts: ({ text: string } & LookedUp)[];
  /** Best first. */
  memories: ({ text: string; created_at: number } & LookedUp)[];
  /** Best first. */
  recalled: ({ role: "user" | "assistant"; content: string; created_at: number } & LookedUp)[];
  /** Best first. */
  passages: PromptPassage[];
}

/** The JSON that a reply is to be, as a JSON Schema. */
export interface ResponseFormat {
  /** Letters, digits, `_` and `-`. */
  name: string;
  schema: Record<string, unknown>;
}

export interface ModelRequest {
  /** The model asked for; null means the configured one. */
  model: string | null;
  messages: PromptMessage[];
  grounding: Grounding;
  /** 0 to 2; null leaves it to the model. */
  temperature: number | null;
  /** Tokens of the reply at most; null leaves it to the model. */
  max_tokens: number | null;
  /** Asked for where the server knows how to keep to it: the prompt has to say it too, and the reply may be anything. */
  response_format?: ResponseFormat;
  /** The trace that the request belongs to, which its server is told. */
  trace?: TraceContext | null;
}

export type FinishReason = "stop" | "length" | "content_filter";

/** Token counts of one turn, as the provider reported them. */
export interface ModelUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** The part of `prompt_tokens` that the provider had in its cache. */
  cached_tokens: number;
  /** The part of `completion_tokens` that was spent on reasoning and isn't in the text. */
  reasoning_tokens: number;
}

/** A part of the reply; a piece carries whatever was known by then. */
export interface ModelPiece {
  /** Text to append, raw: pieces of one network chunk come joined. */
  text?: string;
  finish_reason?: FinishReason;
  usage?: ModelUsage;
  /** The name of the model that answers, given once, with the first text, where it isn't what `answersAs` told. */
  model?: string;
}

export interface Model {
  /** The name that answers carry where the caller asks for no other. */
  readonly name: string;
  /** Whether its replies say something of their own, that is worth being found by recall later. */
  readonly writes: boolean;
  /** The name under which it answers a request for a model: a server may know many, `embedded` is only itself. */
  answersAs(requested: string | null): string;
  /** @param onPiece must not throw */
  reply(request: ModelRequest, signal: AbortSignal, onPiece: (piece: ModelPiece) => void): Promise<void>;
}

export type ModelFailureCode = Extract<ErrorCode, `model_${string}`>;

/** A failure of the model. `message` is public; `upstream` (status, code, type) is for the log. */
export class ModelFailure extends Error {
  override readonly name = "ModelFailure";
  readonly upstream: Record<string, string | number>;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    readonly code: ModelFailureCode,
    message: string,
    options: {
      upstream?: Record<string, string | number>;
      retryAfterSeconds?: number;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: options.cause });
    this.upstream = options.upstream ?? {};
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** Whether any model would refuse the request as well: it is the request that is wrong, not the key or the name. */
export const blamesRequest = ({ code, upstream }: ModelFailure): boolean =>
  code === "model_rejected" && ![401, 403, 404].includes(Number(upstream.status));
