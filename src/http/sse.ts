/**
 * Server-sent events: frames, and the view of a turn that writes them. A view holds an offset into the reply and
 * nothing else, so it can be left and taken up again anywhere.
 */
import { type Cited, type Reply, Wake } from "../chat/reply.ts";
import type { WatchedTurn } from "../chat/running-turns.ts";
import { AppError, type Fault } from "../errors.ts";
import { idSource, isId } from "../ids.ts";

/** Silence lasts no longer than this. Proxies cut what is silent for a time of their own; 60 s is a common one. */
const heartbeatMs = 10_000;
/** So often silence is looked for: a stream that would be silent for too long before the next look gets its heartbeat. */
const beatMs = 1_000;
const retryMs = 2_000;
/** Text of one event at most: all that a client which doesn't read can make the server hold. */
const tokenCharsMax = 16_384;
const heartbeat = ": heartbeat\n\n";

export const sseHeaders = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
} as const;

/** Where a view of a turn starts: an offset into its reply, or its end, after which there is nothing to see. */
export type Position = { turn_id: string; offset: number | "end" };

/** What `parseEventId` reads, for the document. */
export const eventIdPattern = `^${idSource("turn")}:(\\d{1,15}|end)$`;

/** Reads an event id, `<turn_id>:<offset>` or `<turn_id>:end`; null where it is neither. */
export function parseEventId(value: string): Position | null {
  const [turn_id = "", place = "", ...rest] = value.split(":");
  if (rest.length > 0 || !isId("turn", turn_id)) return null;
  if (place === "end") return { turn_id, offset: "end" };
  return /^\d{1,15}$/.test(place) ? { turn_id, offset: Number(place) } : null;
}

/** The fault of an event id that can't be read. */
export const eventIdFault = (path: string): Fault => ({
  path,
  message: "must be an event id as the stream sent it: <turn_id>:<offset> or <turn_id>:end",
});

/**
 * The stream of a turn from an offset on, as a response of HTTP.
 * @param signal says that the client has gone, or may watch no more
 * @param onEnd called when the last frame was sent, or the client has gone
 */
export function sseResponse(
  watched: WatchedTurn,
  offset: number,
  signal: AbortSignal,
  requestId: string,
  onEnd: () => void,
): Response {
  const frames = tail(watched, offset, signal, onEnd);
  // bun-types doesn't know that Bun's Response takes an async generator.
  return new Response(frames as unknown as ReadableStream, {
    headers: { ...sseHeaders, "x-request-id": requestId },
  });
}

/**
 * The frames of a turn from an offset on: `start`, `sources` where there are any, the text as it grows, and `done`.
 * In silence a heartbeat. Wakes on growth, on the heartbeat and on the signal, because a generator's `finally`
 * waits for its pending `await`. Ends without `done` only when the signal says so.
 */
export async function* tail(
  { turn, reply }: WatchedTurn,
  offset: number,
  signal: AbortSignal,
  onEnd: () => void,
): AsyncGenerator<string, void, void> {
  const wake = new Wake();
  let gone = signal.aborted;
  const leave = (): void => {
    gone = true;
    wake.wake();
  };
  let sentMs = performance.now();
  const isSilent = (): boolean => performance.now() - sentMs >= heartbeatMs - beatMs;
  const stopBeating = onBeat(() => {
    if (isSilent()) wake.wake();
  });
  let sourcesSent = false;
  reply.watch(wake);
  signal.addEventListener("abort", leave);
  try {
    yield startFrame(turn, offset);
    while (!gone) {
      if (!sourcesSent && reply.cited !== null && reply.cited.sources.length > 0) {
        sourcesSent = true;
        yield sourcesFrame(reply.cited);
      } else if (reply.length > offset) {
        const text = reply.since(offset, tokenCharsMax);
        offset += text.length;
        sentMs = performance.now();
        yield `id: ${turn.id}:${offset}\ndata: {"token":${JSON.stringify(text)}}\n\n`;
      } else if (reply.ended) {
        yield doneFrame(reply);
        return;
      } else {
        await wake.wait();
        if (reply.length <= offset && !reply.ended && isSilent()) {
          sentMs = performance.now();
          yield heartbeat;
        }
      }
    }
  } finally {
    stopBeating();
    reply.unwatch(wake);
    signal.removeEventListener("abort", leave);
    onEnd();
  }
}

/** What looks for silence in all open streams: one timer, because one for each would cost as much as a token. */
const beats = new Set<() => void>();
let beating: Timer | null = null;

/** Calls back every `beatMs` until the returned function is called. */
function onBeat(beat: () => void): () => void {
  beats.add(beat);
  beating ??= setInterval(() => {
    for (const each of beats) each();
  }, beatMs);
  return () => {
    beats.delete(beat);
    if (beats.size > 0 || beating === null) return;
    clearInterval(beating);
    beating = null;
  };
}

/** On resume its id is the offset resumed from: a cut right after it must not repeat text. */
function startFrame({ id, conversation_id, message_id, model }: WatchedTurn["turn"], offset: number): string {
  const data = JSON.stringify({ turn_id: id, conversation_id, message_id, model });
  return `retry: ${retryMs}\n\nevent: start\nid: ${id}:${offset}\ndata: ${data}\n\n`;
}

const sourcesFrame = ({ sources, citations }: Cited): string =>
  `event: sources\ndata: ${JSON.stringify({ sources, citations })}\n\n`;

function doneFrame({ ended }: Reply): string {
  if (ended === null) throw new AppError("internal", { cause: "done before the end" });
  const { id, conversation_id, message_id, status, finish_reason, model, sources, usage, error, response } =
    ended;
  const data = JSON.stringify({
    done: true,
    conversation_id,
    turn_id: id,
    message_id,
    status,
    finish_reason,
    model,
    length: response.length,
    sources,
    tokens_used: usage.total_tokens,
    usage,
    error,
  });
  return `id: ${id}:end\ndata: ${data}\n\n`;
}
