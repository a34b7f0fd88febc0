/**
 * Embeddings from any server that speaks OpenAI's protocol. Vectors are asked for in base64, a quarter of their size in
 * decimals; a server that gives decimals all the same, or refuses to be asked, is understood too.
 */
import { APIError } from "openai/error";
import type { Limits, ModelTarget } from "../config.ts";
import { readText } from "./chat-stream.ts";
import type { EmbeddingModel } from "./embeddings.ts";
import type { ModelFailure } from "./model.ts";
import { createEnvelope, type Envelope, post } from "./openai-request.ts";
import { StallTimer } from "./stall-timer.ts";
import { failure, fromErrorObject, fromThrown, incomplete } from "./upstream-error.ts";

/** Texts of one request: what the strictest servers take by default. */
export const textsPerRequest = 32;
const bodyBytesMax = 16 * 1024 * 1024;

/** The embedding model of a target. Each request has `modelFirstByteSeconds` from its start to the end of the answer. */
export function openAiEmbeddings(target: ModelTarget, limits: Limits): EmbeddingModel {
  let envelope: Promise<Envelope> | undefined;
  /** Whether base64 may be asked for, until a server refuses. */
  let takesFormat = true;
  let dimensions: number | null = null;

  async function embed(texts: readonly string[], signal: AbortSignal): Promise<Float32Array[]> {
    const vectors: Float32Array[] = [];
    for (let start = 0; start < texts.length; start += textsPerRequest) {
      vectors.push(...(await request(texts.slice(start, start + textsPerRequest), signal)));
    }
    return vectors;
  }

  async function request(texts: readonly string[], signal: AbortSignal): Promise<Float32Array[]> {
    signal.throwIfAborted();
    const attempt = new AbortController();
    const close = () => attempt.abort();
    signal.addEventListener("abort", close);
    let begun = false;
    let complete = false;
    let late: ModelFailure | undefined;
    const timer = new StallTimer(() => {
      late = failure("model_timeout", { code: begun ? "stalled" : "no_answer" });
      close();
    });
    timer.extend(limits.modelFirstByteSeconds);
    try {
      envelope ??= createEnvelope(target, "/embeddings");
      const response = await send(await envelope, texts, attempt.signal);
      begun = true;
      const vectors = vectorsIn(await readJson(response), texts.length);
      dimensions ??= vectors[0]?.length ?? null;
      if (vectors.some(({ length }) => length !== dimensions)) throw unusable("wrong_dimensions");
      complete = true;
      return vectors;
    } catch (error) {
      signal.throwIfAborted();
      if (late !== undefined) throw late;
      const known = fromThrown(error);
      throw begun && known.code === "model_unreachable" ? incomplete(known.cause) : known;
    } finally {
      timer.stop();
      signal.removeEventListener("abort", close);
      if (!complete) close();
    }
  }

  /** The response of a request that was accepted, in decimals where the server refuses to be asked for base64. */
  async function send(envelope: Envelope, input: readonly string[], signal: AbortSignal): Promise<Response> {
    const params = { model: target.model, input };
    if (takesFormat) {
      try {
        return await post(envelope, { ...params, encoding_format: "base64" }, signal);
      } catch (error) {
        if (!refusesFormat(error)) throw error;
        takesFormat = false;
      }
    }
    return await post(envelope, params, signal);
  }

  return {
    name: target.model,
    get dimensions() {
      return dimensions;
    },
    embed,
  };
}

function refusesFormat(error: unknown): boolean {
  if (!(error instanceof APIError) || (error.status !== 400 && error.status !== 422)) return false;
  return /encoding_format|base64/.test(`${error.param} ${error.message}`);
}

const unusable = (code: string): ModelFailure => failure("model_bad_response", { status: 200, code });

async function readJson(response: Response): Promise<unknown> {
  const type = response.headers.get("content-type") ?? "";
  if (!/\bjson\b/i.test(type)) throw unusable(/html|xml/i.test(type) ? "html" : "not_json");
  if (response.body === null) throw incomplete();
  const text = await readText(response.body, bodyBytesMax);
  try {
    return JSON.parse(text);
  } catch {
    throw unusable("malformed_json");
  }
}

/** An answer's vectors in the order of the texts, which `index` tells where the answer has it. */
function vectorsIn(body: unknown, count: number): Float32Array[] {
  const { error, data } = (body ?? {}) as { error?: unknown; data?: unknown };
  if (error) throw fromErrorObject(error);
  if (!Array.isArray(data) || data.length !== count) throw unusable("wrong_count");
  const vectors = new Array<Float32Array | undefined>(count);
  data.forEach((item: { index?: unknown; embedding?: unknown } | null, position) => {
    const index = typeof item?.index === "number" ? item.index : position;
    vectors[index] = vectorOf(item?.embedding);
  });
  const whole = vectors.filter((vector) => vector !== undefined);
  if (whole.length !== count || vectors.length !== count) throw unusable("wrong_indexes");
  return whole;
}

/** A vector from base64 of little-endian 32-bit floats or from decimals, brought to length 1. */
function vectorOf(embedding: unknown): Float32Array {
  const vector = typeof embedding === "string" ? fromBase64(embedding) : fromNumbers(embedding);
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  // Not a number where any part isn't one.
  if (!(length > 0 && length < Number.POSITIVE_INFINITY)) throw unusable("not_a_vector");
  return vector.map((value) => value / length);
}

function fromBase64(text: string): Float32Array {
  const bytes = Buffer.from(text, "base64");
  if (bytes.length % 4 !== 0) throw unusable("not_a_vector");
  return new Float32Array(new Uint8Array(bytes).buffer);
}

function fromNumbers(embedding: unknown): Float32Array {
  if (!Array.isArray(embedding) || !embedding.every((value) => typeof value === "number")) {
    throw unusable("not_a_vector");
  }
  return Float32Array.from(embedding);
}
