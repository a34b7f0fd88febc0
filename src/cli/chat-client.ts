/**
 * A client of the chat API: starts turns and watches them to their end over however many connections that takes.
 * A turn is started with an Idempotency-Key and watched by offset, so a lost connection neither repeats nor loses
 * anything.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { isId } from "../ids.ts";
import {
  asRecord,
  ConnectionLost,
  nonsense,
  reasonOf,
  type Send,
  ServiceError,
  sendTo,
} from "./service-client.ts";
import { visibleLine } from "./terminal.ts";

/** Tries in a row that bring nothing new, of a turn that hasn't begun and of one that has; and the waits between. */
const startTriesMax = 3;
const triesMax = 6;
const firstWaitMs = 250;
const longestWaitMs = 4_000;
/** Must stay above the heartbeat of `http/sse.ts`: a stream that is silent for longer is dead. */
const silenceMsMax = 30_000;
/** For requests that are answered at once. */
const answerMsMax = 15_000;
const linesCharsMax = 4 * 1024 * 1024;

export interface Message {
  message: string;
  user_id: string;
  conversation_id: string | null;
}

export interface TurnStarted {
  type: "started";
  turn_id: string;
  conversation_id: string;
}

export interface TurnDone {
  type: "done";
  status: string;
  error: string | null;
}

export type TurnEvent = TurnStarted | { type: "text"; text: string } | TurnDone;

export interface ChatClient {
  /** @throws ServiceError */
  conversation(id: string): Promise<{ user_id: string; title: string | null }>;
  /** Starts a turn and yields it, `done` last. @throws ServiceError */
  turn(message: Message): AsyncGenerator<TurnEvent, void, void>;
  /** Stops a turn; its stream ends by itself. @throws ServiceError */
  stop(turnId: string): Promise<void>;
}

/** @param base the address of the service, with a path where it isn't at the root */
export function chatClient(base: URL, key: string | null): ChatClient {
  const send = sendTo(base, key);

  const askJson = async (path: string, init: RequestInit = {}): Promise<Record<string, unknown>> => {
    try {
      const response = await send(path, { ...init, signal: AbortSignal.timeout(answerMsMax) });
      return asRecord(await response.json());
    } catch (error) {
      throw error instanceof ServiceError ? error : new ServiceError(reasonOf(error));
    }
  };

  return {
    async conversation(id) {
      const { user_id, title } = await askJson(`v1/conversations/${encodeURIComponent(id)}`);
      if (typeof user_id !== "string") throw new ServiceError("the service's answer made no sense");
      return { user_id, title: typeof title === "string" ? visibleLine(title) : null };
    },
    async stop(turnId) {
      await askJson(`v1/turns/${turnId}/stop`, { method: "POST" });
    },
    turn: (message) => watch(send, message),
  };
}

/** Starts the turn, then follows it from where each lost connection left off. */
async function* watch(send: Send, message: Message): AsyncGenerator<TurnEvent, void, void> {
  const { conversation_id, ...rest } = message;
  const start: RequestInit = {
    method: "POST",
    headers: { "content-type": "application/json", "idempotency-key": crypto.randomUUID() },
    body: JSON.stringify({ ...rest, ...(conversation_id !== null && { conversation_id }) }),
  };
  let turnId: string | null = null;
  let lastEventId = "";
  let fruitless = 0;
  for (;;) {
    try {
      const events: AsyncGenerator<EventSourceMessage> =
        turnId === null
          ? await openStream(send, "v1/chat/stream", start)
          : await openStream(send, `v1/turns/${turnId}/stream`, resume(lastEventId));
      for await (const { event, id, data } of events) {
        if (id !== undefined) lastEventId = id;
        const fields = parseRecord(data);
        if (event === "start" && turnId === null) {
          const started = toStarted(fields);
          turnId = started.turn_id;
          fruitless = 0;
          yield started;
        } else if (event === undefined && fields.done === true) {
          yield toDone(fields);
          return;
        } else if (event === undefined && typeof fields.token === "string") {
          fruitless = 0;
          yield { type: "text", text: fields.token };
        }
      }
      throw new ConnectionLost("the connection was lost");
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      if (++fruitless >= (turnId === null ? startTriesMax : triesMax)) throw new ServiceError(error.message);
      await sleep(Math.min(longestWaitMs, firstWaitMs * 2 ** (fruitless - 1)));
    }
  }
}

function resume(lastEventId: string): RequestInit {
  if (!/^[\w:-]{1,100}$/.test(lastEventId)) throw nonsense();
  return { headers: { "last-event-id": lastEventId } };
}

/** The events of one connection, until it ends in whatever way. @throws ConnectionLost, ServiceError */
async function openStream(
  send: Send,
  path: string,
  init: RequestInit,
): Promise<AsyncGenerator<EventSourceMessage>> {
  const connection = new AbortController();
  const watchdog = setTimeout(() => connection.abort(new Error("it fell silent")), silenceMsMax);
  let response: Response;
  try {
    response = await send(path, { ...init, signal: connection.signal });
  } catch (error) {
    clearTimeout(watchdog);
    throw error;
  }
  if (response.body === null || !response.headers.get("content-type")?.startsWith("text/event-stream")) {
    clearTimeout(watchdog);
    connection.abort();
    throw new ServiceError("what answered is not a Parley service: no event stream");
  }
  return readEvents(response.body, connection, watchdog);
}

/**
 * The events of a stream as it comes. The watchdog is put off by whatever comes and stopped at the end; the connection
 * is closed then. @throws ConnectionLost, ServiceError
 */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  connection: AbortController,
  watchdog: NodeJS.Timeout,
): AsyncGenerator<EventSourceMessage> {
  const events: EventSourceMessage[] = [];
  let failed = false;
  const parser = createParser({
    onEvent: (event) => events.push(event),
    onError: ({ type }) => {
      failed ||= type === "max-buffer-size-exceeded";
    },
    maxBufferSize: linesCharsMax,
  });
  const decoder = new TextDecoder();
  try {
    for await (const bytes of body) {
      watchdog.refresh();
      parser.feed(decoder.decode(bytes, { stream: true }));
      if (failed) throw new ServiceError("the service sent an endless line");
      yield* events.splice(0);
    }
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    throw new ConnectionLost(`the connection was lost: ${reasonOf(error)}`);
  } finally {
    clearTimeout(watchdog);
    connection.abort();
  }
}

function toStarted({ turn_id, conversation_id }: Record<string, unknown>): TurnStarted {
  if (typeof turn_id !== "string" || !isId("turn", turn_id)) throw nonsense();
  if (typeof conversation_id !== "string" || !isId("conversation", conversation_id)) throw nonsense();
  return { type: "started", turn_id, conversation_id };
}

function toDone({ status, error }: Record<string, unknown>): TurnDone {
  const { message } = asRecord(error ?? {});
  return {
    type: "done",
    status: visibleLine(String(status)),
    error: typeof message === "string" ? visibleLine(message) : null,
  };
}

function parseRecord(text: string): Record<string, unknown> {
  try {
    return asRecord(JSON.parse(text));
  } catch {
    throw nonsense();
  }
}
