/** The reader of model streams by itself: however the bytes are cut, they say the same. */
import { describe, expect, test } from "bun:test";
import { createParser } from "eventsource-parser";
import fc from "fast-check";
import { readChatBody } from "../../src/models/chat-stream.ts";
import { type FinishReason, ModelFailure, type ModelUsage } from "../../src/models/model.ts";
import { frame } from "../support/model-server.ts";
import { anyCuts, anyText, bodyOf, cut, propertyOptions } from "../support/properties.ts";

interface Told {
  text: string;
  finish_reason: FinishReason | undefined;
  usage: ModelUsage | undefined;
  failure: string | undefined;
}

const idleSeconds = 60;

/** Reads a stream that comes in these chunks. Also gives the limits that were set on the way. */
async function readChunks(chunks: Uint8Array[]): Promise<Told & { limits: number[] }> {
  const told: Told = { text: "", finish_reason: undefined, usage: undefined, failure: undefined };
  const limits: number[] = [];
  const connection = {
    expectWithin: (seconds: number) => void limits.push(seconds),
    idleSeconds,
    close: () => {},
  };
  const response = new Response(bodyOf(chunks), { headers: { "content-type": "text/event-stream" } });
  try {
    await readChatBody(response, connection, (piece) => {
      told.text += piece.text ?? "";
      told.finish_reason = piece.finish_reason ?? told.finish_reason;
      told.usage = piece.usage ?? told.usage;
    });
  } catch (error) {
    if (!(error instanceof ModelFailure)) throw error;
    told.failure = `${error.code} ${JSON.stringify(error.upstream)}`;
  }
  return { ...told, limits };
}

async function readCut(bytes: Uint8Array, cuts: readonly number[]): Promise<Told> {
  const { limits: _, ...told } = await readChunks(cut(bytes, cuts));
  return told;
}

const delta = (content: string): object => ({
  choices: [{ index: 0, delta: { content }, finish_reason: null }],
});
const anyUsage = fc
  .record({ prompt_tokens: fc.nat(1_000), completion_tokens: fc.nat(1_000) })
  .map((usage) => ({ choices: [], usage }));

/** Chunks of which only some bring text, as servers mix them. */
const anyChunk: fc.Arbitrary<object> = fc.oneof(
  { weight: 6, arbitrary: anyText().map(delta) },
  { weight: 1, arbitrary: anyUsage },
  {
    weight: 2,
    arbitrary: fc.constantFrom<object[]>(
      { choices: [] },
      { choices: null },
      { id: "chatcmpl-1", created: 1 },
      { choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: "" }] },
      { choices: [{ index: 0, delta: { content: null, reasoning_content: "hm 漢" } }] },
    ),
  },
);

/** How a stream ends, if it does; what comes after `[DONE]` counts for nothing. */
const anyEnd: fc.Arbitrary<(object | string)[]> = fc
  .record({
    finish: fc.constantFrom(null, "stop", "length", "content_filter", "eos"),
    usage: fc.option(anyUsage),
    done: fc.boolean(),
    late: fc.constantFrom<(object | string)[]>([], [delta("late")], ["{ no JSON"]),
  })
  .map(({ finish, usage, done, late }) => [
    ...(finish === null ? [] : [{ choices: [{ index: 0, delta: {}, finish_reason: finish }] }]),
    ...(usage === null ? [] : [usage]),
    ...(done ? ["[DONE]", ...late] : []),
  ]);

/** Lines that say nothing, before, within and after events. */
const anyNoise = fc.array(
  fc.constantFrom(": ping", ":", ": data: {}", "id: 7", "retry: 10", "event: chunk", "foo: bar", "foo", "x:"),
  { maxLength: 2 },
);

/** The lines of an event, with its data in one line or in several. */
const anyEvent = (data: object | string): fc.Arbitrary<string[]> =>
  fc
    .record({ pretty: fc.boolean(), space: fc.constantFrom("", " "), before: anyNoise, after: anyNoise })
    .map(({ pretty, space, before, after }) => {
      const json = typeof data === "string" ? data : JSON.stringify(data, null, pretty ? 1 : 0);
      return [...before, ...json.split("\n").map((line) => `data:${space}${line}`), ...after, ""];
    });

/** A whole stream: its lines, then how each of them ends, then its bytes. */
const anyStream: fc.Arbitrary<Uint8Array> = fc
  .tuple(fc.array(anyChunk, { maxLength: 8 }), anyEnd)
  .chain(([chunks, end]) =>
    fc.record({
      events: fc.tuple(...[...chunks, ...end].map(anyEvent)),
      endings: fc.array(fc.constantFrom("\n", "\r", "\r\n"), { minLength: 1, maxLength: 7 }),
      bom: fc.boolean(),
    }),
  )
  .map(({ events, endings, bom }) => {
    let text = "";
    for (const [index, line] of events.flat().entries()) {
      const ending = endings[index % endings.length]!;
      // An LF right after a CR would belong to it, and the blank line would be none.
      text += line + (line === "" && text.endsWith("\r") && ending === "\n" ? "\r" : ending);
    }
    return new TextEncoder().encode((bom ? "\ufeff" : "") + text);
  });

const finishReasons: Record<string, FinishReason> = { length: "length", content_filter: "content_filter" };

/** What a stream says, by the events that `eventsource-parser` finds in the whole of it. */
function toldBy(bytes: Uint8Array): Told {
  const told: Told = { text: "", finish_reason: undefined, usage: undefined, failure: undefined };
  let done = false;
  const parser = createParser({
    onEvent({ data }) {
      done ||= data === "[DONE]";
      if (done) return;
      const { choices, usage } = JSON.parse(data) as {
        choices?: { delta: { content?: string | null }; finish_reason?: string | null }[] | null;
        usage?: { prompt_tokens: number; completion_tokens: number };
      };
      told.text += choices?.[0]?.delta.content ?? "";
      const finish = choices?.[0]?.finish_reason;
      if (finish) told.finish_reason = finishReasons[finish] ?? "stop";
      if (usage) {
        const total_tokens = usage.prompt_tokens + usage.completion_tokens;
        told.usage = { ...usage, total_tokens, cached_tokens: 0, reasoning_tokens: 0 };
      }
    },
  });
  parser.feed(new TextDecoder().decode(bytes));
  if (!done && told.finish_reason === undefined) told.failure = "model_stream_incomplete {}";
  return told;
}

describe("however the bytes of a stream are cut", () => {
  test("text, finish and usage are those of the events that eventsource-parser finds in the whole", async () => {
    await fc.assert(
      fc.asyncProperty(anyStream, anyCuts, async (bytes, cuts) => {
        expect(await readCut(bytes, cuts)).toEqual(toldBy(bytes));
      }),
      propertyOptions(500),
    );
  });

  test("what is broken off or garbled anywhere is told the same, as a failure of the model if as one at all", async () => {
    const garbling = fc.record({
      length: fc.nat(1_000_000),
      at: fc.nat(1_000_000),
      garbage: fc.uint8Array({ maxLength: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(anyStream, garbling, anyCuts, async (whole, { length, at, garbage }, cuts) => {
        const [kept] = cut(whole, [length]);
        const [before, after] = cut(kept!, [at]);
        const bytes = Buffer.concat([before!, garbage, after!.slice(garbage.length)]);
        expect(await readCut(bytes, cuts)).toEqual(await readCut(bytes, []));
      }),
      propertyOptions(500),
    );
  });

  test("the recorded streams of servers say the same", async () => {
    const names = ["azure", "llama-cpp", "lm-studio", "ollama", "openai", "openrouter", "vllm"] as const;
    const recorded = await Promise.all(
      names.map((name) => Bun.file(new URL(`../fixtures/streams/${name}.sse`, import.meta.url)).text()),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...recorded),
        fc.constantFrom("\n", "\r", "\r\n"),
        anyCuts,
        async (sent, ending, cuts) => {
          const told = await readCut(new TextEncoder().encode(sent), []);
          expect(told.failure).toBeUndefined();
          expect(told.text).not.toBe("");
          const bytes = new TextEncoder().encode(sent.replaceAll("\n", ending));
          expect(await readCut(bytes, cuts)).toEqual(told);
        },
      ),
      propertyOptions(200),
    );
  });
});

describe("what gives a stream more time", () => {
  const choice = (fields: object) => frame({ choices: [{ index: 0, ...fields }] });

  test.each([
    ["text", frame(delta("a")), [idleSeconds]],
    ["a refusal", choice({ delta: { refusal: "no" } }), [idleSeconds]],
    ["reasoning_content", choice({ delta: { content: null, reasoning_content: "hm" } }), [idleSeconds]],
    ["reasoning", choice({ delta: { reasoning: "hm" } }), [idleSeconds]],
    ["a tool call", choice({ delta: { tool_calls: [{ index: 0 }] } }), [idleSeconds]],
    ["usage", frame({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 1 } }), [idleSeconds]],
    ["the end, after which only usage is waited for", choice({ delta: {}, finish_reason: "stop" }), [2]],
    ["a comment, which doesn't", ": ping\n\n", []],
    ["a role, which doesn't", choice({ delta: { role: "assistant", content: "" } }), []],
    ["an empty delta, which doesn't", choice({ delta: {} }), []],
    ["no choice, which doesn't", frame({ choices: [] }), []],
    ["half an event, which doesn't", frame(delta("a")).slice(0, -2), []],
  ])("%s", async (_name, sent, expected) => {
    const { limits } = await readChunks([
      new TextEncoder().encode(sent),
      new TextEncoder().encode("data: [DONE]\n\n"),
    ]);
    expect(limits).toEqual(expected);
  });
});
