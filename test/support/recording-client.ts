/** A client that chats on and writes down all that it was told, to be compared with what is stored. */
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Service } from "./service.ts";
import { type DoneData, offsetOf, type StartData, sseEvents } from "./sse.ts";
import type { StartedTurn } from "./turns.ts";

/** One request and what came of it. */
export interface Attempt {
  user_id: string;
  message: string;
  conversation_id: string | null;
  key: string;
  /** As `start`, 202 or the answer told; null where nothing came. */
  turn_id: string | null;
  /** What was read of the reply. */
  text: string;
  /** When the text had reached which length, by `performance.now()`. */
  seen: { length: number; atMs: number }[];
  /** Its end, where it was told. */
  done: Pick<DoneData, "status" | "usage" | "conversation_id"> | null;
}

const json = { "content-type": "application/json" };

/** One turn, in one of the four ways to have one; gives what was told until the connection broke. */
export async function attempt(service: Service, asked: Attempt, view: number): Promise<Attempt> {
  const { user_id, message, conversation_id, key } = asked;
  const request = { user_id, message, ...(conversation_id !== null && { conversation_id }) };
  const post = {
    method: "POST",
    headers: { ...json, "idempotency-key": key },
    body: JSON.stringify(request),
  };
  try {
    if (view === 0) {
      await noteAnswer(asked, await service.fetch("/v1/chat", post));
    } else if (view === 1) {
      await follow(asked, await service.fetch("/v1/chat/stream", post));
    } else if (view === 2) {
      const query = new URLSearchParams({ ...request, idempotency_key: key });
      await follow(asked, await service.fetch(`/v1/chat/stream?${query}`));
    } else {
      const started = (await (await service.fetch("/v1/turns", post)).json()) as StartedTurn;
      asked.turn_id = started.id;
      await follow(asked, await service.fetch(started.stream_url));
    }
  } catch (error) {
    if (!isCut(error)) throw error;
  }
  return asked;
}

/** What `fetch` throws where the other side died. */
const isCut = (error: unknown): boolean =>
  error instanceof Error &&
  "code" in error &&
  /^(ECONN|ConnectionRefused|ConnectionClosed|FailedToOpen)/.test(String(error.code));

async function noteAnswer(asked: Attempt, response: Response): Promise<void> {
  const body = (await response.json()) as ChatResponse;
  if (response.status !== 200) throw new Error(`${response.status}: ${JSON.stringify(body)}`);
  asked.turn_id = body.turn_id;
  asked.text = body.response;
  asked.done = body;
}

/** Reads a stream until it ends or breaks. */
async function follow(asked: Attempt, response: Response): Promise<void> {
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  for await (const { id, event, data } of sseEvents(response)) {
    if (event === "start") {
      asked.turn_id = (JSON.parse(data) as StartData).turn_id;
      continue;
    }
    const { token, done, ...end } = JSON.parse(data) as DoneData & { token?: string };
    if (done) asked.done = end;
    if (token === undefined) continue;
    asked.text += token;
    asked.seen.push({ length: asked.text.length, atMs: performance.now() });
    if (offsetOf(id!) !== asked.text.length) throw new Error(`the id ${id} at ${asked.text.length}`);
  }
}
