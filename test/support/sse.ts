/** Reading Parley's streams as its clients do, with the `eventsource-parser` package. */
import { createParser, type EventSourceMessage } from "eventsource-parser";
import type { Usage } from "../../src/storage/store.ts";

export interface StartData {
  turn_id: string;
  conversation_id: string;
  message_id: string;
  model: string;
}

export interface DoneData extends StartData {
  done: true;
  status: string;
  finish_reason: string | null;
  length: number;
  sources: string[];
  tokens_used: number;
  usage: Usage;
  error: { code: string; message: string } | null;
}

/** The events of a stream as they come. Leaving the loop closes the connection. */
export async function* sseEvents(response: Response): AsyncGenerator<EventSourceMessage, void, void> {
  const events: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => events.push(event) });
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    parser.feed(decoder.decode(chunk, { stream: true }));
    yield* events.splice(0);
  }
}

/** All events of a stream that ends. */
export async function readSse(response: Response): Promise<EventSourceMessage[]> {
  return await Array.fromAsync(sseEvents(response));
}

export interface Transcript {
  /** The turn as its `start` event tells it. */
  start: StartData;
  startId: string;
  text: string;
  /** The ids of all events that had one, in order. */
  ids: string[];
  done: DoneData;
}

/** Reads a whole stream and checks its form: `start` first, ids that count the text, one `done`, last. */
export async function readTranscript(response: Response): Promise<Transcript> {
  return toTranscript(await readSse(response));
}

/** @throws where the events aren't what every stream has to be */
export function toTranscript(events: EventSourceMessage[]): Transcript {
  const [first, ...rest] = events;
  const last = rest.pop();
  if (first?.event !== "start" || first.id === undefined) throw new Error("the first event is not start");
  const start = JSON.parse(first.data) as StartData;
  const done = JSON.parse(last?.data ?? "{}") as DoneData;
  if (done.done !== true || last?.event !== undefined) throw new Error("the last event is not done");
  if (last?.id !== `${start.turn_id}:end`) throw new Error(`done has the id ${last?.id}`);
  let offset = Number(first.id.slice(start.turn_id.length + 1));
  let text = "";
  for (const { id, event, data } of rest) {
    if (event === "sources") continue;
    const { token } = JSON.parse(data) as { token: string };
    offset += token.length;
    text += token;
    if (event !== undefined) throw new Error(`an event named ${event}`);
    if (id !== `${start.turn_id}:${offset}`) throw new Error(`the id ${id} at offset ${offset}`);
  }
  const ids = events.map(({ id }) => id).filter((id) => id !== undefined);
  return { start, startId: first.id, text, ids, done };
}

/** The offset that an event id tells; `end` is infinity. */
export const offsetOf = (id: string): number => {
  const place = id.slice(id.indexOf(":") + 1);
  return place === "end" ? Number.POSITIVE_INFINITY : Number(place);
};
