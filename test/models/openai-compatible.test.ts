import { afterAll, afterEach, describe, expect, test } from "bun:test";
import type { ModelPiece } from "../../src/models/model.ts";
import { openAiCompatible } from "../../src/models/openai-compatible.ts";
import { startModelServer } from "../support/model-server.ts";
import { limitsWith, read, request } from "../support/models.ts";

const server = startModelServer();
afterAll(() => server.close());
afterEach(() => {
  server.requests.length = 0;
});

const fixture = (name: string): Promise<Uint8Array> =>
  Bun.file(new URL(`../fixtures/streams/${name}.sse`, import.meta.url)).bytes();

const target = { model: "test-model", baseUrl: server.url, apiKey: "sk-test" };
const modelOf = (changes: Partial<typeof target> = {}, limits = limitsWith()) =>
  openAiCompatible({ ...target, ...changes }, limits);

describe("what is asked", () => {
  test("the configured model, streaming, with usage", async () => {
    server.reply(["Hi"]);
    await read(modelOf());
    const [asked] = server.requests;
    expect(asked!.method).toBe("POST");
    expect(asked!.path).toBe("/v1/chat/completions");
    expect(asked!.body).toEqual({
      model: "test-model",
      messages: [{ role: "user", content: "Hello?" }],
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  test("another model, a temperature and a limit where the request has them", async () => {
    server.reply(["Hi"]);
    await read(modelOf(), request({ model: "other", temperature: 0, max_tokens: 5 }));
    expect(server.requests[0]!.body).toMatchObject({ model: "other", temperature: 0, max_tokens: 5 });
  });

  test("with the key as a bearer token", async () => {
    server.reply(["Hi"]);
    await read(modelOf());
    expect(server.requests[0]!.headers.get("authorization")).toBe("Bearer sk-test");
    expect(server.requests[0]!.headers.has("api-key")).toBe(false);
  });

  test("without a key: no Authorization at all", async () => {
    server.reply(["Hi"]);
    await read(openAiCompatible({ ...target, apiKey: null }, limitsWith()));
    expect(server.requests[0]!.headers.has("authorization")).toBe(false);
  });

  test("at a gateway whose base URL has a query: the query is kept", async () => {
    server.reply(["Hi"]);
    await read(modelOf({ baseUrl: `${server.url}/openai/deployments/d?api-version=2024-10-21` }));
    expect(server.requests[0]!.path).toBe("/v1/openai/deployments/d/chat/completions?api-version=2024-10-21");
  });

  test("again without stream_options from a server that refuses them, and never with them after", async () => {
    const model = modelOf();
    const message = "Unrecognized request argument supplied: stream_options";
    server.status(400, { body: { error: { message, type: "invalid_request_error" } } });
    server.reply(["one"]);
    server.reply(["two"]);
    expect((await read(model)).text).toBe("one");
    expect((await read(model)).text).toBe("two");
    expect(server.requests.map(({ body }) => body.stream && body.stream_options !== undefined)).toEqual([
      true,
      false,
      false,
    ]);
  });

  test("the same where several requests learn it at once", async () => {
    const { promise: allRefused, resolve: refuse } = Promise.withResolvers<void>();
    let refusals = 0;
    const strict = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      async fetch(asked) {
        if ("stream_options" in ((await asked.json()) as object)) {
          if (++refusals === 3) refuse();
          await allRefused;
          return Response.json({ error: { message: "unknown field: stream_options" } }, { status: 400 });
        }
        return new Response(await fixture("lm-studio"), { headers: { "content-type": "text/event-stream" } });
      },
    });
    const model = modelOf({ baseUrl: `http://127.0.0.1:${strict.port}/v1` });
    const outcomes = await Promise.all([read(model), read(model), read(model)]);
    expect(outcomes.map(({ text }) => text)).toEqual(["Hi there!", "Hi there!", "Hi there!"]);
    await strict.stop(true);
  });

  test("again with max_completion_tokens from a server that refuses max_tokens", async () => {
    const model = modelOf();
    const message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
    const error = {
      message,
      type: "invalid_request_error",
      param: "max_tokens",
      code: "unsupported_parameter",
    };
    server.status(400, { body: { error } });
    server.reply(["Hi"]);
    await read(model, request({ max_tokens: 7 }));
    expect(server.requests[1]!.body.max_completion_tokens).toBe(7);
    expect(server.requests[1]!.body.max_tokens).toBeUndefined();
  });

  test("once only: a refusal of anything else is final", async () => {
    server.status(400, { body: { error: { message: "messages: too long", type: "invalid_request_error" } } });
    expect((await read(modelOf())).failure?.code).toBe("model_rejected");
    expect(server.requests.length).toBe(1);
  });
});

describe("what is answered", () => {
  test("pieces as they come, the finish and the usage", async () => {
    const held = server.hold();
    const pieces: ModelPiece[] = [];
    let arrived = Promise.withResolvers<void>();
    const ended = modelOf().reply(request(), new AbortController().signal, (piece) => {
      pieces.push(piece);
      arrived.resolve();
    });
    held.send("Hel");
    await arrived.promise;
    expect(pieces).toEqual([{ text: "Hel" }]);
    arrived = Promise.withResolvers();
    held.send("lo");
    await arrived.promise;
    expect(pieces[1]).toEqual({ text: "lo" });
    held.finish({ usage: { prompt_tokens: 9, completion_tokens: 2 } });
    await ended;
    expect(pieces.slice(2)).toEqual([
      {
        finish_reason: "stop",
        usage: { prompt_tokens: 9, completion_tokens: 2, total_tokens: 11, reasoning_tokens: 0 },
      },
    ]);
  });

  test("everything that comes in one network chunk is one piece", async () => {
    server.raw([await fixture("openai")]);
    const { pieces } = await read(modelOf());
    expect(pieces.length).toBe(1);
    expect(pieces[0]!.text).toBe("The capital of France is Paris.");
  });

  const recorded = [
    {
      server: "openai",
      text: "The capital of France is Paris.",
      finish: "stop",
      usage: { prompt_tokens: 14, completion_tokens: 72, total_tokens: 86, reasoning_tokens: 64 },
    },
    {
      server: "azure",
      text: "Paris is the capital.",
      finish: "stop",
      usage: { prompt_tokens: 13, completion_tokens: 6, total_tokens: 19, reasoning_tokens: 0 },
    },
    {
      server: "ollama",
      text: "Bonjour 👋!",
      finish: "stop",
      usage: { prompt_tokens: 26, completion_tokens: 6, total_tokens: 32, reasoning_tokens: 0 },
    },
    {
      server: "llama-cpp",
      text: "Forty-two",
      finish: "length",
      usage: { prompt_tokens: 12, completion_tokens: 5, total_tokens: 17, reasoning_tokens: 0 },
    },
    {
      server: "vllm",
      text: "Yes, it is.",
      finish: "stop",
      usage: { prompt_tokens: 20, completion_tokens: 9, total_tokens: 29, reasoning_tokens: 0 },
    },
    {
      server: "openrouter",
      text: "Sure, here you go.",
      finish: "stop",
      usage: { prompt_tokens: 9, completion_tokens: 11, total_tokens: 20, reasoning_tokens: 0 },
    },
    { server: "lm-studio", text: "Hi there!", finish: "stop", usage: undefined },
  ] as const;

  describe.each(recorded)("the stream of $server", ({ server: name, text, finish, usage }) => {
    const expected = { text, finish_reason: finish, usage, failure: undefined };

    test("as it was sent", async () => {
      server.raw([await fixture(name)]);
      expect(await read(modelOf())).toMatchObject(expected);
    });

    test.each([
      ["CRLF", "\r\n"],
      ["CR", "\r"],
    ])("with %s at the line ends", async (_name, ending) => {
      const sent = new TextDecoder().decode(await fixture(name)).replaceAll("\n", ending);
      server.raw([sent]);
      expect(await read(modelOf())).toMatchObject(expected);
    });

    test("in network chunks that end anywhere, also inside a character", async () => {
      const bytes = await fixture(name);
      const chunks: Uint8Array[] = [];
      // A prime step, so that the cuts fall on different places of the frames.
      for (let at = 0; at < bytes.length; at += 61) chunks.push(bytes.slice(at, at + 61));
      server.raw(chunks, { delayMs: 1 });
      const outcome = await read(modelOf());
      expect(outcome).toMatchObject(expected);
      expect(outcome.text).not.toContain("\ufffd");
    });
  });

  test("a character split across network chunks is whole", async () => {
    const bytes = new TextEncoder().encode(
      `data: {"choices":[{"index":0,"delta":{"content":"👋"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n`,
    );
    const middle = bytes.indexOf(0xf0) + 2;
    server.raw([bytes.slice(0, middle), bytes.slice(middle)], { delayMs: 20 });
    expect((await read(modelOf())).text).toBe("👋");
  });

  test("a server that ignores stream: true is one piece", async () => {
    const completion = {
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content: "All at once" }, finish_reason: "stop" }],
      usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 },
    };
    server.raw([JSON.stringify(completion)], { contentType: "application/json; charset=utf-8" });
    const { pieces, failure } = await read(modelOf());
    expect(failure).toBeUndefined();
    expect(pieces).toEqual([
      {
        text: "All at once",
        finish_reason: "stop",
        usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7, reasoning_tokens: 0 },
      },
    ]);
  });

  const chunk = (choice: object): string => `data: ${JSON.stringify({ choices: [choice] })}\n\n`;
  const text = (content: string) => chunk({ index: 0, delta: { content }, finish_reason: null });
  const end = (reason: string | null, delta: object = {}) =>
    chunk({ index: 0, delta, finish_reason: reason });

  test.each<
    [string, string[], { text: string; finish_reason?: "stop" | "length" | "content_filter" | undefined }]
  >([
    ["choices that are empty", [`data: {"choices":[]}\n\n`, text("a"), end("stop")], { text: "a" }],
    ["choices that are null", [`data: {"choices":null}\n\n`, text("a"), end("stop")], { text: "a" }],
    ["choices that are absent", [`data: {"id":"x"}\n\n`, text("a"), end("stop")], { text: "a" }],
    ["a choice without delta", [chunk({ index: 0 }), text("a"), end("stop")], { text: "a" }],
    [
      "content that is null beside reasoning",
      [chunk({ delta: { content: null, reasoning_content: "hm" } }), text("a"), end("stop")],
      { text: "a", finish_reason: "stop" },
    ],
    [
      'finish_reason "" until the end',
      [chunk({ delta: { content: "a" }, finish_reason: "" }), text("b"), end("stop")],
      { text: "ab", finish_reason: "stop" },
    ],
    [
      "text in the length chunk",
      [text("a"), end("length", { content: "b" })],
      { text: "ab", finish_reason: "length" },
    ],
    ["content_filter", [text("a"), end("content_filter")], { text: "a", finish_reason: "content_filter" }],
    [
      "a refusal",
      [chunk({ delta: { refusal: "I can't " } }), chunk({ delta: { refusal: "help." } }), end("stop")],
      { text: "I can't help.", finish_reason: "content_filter" },
    ],
    [
      "tool_calls, which were not asked for",
      [text("a"), end("tool_calls")],
      { text: "a", finish_reason: "stop" },
    ],
    ["a reason of its own", [text("a"), end("eos_token")], { text: "a", finish_reason: "stop" }],
    [
      "content in parts, with the thinking left out",
      [
        chunk({ delta: { content: [{ type: "thinking", thinking: [{ type: "text", text: "hm" }] }] } }),
        chunk({ delta: { content: [{ type: "text", text: "a" }] } }),
        end("stop"),
      ],
      { text: "a" },
    ],
    ["comment lines anywhere", [": ping\n", text("a"), ":\n\n", end("stop"), ": bye\n\n"], { text: "a" }],
    ["[DONE] and no finish_reason", [text("a"), "data: [DONE]\n\n"], { text: "a", finish_reason: undefined }],
    ["finish_reason and no [DONE]", [text("a"), end("stop")], { text: "a", finish_reason: "stop" }],
    [
      "no blank line after the last event",
      [text("a"), end("stop").trimEnd()],
      { text: "a", finish_reason: "stop" },
    ],
    ["a byte order mark", ["\ufeff", text("a"), end("stop")], { text: "a" }],
  ])("takes %s", async (_name, frames, expected) => {
    server.raw([frames.join("")]);
    const together = await read(modelOf());
    server.raw(frames, { delayMs: 2 });
    const apart = await read(modelOf());
    for (const outcome of [together, apart]) {
      expect(outcome.failure).toBeUndefined();
      expect(outcome).toMatchObject(expected);
    }
  });

  test("of cumulative usage the last one counts", async () => {
    const usage = (completion_tokens: number) =>
      `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 5, completion_tokens } })}\n\n`;
    server.raw([text("a"), usage(1), text("b"), usage(2), end("stop"), usage(3), "data: [DONE]\n\n"], {
      delayMs: 2,
    });
    const { usage: last, pieces } = await read(modelOf());
    expect(last).toEqual({ prompt_tokens: 5, completion_tokens: 3, total_tokens: 8, reasoning_tokens: 0 });
    // Each part is told once.
    expect(pieces.map((piece) => piece.usage?.completion_tokens).filter(Boolean)).toEqual([1, 2, 3]);
    expect(pieces.map((piece) => piece.finish_reason).filter(Boolean)).toEqual(["stop"]);
    expect(pieces.map((piece) => piece.text).filter(Boolean)).toEqual(["a", "b"]);
  });
});

describe("the connection", () => {
  test("serves the next request after a whole reply", async () => {
    const model = modelOf();
    for (const reply of ["one", "two", "three"]) {
      server.reply([reply]);
      expect((await read(model)).text).toBe(reply);
      // The rest of the body is drained in the background.
      await Bun.sleep(20);
    }
    expect(new Set(server.requests.map(({ closed }) => closed)).size).toBe(1);
  });

  test("serves the next request where the end of the body comes a moment after [DONE]", async () => {
    const model = modelOf();
    for (const reply of ["one", "two"]) {
      const held = server.hold();
      held.send(reply);
      held.sendRaw(`data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n`);
      expect((await read(model)).text).toBe(reply);
      await Bun.sleep(20);
      held.end();
      await Bun.sleep(20);
    }
    expect(new Set(server.requests.map(({ closed }) => closed)).size).toBe(1);
  });

  test("is closed when the caller aborts, and the signal's reason is thrown", async () => {
    const held = server.hold();
    const stop = new AbortController();
    const outcome = read(modelOf(), request(), stop.signal).catch((error: unknown) => error);
    held.send("some");
    const asked = await held.request;
    stop.abort("stopped");
    expect(await outcome).toBe("stopped");
    await asked.closed;
  });

  test("is closed when the caller aborts before the headers", async () => {
    server.silence();
    const stop = new AbortController();
    const outcome = read(modelOf(), request(), stop.signal).catch((error: unknown) => error);
    await server.received(1);
    stop.abort("stopped");
    expect(await outcome).toBe("stopped");
    await server.requests[0]!.closed;
  });

  test("is never opened for a signal that was aborted before", async () => {
    const outcome = await read(modelOf(), request(), AbortSignal.abort("gone")).catch(
      (error: unknown) => error,
    );
    expect(outcome).toBe("gone");
    expect(server.requests.length).toBe(0);
  });

  test("is closed when the caller aborts in the middle of a piece", async () => {
    const held = server.hold();
    const stop = new AbortController();
    held.send("some");
    const reading = modelOf().reply(request(), stop.signal, () => stop.abort("enough"));
    expect(await reading.catch((error: unknown) => error)).toBe("enough");
    await (await held.request).closed;
  });

  test("is closed soon after [DONE] where the server leaves it open; the reply ends at once", async () => {
    const sent = `data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n`;
    server.raw([sent], { hang: true });
    expect(await read(modelOf())).toMatchObject({ text: "a", finish_reason: "stop", failure: undefined });
    expect(await Promise.race([server.requests[0]!.closed.then(() => "closed"), "open"])).toBe("open");
    await server.requests[0]!.closed;
  });

  test("after finish_reason waits only a moment for usage where the server leaves it open", async () => {
    server.raw([`data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n`], { hang: true });
    expect(await read(modelOf())).toMatchObject({ text: "a", finish_reason: "stop", failure: undefined });
    await server.requests[0]!.closed;
  });
});
