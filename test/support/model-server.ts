/**
 * A model server on loopback that speaks the real protocol and does what a test tells it to. Scripts are
 * taken in order, one for each request; then the default one answers. Tests that run side by side script the answers
 * to their own messages.
 *
 *   const model = startModelServer();
 *   model.reply(["Hel", "lo"], { usage: { prompt_tokens: 3, completion_tokens: 2 } });
 *   model.failAfter(2, "reset");
 *   model.status(429, { headers: { "Retry-After": "1" }, body: { error: { code: "rate_limit_exceeded" } } });
 *   const held = model.hold();   // held.send("text"); held.finish(); held.reset();
 *   model.to("Which one?").reply(["This one."]);
 *   model.memory.reply(['{"memories": []}']);   // what is asked in the background has scripts of its own
 *
 * The HTTP is written by hand on sockets, because tests need to reset, hang and cut in the middle.
 */
import type { ChatCompletionCreateParams } from "openai/resources/chat/completions";
import { drawingInstructions } from "../../src/memory/drawing.ts";
import { summaryInstructions } from "../../src/memory/summary.ts";
import { type Connection, listen, type Reply } from "./raw-http.ts";

export interface RecordedRequest {
  method: string;
  path: string;
  headers: Headers;
  body: ChatCompletionCreateParams;
  /** When it came, by `performance.now()`. */
  receivedMs: number;
  /** Resolves when the connection is closed, by whichever side. */
  closed: Promise<void>;
}

export interface ReplyOptions {
  /** Before each piece. */
  delayMs?: number;
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    total_tokens?: number;
    prompt_tokens_details?: { cached_tokens: number };
    completion_tokens_details?: { reasoning_tokens: number };
  };
  finish?: string | null;
  model?: string;
}

/** Bytes to send, or what to wait for before the next ones. */
export type Chunk = string | Uint8Array | Promise<unknown>;

export interface RawOptions {
  status?: number;
  /** In place of `text/event-stream`. */
  contentType?: string;
  headers?: Record<string, string>;
  /** Before each chunk after the first. */
  delayMs?: number;
  /** Keep the connection open after the last chunk. */
  hang?: boolean;
  /** Keep it open, and send this every 20 ms until the other side closes it. */
  repeat?: string;
  /** Cut the connection after the last chunk. What nobody has read by then may be lost: wait before. */
  reset?: boolean;
}

export interface StatusOptions {
  headers?: Record<string, string>;
  body?: unknown;
}

/** A reply that waits for the test. All methods may be called before the request has come. */
export interface Held {
  /** The request that took this script. */
  readonly request: Promise<RecordedRequest>;
  send(text: string): void;
  /** Bytes as they are. */
  sendRaw(chunk: string | Uint8Array): void;
  /** Ends the reply as a whole one. */
  finish(options?: Pick<ReplyOptions, "usage" | "finish">): void;
  /** Cuts the connection. */
  reset(): void;
  /** Ends the body without an end of the reply. */
  end(): void;
}

type Script = (request: RecordedRequest, connection: Connection) => void | Promise<void>;

/** The answers to requests, and what was asked. */
export interface Scripted {
  /** The requests so far, in order. */
  readonly requests: RecordedRequest[];
  /** Sends the pieces, then the end. */
  reply(pieces: string[], options?: ReplyOptions): void;
  /** Sends this many words, then breaks: ends the body, stalls, or sends an error object. */
  failAfter(words: number, how: "end" | "stall" | { error: unknown }): void;
  status(status: number, options?: StatusOptions): void;
  raw(chunks: Chunk[], options?: RawOptions): void;
  /** Takes the request and never answers. */
  silence(): void;
  hold(): Held;
  /** What the scripts called inside `script` do becomes the answer to all requests beyond the queue. */
  default(script: (model: Scripting) => void): void;
  /** Resolves when `count` requests have come. */
  received(count: number): Promise<void>;
}

export interface ModelServer extends Scripted {
  /** The base URL, ending in `/v1`. */
  readonly url: string;
  /** The answers to requests whose last message is this one, in place of the others. */
  to(message: string): Scripted;
  /** The answers to requests for memories, which are none of the others; without a script nothing is drawn. */
  readonly memory: Scripted;
  /** The same for summaries; without a script each is "A summary." */
  readonly summary: Scripted;
  /** Connections that are open now. */
  readonly connections: number;
  /** Connections that were ever opened. */
  readonly connectionsTaken: number;
  close(): Promise<void>;
}

export type Scripting = Pick<Scripted, "reply" | "failAfter" | "status" | "raw" | "silence">;

export const frame = (data: unknown): string =>
  `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

let replies = 0;

/** Writes frames in the exact form of OpenAI's. */
function framesFor(request: RecordedRequest, name?: string) {
  const head = {
    id: `chatcmpl-${++replies}`,
    object: "chat.completion.chunk",
    created: Math.floor(Date.now() / 1000),
    model: name ?? request.body.model,
    service_tier: "default",
    system_fingerprint: null,
  };
  const asksUsage = request.body.stream === true && request.body.stream_options?.include_usage === true;
  const usageNull = asksUsage ? { usage: null } : {};
  const chunk = (delta: object, finish_reason: string | null = null) =>
    frame({ ...head, choices: [{ index: 0, delta, logprobs: null, finish_reason }], ...usageNull });
  return {
    start: () => chunk({ role: "assistant", content: "", refusal: null }),
    text: (content: string) => chunk({ content }),
    end({ usage, finish = "stop" }: Pick<ReplyOptions, "usage" | "finish"> = {}): string {
      let text = finish === null ? "" : chunk({}, finish);
      if (asksUsage && usage !== undefined) text += frame({ ...head, choices: [], usage: total(usage) });
      return text + frame("[DONE]");
    },
  };
}

const total = (usage: NonNullable<ReplyOptions["usage"]>) => ({
  total_tokens: usage.prompt_tokens + usage.completion_tokens,
  ...usage,
});

const streamHead = (options: RawOptions = {}): Reply => ({
  status: options.status ?? 200,
  headers: { "content-type": options.contentType ?? "text/event-stream", ...options.headers },
});

const scripts = {
  reply: (pieces: string[], options: ReplyOptions = {}): Script => {
    return async (request, connection) => {
      if (request.body.stream !== true) return sendWhole(request, connection, pieces.join(""), options);
      const frames = framesFor(request, options.model);
      connection.start(streamHead());
      connection.write(frames.start());
      for (const piece of pieces) {
        if (options.delayMs !== undefined) await Bun.sleep(options.delayMs);
        connection.write(frames.text(piece));
      }
      connection.write(frames.end(options));
      connection.end();
    };
  },
  failAfter: (words: number, how: Parameters<Scripted["failAfter"]>[1]): Script => {
    return (request, connection) => {
      const frames = framesFor(request);
      connection.start(streamHead());
      connection.write(frames.start());
      for (let word = 1; word <= words; word++) connection.write(frames.text(`word${word} `));
      if (typeof how === "object") connection.write(frame(how));
      if (how !== "stall") connection.end();
    };
  },
  status: (status: number, { headers, body }: StatusOptions = {}): Script => {
    return (_request, connection) => {
      const text =
        typeof body === "string" ? body : JSON.stringify(body ?? { error: { message: "scripted" } });
      connection.start({ status, headers: { "content-type": "application/json", ...headers } });
      connection.write(text);
      connection.end();
    };
  },
  raw: (chunks: Chunk[], options: RawOptions = {}): Script => {
    return async (request, connection) => {
      connection.start(streamHead(options));
      for (const [index, chunk] of chunks.entries()) {
        if (index > 0 && options.delayMs !== undefined) await Bun.sleep(options.delayMs);
        if (chunk instanceof Promise) await chunk;
        else connection.write(chunk);
      }
      const { repeat } = options;
      if (repeat !== undefined) {
        const repeating = setInterval(() => connection.write(repeat), 20);
        await request.closed;
        clearInterval(repeating);
      } else if (options.reset) connection.reset();
      else if (!options.hang) connection.end();
    };
  },
  silence: (): Script => () => {},
};

function sendWhole(
  { body }: RecordedRequest,
  connection: Connection,
  content: string,
  options: ReplyOptions,
): void {
  const usage = options.usage ?? { prompt_tokens: 1, completion_tokens: 1 };
  connection.start({ status: 200, headers: { "content-type": "application/json" } });
  connection.write(
    JSON.stringify({
      id: `chatcmpl-${++replies}`,
      object: "chat.completion",
      created: Math.floor(Date.now() / 1000),
      model: options.model ?? body.model,
      choices: [
        {
          index: 0,
          message: { role: "assistant", content, refusal: null },
          logprobs: null,
          finish_reason: options.finish ?? "stop",
        },
      ],
      usage: total(usage),
    }),
  );
  connection.end();
}

/** Listens on a free loopback port. */
export function startModelServer(): ModelServer {
  const all = createScripted();
  const byMessage = new Map<string, ReturnType<typeof createScripted>>();
  const memory = createScripted();
  memory.scripted.default((model) => model.reply(['{"memories": []}']));
  const summary = createScripted();
  summary.scripted.default((model) => model.reply(["A summary."]));
  const inBackground = new Map([
    [drawingInstructions, memory],
    [summaryInstructions, summary],
  ]);

  const listener = listen((raw, connection) => {
    const path = raw.path.split("?")[0]!;
    const receivedMs = performance.now();
    if (raw.method !== "POST" || !path.endsWith("/chat/completions")) {
      return scripts.status(404)({ ...raw, receivedMs, body: { model: "", messages: [] } }, connection);
    }
    const body = JSON.parse(raw.body) as ChatCompletionCreateParams;
    const request: RecordedRequest = { ...raw, receivedMs, body };
    const background = inBackground.get(String(body.messages[0]?.content));
    if (background !== undefined) {
      background.record(request);
      return void background.next()(request, connection);
    }
    const own = byMessage.get(String(body.messages.at(-1)?.content));
    all.record(request);
    own?.record(request);
    void (own ?? all).next()(request, connection);
  });

  return {
    ...all.scripted,
    url: `http://127.0.0.1:${listener.port}/v1`,
    memory: memory.scripted,
    summary: summary.scripted,
    to(message) {
      const own = byMessage.get(message) ?? createScripted();
      byMessage.set(message, own);
      return own.scripted;
    },
    get connections() {
      return listener.connections;
    },
    get connectionsTaken() {
      return listener.connectionsTaken;
    },
    close: () => listener.close(),
  };
}

/** Scripts that wait for their requests. */
function createScripted() {
  const queue: Script[] = [];
  const requests: RecordedRequest[] = [];
  const waiting: { count: number; resolve: () => void }[] = [];
  let fallback: Script = scripts.status(500, {
    body: { error: { message: "no script is left", code: "no_script" } },
  });

  const scripted: Scripted = {
    requests,
    reply: (...args) => void queue.push(scripts.reply(...args)),
    failAfter: (...args) => void queue.push(scripts.failAfter(...args)),
    status: (...args) => void queue.push(scripts.status(...args)),
    raw: (...args) => void queue.push(scripts.raw(...args)),
    silence: () => void queue.push(scripts.silence()),
    hold() {
      const { script, held } = holdScript();
      queue.push(script);
      return held;
    },
    default(script) {
      const set =
        <Args extends unknown[]>(make: (...args: Args) => Script) =>
        (...args: Args): void => {
          fallback = make(...args);
        };
      script({
        reply: set(scripts.reply),
        failAfter: set(scripts.failAfter),
        status: set(scripts.status),
        raw: set(scripts.raw),
        silence: set(scripts.silence),
      });
    },
    received: (count) =>
      new Promise((resolve) => {
        if (requests.length >= count) resolve();
        else waiting.push({ count, resolve });
      }),
  };

  return {
    scripted,
    record(request: RecordedRequest): void {
      requests.push(request);
      for (const waiter of waiting.filter(({ count }) => count <= requests.length)) waiter.resolve();
    },
    /** The script of the next request. */
    next: (): Script => queue.shift() ?? fallback,
  };
}

function holdScript(): { script: Script; held: Held } {
  const { promise, resolve } = Promise.withResolvers<RecordedRequest>();
  const early: (() => void)[] = [];
  let open: { frames: ReturnType<typeof framesFor>; connection: Connection } | undefined;
  const whenOpen = (act: (opened: NonNullable<typeof open>) => void): void => {
    if (open !== undefined) act(open);
    else early.push(() => act(open!));
  };
  const script: Script = (request, connection) => {
    open = { frames: framesFor(request), connection };
    connection.start(streamHead());
    connection.write(open.frames.start());
    for (const act of early) act();
    resolve(request);
  };
  const held: Held = {
    request: promise,
    send: (text) => whenOpen(({ frames, connection }) => connection.write(frames.text(text))),
    sendRaw: (chunk) => whenOpen(({ connection }) => connection.write(chunk)),
    finish: (options) =>
      whenOpen(({ frames, connection }) => {
        connection.write(frames.end(options));
        connection.end();
      }),
    reset: () => whenOpen(({ connection }) => connection.reset()),
    end: () => whenOpen(({ connection }) => connection.end()),
  };
  return { script, held };
}
