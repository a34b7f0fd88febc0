/** The body of an answer as pieces: server-sent events, or one JSON object from a server that can't stream. */
import { createParser } from "eventsource-parser";
import { Answer } from "./chat-chunk.ts";
import { ModelFailure, type ModelPiece } from "./model.ts";
import { failure, fromErrorObject, incomplete } from "./upstream-error.ts";

/** Characters that one event may hold, and bytes of an answer that isn't streamed. */
const eventCharsMax = 1024 * 1024;
const bodyBytesMax = 16 * 1024 * 1024;

/** After `finish_reason`, this long for the usage that may follow. */
const usageSecondsMax = 2;

/** After the end of the answer, this long for the end of the body, so that the connection can be used again. */
const drainMs = 1000;

/** What a reader of a body needs from the one who opened it. */
export interface Connection {
  /** The stall limit from now on; called for each network chunk that brought the answer forward. */
  expectWithin(seconds: number): void;
  idleSeconds: number;
  close(): void;
}

/**
 * Everything that came in one network chunk is one piece. Ends when the answer is complete: after `[DONE]`, or
 * after a `finish_reason` and a short wait for usage. The body is then drained in the background.
 * @throws ModelFailure, or what reading the body throws
 */
export async function readChatBody(
  response: Response,
  connection: Connection,
  onPiece: (piece: ModelPiece) => void,
): Promise<void> {
  const type = response.headers.get("content-type") ?? "";
  if (/html|xml/i.test(type)) throw failure("model_bad_response", { status: 200, code: "html" });
  if (response.body === null) throw incomplete();
  if (/\bjson\b/i.test(type)) onPiece(await readWhole(response.body));
  else await readEvents(response.body, connection, onPiece);
}

async function readEvents(
  body: ReadableStream<Uint8Array>,
  connection: Connection,
  onPiece: (piece: ModelPiece) => void,
): Promise<void> {
  const answer = new Answer();
  const decoder = new TextDecoder();
  const parser = eventParser(answer);
  const reader = body.getReader();
  let broken: unknown;
  while (!answer.done) {
    let bytes: Uint8Array | undefined;
    try {
      bytes = (await reader.read()).value;
    } catch (error) {
      // A connection that breaks after the end of the answer has taken nothing from it.
      if (answer.finishReason !== undefined) break;
      throw error;
    }
    try {
      // The end of the body may be the end of the last event, where the blank line after it is missing.
      parser.feed(bytes === undefined ? `${decoder.decode()}\n\n` : decoder.decode(bytes, { stream: true }));
    } catch (error) {
      broken = error;
    }
    const piece = answer.take();
    if (answer.progressed) {
      answer.progressed = false;
      if (answer.finishReason === undefined) connection.expectWithin(connection.idleSeconds);
      else if (piece?.finish_reason !== undefined) connection.expectWithin(usageSecondsMax);
    }
    if (piece !== null) onPiece(piece);
    if (answer.finishReason !== undefined && (broken !== undefined || bytes === undefined)) break;
    if (bytes === undefined && !answer.done)
      throw isFragment(broken) ? incomplete() : (broken ?? incomplete());
    if (broken !== undefined) throw broken;
  }
  void drain(reader, connection);
}

/** Whether a body that ended left half an event behind, rather than an error of its own. */
const isFragment = (broken: unknown): boolean =>
  broken instanceof ModelFailure && broken.upstream.code === "malformed_json";

function eventParser(answer: Answer) {
  return createParser({
    maxBufferSize: eventCharsMax,
    onEvent({ event, data }) {
      if (answer.done) return;
      if (event === "error") throw fromErrorObject(errorIn(data));
      answer.addEvent(data);
    },
    onError(error) {
      if (answer.done) return;
      if (error.type === "max-buffer-size-exceeded")
        throw failure("model_bad_response", { code: "event_too_large" });
      // llama.cpp has sent errors as a field of their own: `error: {…}`.
      if (error.type === "unknown-field" && error.field === "error")
        throw fromErrorObject(errorIn(error.value ?? ""));
    },
  });
}

/** The error object of an error event, which some wrap in `{error: …}`. */
function errorIn(data: string): unknown {
  try {
    const value: unknown = JSON.parse(data);
    return (value as { error?: unknown } | null)?.error ?? value;
  } catch {
    return data;
  }
}

/** A server that ignores `stream: true`: the whole answer is one piece. */
async function readWhole(body: ReadableStream<Uint8Array>): Promise<ModelPiece> {
  const answer = new Answer();
  answer.addEvent(await readText(body, bodyBytesMax));
  const piece = answer.take();
  if (piece?.text === undefined && piece?.finish_reason === undefined) {
    throw failure("model_bad_response", { status: 200, code: "not_a_completion" });
  }
  return piece;
}

/** @throws ModelFailure when the body is larger than `bytesMax` */
export async function readText(body: ReadableStream<Uint8Array>, bytesMax: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) throw failure("model_bad_response", { code: "body_too_large" });
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** Reads what is left, which is usually nothing, and closes a connection that stays open. */
async function drain(reader: { read(): Promise<{ done: boolean }> }, connection: Connection): Promise<void> {
  const timer = setTimeout(connection.close, drainMs);
  try {
    while (!(await reader.read()).done);
  } catch {
    // It was closed: that is all that was wanted.
  }
  clearTimeout(timer);
}
