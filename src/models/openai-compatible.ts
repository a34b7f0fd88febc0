/**
 * Any server that speaks OpenAI's chat completions: OpenAI, Azure and other gateways, Ollama, vLLM, llama.cpp,
 * LM Studio, OpenRouter. The `openai` SDK addresses the requests and names the errors; the stream, the timers and
 * (in `retry.ts`) the retries are ours.
 *
 * Time limits: connecting, headers and the first progress together get `modelFirstByteSeconds`. Bun's `fetch` doesn't
 * tell when it has connected, so a request without headers at half of `modelConnectSeconds` is checked by a second
 * connection, which has the other half. From then on each `modelIdleSeconds` must bring text, reasoning, a tool call,
 * the end or usage: comment pings and empty deltas are no progress.
 */
import { APIError } from "openai/error";
import type { ChatCompletionCreateParamsStreaming } from "openai/resources/chat/completions";
import type { Limits, ModelTarget } from "../config.ts";
import { traceHeaders } from "../trace-context.ts";
import { readChatBody } from "./chat-stream.ts";
import type { Model, ModelFailure, ModelPiece, ModelRequest } from "./model.ts";
import { addressOf, createEnvelope, type Envelope, post } from "./openai-request.ts";
import { hangs } from "./reachability.ts";
import { StallTimer } from "./stall-timer.ts";
import { failure, fromThrown, incomplete } from "./upstream-error.ts";

/** What a server doesn't understand, learnt from its refusals and remembered for as long as the process lives. */
interface Dialect {
  streamOptions: boolean;
  responseFormat: boolean;
  maxTokens: "max_tokens" | "max_completion_tokens";
}

export interface OpenAiCompatibleOptions {
  /** Requests go through an HTTP proxy, so that a direct connection says nothing about them. */
  throughProxy?: boolean;
}

/** The model of one target. Failures are `ModelFailure`s; nothing is retried here. */
export function openAiCompatible(
  target: ModelTarget,
  limits: Limits,
  { throughProxy = false }: OpenAiCompatibleOptions = {},
): Model {
  const address = addressOf(target);
  const { hostname } = address;
  const isOpenAi = hostname === "api.openai.com" || hostname.endsWith(".api.openai.com");
  const dialect: Dialect = {
    streamOptions: true,
    responseFormat: true,
    maxTokens: isOpenAi ? "max_completion_tokens" : "max_tokens",
  };
  let envelope: Promise<Envelope> | undefined;

  async function reply(
    request: ModelRequest,
    signal: AbortSignal,
    onPiece: (piece: ModelPiece) => void,
  ): Promise<void> {
    signal.throwIfAborted();
    const attempt = new AbortController();
    const close = () => attempt.abort();
    signal.addEventListener("abort", close);
    let begun = false;
    let complete = false;
    let givenUp: ModelFailure | undefined;
    const giveUp = (why: ModelFailure): void => {
      givenUp = why;
      close();
    };
    const timer = new StallTimer(() =>
      giveUp(failure("model_timeout", { code: begun ? "stalled" : "no_answer" })),
    );
    timer.extend(limits.modelFirstByteSeconds);
    const half = limits.modelConnectSeconds / 2;
    const connecting = setTimeout(async () => {
      if (throughProxy || !(await hangs(address, half)) || begun) return;
      giveUp(failure("model_unreachable", { code: "connect_timeout" }));
    }, half * 1000);
    try {
      envelope ??= createEnvelope(target, "/chat/completions");
      const response = await send(await envelope, request, attempt.signal);
      begun = true;
      clearTimeout(connecting);
      const connection = {
        expectWithin: (seconds: number) => timer.extend(seconds),
        idleSeconds: limits.modelIdleSeconds,
        close,
      };
      await readChatBody(response, connection, onPiece);
      complete = true;
    } catch (error) {
      signal.throwIfAborted();
      if (givenUp !== undefined) throw givenUp;
      const known = fromThrown(error);
      throw begun && known.code === "model_unreachable" ? incomplete(known.cause) : known;
    } finally {
      timer.stop();
      clearTimeout(connecting);
      signal.removeEventListener("abort", close);
      if (!complete) close();
    }
    signal.throwIfAborted();
  }

  /** The response of a request that was accepted, after leaving out what the server doesn't understand. */
  async function send(envelope: Envelope, request: ModelRequest, signal: AbortSignal): Promise<Response> {
    for (;;) {
      const more = request.trace ? traceHeaders(request.trace) : {};
      const spoken = { ...dialect };
      try {
        return await post(envelope, paramsOf(request, target.model, spoken), signal, more);
      } catch (error) {
        const better = learn(spoken, error);
        if (better === null) throw error;
        Object.assign(dialect, better);
      }
    }
  }

  return { name: target.model, writes: true, answersAs: (requested) => requested ?? target.model, reply };
}

function paramsOf(
  request: ModelRequest,
  name: string,
  dialect: Dialect,
): ChatCompletionCreateParamsStreaming {
  return {
    model: request.model ?? name,
    messages: request.messages,
    stream: true,
    ...(dialect.streamOptions && { stream_options: { include_usage: true } }),
    ...(dialect.responseFormat &&
      request.response_format && {
        response_format: { type: "json_schema", json_schema: { ...request.response_format, strict: true } },
      }),
    ...(request.temperature !== null && { temperature: request.temperature }),
    ...(request.max_tokens !== null && { [dialect.maxTokens]: request.max_tokens }),
  };
}

/** What to change where a refusal names something that can be left out or called otherwise, or null. */
function learn(spoken: Dialect, error: unknown): Partial<Dialect> | null {
  if (!(error instanceof APIError) || (error.status !== 400 && error.status !== 422)) return null;
  const words = `${error.param} ${error.message}`;
  if (spoken.streamOptions && /stream_options|include_usage/.test(words)) return { streamOptions: false };
  if (spoken.responseFormat && /response_format|json_schema/.test(words)) return { responseFormat: false };
  if (spoken.maxTokens === "max_tokens" && /max_completion_tokens/.test(words)) {
    return { maxTokens: "max_completion_tokens" };
  }
  return null;
}
