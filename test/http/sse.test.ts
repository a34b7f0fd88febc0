/** Parley's own streams: however their bytes are cut on the way, every reader gets the reply. */
import { describe, expect, test } from "bun:test";
import type { EventSourceMessage } from "eventsource-parser";
import fc from "fast-check";
import { Reply } from "../../src/chat/reply.ts";
import { readEvents } from "../../src/cli/chat-client.ts";
import { tail } from "../../src/http/sse.ts";
import { anyCuts, anyText, bodyOf, cut, propertyOptions } from "../support/properties.ts";
import { readSse, toTranscript } from "../support/sse.ts";
import { endedTurn } from "../support/turns.ts";

const lengthMax = 100_000;

/** A piece of a reply, sometimes half a surrogate pair or more than fits into one event; and whether a view may see it alone. */
const anyPiece = fc.record({
  text: fc.oneof(
    { weight: 8, arbitrary: anyText() },
    { weight: 1, arbitrary: fc.constantFrom("\ud83d", "\ude00", "a\ud83d") },
    { weight: 1, arbitrary: fc.constantFrom("😀".repeat(10_001), "a".repeat(16_384)) },
  ),
  alone: fc.boolean(),
});

/** The frames of a reply that grows by these pieces while it is watched from an offset on. */
async function framesOf(pieces: { text: string; alone: boolean }[], offset: number) {
  const reply = new Reply();
  const frames = Array.fromAsync(
    tail({ turn: endedTurn(""), reply }, offset, new AbortController().signal, () => {}),
  );
  for (const { text, alone } of pieces) {
    reply.append(text, lengthMax);
    // The view runs in between.
    if (alone) for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  }
  reply.finish(lengthMax);
  reply.end(endedTurn(reply.text));
  return { frames: await frames, text: reply.text };
}

const readers: [name: string, read: (body: ReadableStream<Uint8Array>) => Promise<EventSourceMessage[]>][] = [
  ["eventsource-parser", (body) => readSse(new Response(body))],
  [
    "the reader of parley chat",
    (body) =>
      Array.fromAsync(
        readEvents(
          body,
          new AbortController(),
          setTimeout(() => {}, 60_000),
        ),
      ),
  ],
];

describe("however the bytes of a stream are cut", () => {
  test.each(readers)("%s gets the reply, from any offset, and then done", async (_name, read) => {
    const anyPieces = fc.array(anyPiece, { maxLength: 12 });
    const anyHeartbeats = fc.array(fc.nat(12), { maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(anyPieces, fc.nat(1_000_000), anyHeartbeats, anyCuts, async (...input) => {
        const [pieces, from, heartbeats, cuts] = input;
        const { text: whole } = await framesOf(pieces, 0);
        const offset = Math.round((from / 1_000_000) * whole.length);
        const { frames } = await framesOf(pieces, offset);
        for (const place of heartbeats) frames.splice(place, 0, ": heartbeat\n\n");
        const bytes = new TextEncoder().encode(frames.join(""));
        const { text, start, startId, done } = toTranscript(await read(bodyOf(cut(bytes, cuts))));
        expect(text).toBe(whole.slice(offset));
        expect(startId).toBe(`${start.turn_id}:${offset}`);
        expect(done).toMatchObject({ status: "completed", length: whole.length, error: null });
      }),
      propertyOptions(200),
    );
  });
});
