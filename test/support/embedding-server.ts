/**
 * A server on loopback that speaks OpenAI's `POST /v1/embeddings` and does what a test tells it to. Scripts are taken
 * in order, one for each request; where none is left, it answers well. What its vectors are worth is said in
 * embedding-vectors.ts.
 *
 *   const embeddings = startEmbeddingServer();
 *   embeddings.status(429, { headers: { "Retry-After": "1" } });
 *   embeddings.dimensions(1023);
 *   const held = embeddings.hold();   // held.release();
 */
import { countTokens } from "../../src/models/tokens.ts";
import { vectorDimensions, vectorOf } from "./embedding-vectors.ts";
import { type Connection, listen } from "./raw-http.ts";

/** OpenAI's limits. */
const inputsMax = 2048;
const tokensMax = 8192;
const tokensTotalMax = 300_000;

export interface EmbeddingBody {
  model: string;
  input: string | string[];
  encoding_format?: "float" | "base64";
  dimensions?: number;
  user?: string;
}

export interface EmbeddingAnswer {
  object: "list";
  data: { object: "embedding"; index: number; embedding: number[] | string }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

export interface EmbeddingRequest {
  headers: Headers;
  body: EmbeddingBody;
  /** Resolves when the connection is closed, by whichever side. */
  closed: Promise<void>;
}

interface AnswerOptions {
  status?: number;
  headers?: Record<string, string>;
  /** A string is sent as it is. */
  body?: unknown;
}

/** An answer that waits for the test. */
export interface HeldAnswer {
  /** The request that took this script. */
  readonly request: Promise<EmbeddingRequest>;
  release(): void;
}

type Script = (request: EmbeddingRequest, connection: Connection) => void | Promise<void>;

const scripts = {
  answer: (): Script => (request, connection) => send(connection, answerTo(request.body)),
  status: (status: number, options: Omit<AnswerOptions, "status"> = {}): Script => {
    return (_request, connection) =>
      send(connection, { status, body: { error: errorOf("scripted") }, ...options });
  },
  delay: (ms: number): Script => {
    return async (request, connection) => {
      await Bun.sleep(ms);
      send(connection, answerTo(request.body));
    };
  },
  dimensions: (count: number): Script =>
    scripts.change((answer, { input, encoding_format }) => ({
      ...answer,
      data: textsOf(input).map((text, index) => ({
        object: "embedding",
        index,
        embedding: encoded(resized(vectorOf(text), count), encoding_format),
      })),
    })),
  change: (alter: (answer: EmbeddingAnswer, body: EmbeddingBody) => unknown): Script => {
    return (request, connection) => {
      const { status, body } = answerTo(request.body);
      send(connection, {
        status,
        body: status === 200 ? alter(body as EmbeddingAnswer, request.body) : body,
      });
    };
  },
  raw: (body: string, contentType = "application/json"): Script => {
    return (_request, connection) => send(connection, { body, headers: { "content-type": contentType } });
  },
  silence: (): Script => () => {},
  reset: (): Script => (_request, connection) => connection.reset(),
};

export interface EmbeddingServer {
  /** The base URL, ending in `/v1`. */
  readonly url: string;
  /** All requests so far, in order. */
  readonly requests: EmbeddingRequest[];
  answer(): void;
  status(status: number, options?: Omit<AnswerOptions, "status">): void;
  /** Answers well, so many milliseconds later. */
  delay(ms: number): void;
  /** Answers well when the test says so. */
  hold(): HeldAnswer;
  /** Vectors of so many dimensions, whatever was asked for. */
  dimensions(count: number): void;
  /** What the function makes of a good answer: a vector missing, another order, NaN. */
  change(alter: (answer: EmbeddingAnswer, body: EmbeddingBody) => unknown): void;
  /** A 200 with this body as it is. */
  raw(body: string, contentType?: string): void;
  /** Takes the request and never answers. */
  silence(): void;
  /** Cuts the connection. */
  reset(): void;
  /** What the script called inside `script` does becomes the answer to all requests beyond the queue. */
  default(script: (server: Omit<Scripting, "hold">) => void): void;
  /** Resolves when `count` requests have come. */
  received(count: number): Promise<void>;
  close(): Promise<void>;
}

type Scripting = { [Name in keyof typeof scripts]: (...args: Parameters<(typeof scripts)[Name]>) => void };

/** Listens on a free loopback port. */
export function startEmbeddingServer(): EmbeddingServer {
  const queue: Script[] = [];
  const requests: EmbeddingRequest[] = [];
  const waiting: { count: number; resolve: () => void }[] = [];
  let fallback = scripts.answer();

  const listener = listen((raw, connection) => {
    if (raw.method !== "POST" || raw.path.split("?")[0] !== "/v1/embeddings")
      return send(connection, { status: 404, body: { error: errorOf("no such path") } });
    const request = { ...raw, body: JSON.parse(raw.body) as EmbeddingBody };
    requests.push(request);
    for (const waiter of waiting.filter(({ count }) => count <= requests.length)) waiter.resolve();
    void (queue.shift() ?? fallback)(request, connection);
  });

  const scripting = (take: (script: Script) => void): Scripting => ({
    answer: () => take(scripts.answer()),
    status: (...args) => take(scripts.status(...args)),
    delay: (...args) => take(scripts.delay(...args)),
    dimensions: (...args) => take(scripts.dimensions(...args)),
    change: (...args) => take(scripts.change(...args)),
    raw: (...args) => take(scripts.raw(...args)),
    silence: () => take(scripts.silence()),
    reset: () => take(scripts.reset()),
  });

  return {
    ...scripting((script) => void queue.push(script)),
    url: `http://127.0.0.1:${listener.port}/v1`,
    requests,
    hold() {
      const { promise: request, resolve: taken } = Promise.withResolvers<EmbeddingRequest>();
      const { promise: released, resolve: release } = Promise.withResolvers<void>();
      queue.push(async (held, connection) => {
        taken(held);
        await released;
        send(connection, answerTo(held.body));
      });
      return { request, release };
    },
    default: (script) =>
      script(
        scripting((chosen) => {
          fallback = chosen;
        }),
      ),
    received: (count) =>
      new Promise((resolve) => {
        if (requests.length >= count) resolve();
        else waiting.push({ count, resolve });
      }),
    close: () => listener.close(),
  };
}

function send(connection: Connection, { status = 200, headers = {}, body }: AnswerOptions): void {
  connection.start({ status, headers: { "content-type": "application/json", ...headers } });
  connection.write(typeof body === "string" ? body : JSON.stringify(body));
  connection.end();
}

/** A good answer, or the 400 that a bad request gets. */
function answerTo(request: EmbeddingBody): { status: number; body: unknown } {
  const { model, input, encoding_format, dimensions } = request;
  const tokens = textsOf(input).map(countTokens);
  const total = tokens.reduce((sum, count) => sum + count, 0);
  const fault = faultOf(request, tokens, total);
  if (fault !== null) return { status: 400, body: { error: fault } };
  const answer: EmbeddingAnswer = {
    object: "list",
    data: textsOf(input).map((text, index) => ({
      object: "embedding",
      index,
      embedding: encoded(vectorOf(text, dimensions), encoding_format),
    })),
    model,
    usage: { prompt_tokens: total, total_tokens: total },
  };
  return { status: 200, body: answer };
}

function faultOf(
  { model, input, encoding_format = "float", dimensions = vectorDimensions }: EmbeddingBody,
  tokens: readonly number[],
  total: number,
): ReturnType<typeof errorOf> | null {
  const texts: unknown[] = Array.isArray(input) ? input : [input];
  if (typeof model !== "string") return errorOf("you must provide a model parameter");
  if (texts.length === 0 || texts.length > inputsMax || texts.some((text) => typeof text !== "string"))
    return errorOf(`'$.input' is invalid: 1 to ${inputsMax} strings`, "input");
  if (texts.includes("")) return errorOf("'$.input' is invalid: an input cannot be empty", "input");
  if (Math.max(...tokens) > tokensMax)
    return errorOf(`this model's maximum context length is ${tokensMax} tokens`, "input");
  if (total > tokensTotalMax)
    return errorOf(`max ${tokensTotalMax} tokens per request`, "input", "max_tokens_per_request");
  if (!["float", "base64"].includes(encoding_format))
    return errorOf("'encoding_format' must be float or base64", "encoding_format");
  if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > vectorDimensions)
    return errorOf(`'dimensions' must be from 1 to ${vectorDimensions}`, "dimensions");
  return null;
}

const errorOf = (message: string, param: string | null = null, code: string | null = null) => ({
  message,
  type: "invalid_request_error",
  param,
  code,
});

const textsOf = (input: EmbeddingBody["input"]): string[] =>
  (Array.isArray(input) ? input : [input]).map(String);

/** Little-endian 32-bit floats, in base64 where that is asked for. */
const encoded = (vector: number[], format: EmbeddingBody["encoding_format"]): number[] | string =>
  format === "base64" ? Buffer.from(new Float32Array(vector).buffer).toString("base64") : vector;

const resized = (vector: number[], count: number): number[] =>
  Array.from({ length: count }, (_, index) => vector[index] ?? 0);
