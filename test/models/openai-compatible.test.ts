import { afterAll, afterEach, describe, expect, test } from "bun:test";
import type { ModelPiece } from "../../src/models/model.ts";
import { openAiCompatible } from "../../src/models/openai-compatible.ts";
import { textFrame } from "../support/model-faults.ts";
import { type ModelOddity, modelOddities } from "../support/model-oddities.ts";
import { type Chunk, startModelServer } from "../support/model-server.ts";
import { limitsWith, read, request } from "../support/models.ts";
import { SeenText } from "../support/seen-text.ts";
import { until } from "../support/service.ts";

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
        usage: {
          prompt_tokens: 9,
          completion_tokens: 2,
          total_tokens: 11,
          cached_tokens: 0,
          reasoning_tokens: 0,
        },
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
      usage: {
        prompt_tokens: 14,
        completion_tokens: 72,
        total_tokens: 86,
        cached_tokens: 0,
        reasoning_tokens: 64,
      },
    },
    {
      server: "azure",
      text: "Paris is the capital.",
      finish: "stop",
      usage: {
        prompt_tokens: 13,
        completion_tokens: 6,
        total_tokens: 19,
        cached_tokens: 0,
        reasoning_tokens: 0,
      },
    },
    {
      server: "ollama",
      text: "Bonjour 👋!",
      finish: "stop",
      usage: {
        prompt_tokens: 26,
        completion_tokens: 6,
        total_tokens: 32,
        cached_tokens: 0,
        reasoning_tokens: 0,
      },
    },
    {
      server: "llama-cpp",
      text: "Forty-two",
      finish: "length",
      usage: {
        prompt_tokens: 12,
        completion_tokens: 5,
        total_tokens: 17,
        cached_tokens: 0,
        reasoning_tokens: 0,
      },
    },
    {
      server: "vllm",
      text: "Yes, it is.",
      finish: "stop",
      usage: {
        prompt_tokens: 20,
        completion_tokens: 9,
        total_tokens: 29,
        cached_tokens: 0,
        reasoning_tokens: 0,
      },
    },
    {
      server: "openrouter",
      text: "Sure, here you go.",
      finish: "stop",
      usage: {
        prompt_tokens: 9,
        completion_tokens: 11,
        total_tokens: 20,
        cached_tokens: 0,
        reasoning_tokens: 0,
      },
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
  });

  describe.concurrent("a whole reply in an odd form", () => {
    const expectWhole = async (row: ModelOddity, message: string, chunks: Chunk[], reader: SeenText) => {
      const { text, finish_reason, usage, options } = row;
      const odd = server.to(message);
      odd.raw(chunks, options);
      const asked = request({ messages: [{ role: "user", content: message }] });
      expect(await read(modelOf(), asked, undefined, reader.add)).toMatchObject({
        text,
        finish_reason: finish_reason ?? undefined,
        usage: usage && { ...usage, cached_tokens: 0, reasoning_tokens: 0 },
        failure: undefined,
      });
      if (options?.hang) await odd.requests[0]!.closed;
    };

    test.each(modelOddities)("chunk by chunk: $form", async (row) => {
      const reader = new SeenText();
      await expectWhole(row, row.form, row.chunks(reader.seen), reader);
    });

    test.each(modelOddities)("at once: $form", async (row) => {
      const reader = new SeenText();
      const chunks = row.chunks(reader.seen).filter((chunk) => !(chunk instanceof Promise));
      const all = Buffer.concat(chunks.map((chunk) => Buffer.from(chunk as string)));
      await expectWhole(row, `${row.form}, at once`, [all], reader);
    });
  });

  test("text, usage and end, each once, as they come", async () => {
    const held = server.hold();
    const pieces: ModelPiece[] = [];
    let arrived = Promise.withResolvers<void>();
    const ended = modelOf().reply(request(), new AbortController().signal, (piece) => {
      pieces.push(piece);
      arrived.resolve();
    });
    const usage = (completion_tokens: number) =>
      `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 5, completion_tokens } })}\n\n`;
    for (const [index, chunk] of [textFrame("a") + usage(1), textFrame("b"), usage(2)].entries()) {
      held.sendRaw(chunk);
      await arrived.promise;
      expect(pieces.length).toBe(index + 1);
      arrived = Promise.withResolvers();
    }
    held.finish({ usage: { prompt_tokens: 5, completion_tokens: 3 } });
    await ended;
    const counted = (completion_tokens: number) => ({
      prompt_tokens: 5,
      completion_tokens,
      total_tokens: 5 + completion_tokens,
      cached_tokens: 0,
      reasoning_tokens: 0,
    });
    expect(pieces).toEqual([
      { text: "a", usage: counted(1) },
      { text: "b" },
      { usage: counted(2) },
      { finish_reason: "stop", usage: counted(3) },
    ]);
  });

  test("a whole reply, where the connection breaks after finish_reason", async () => {
    const told = Promise.withResolvers<void>();
    const end = `data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n`;
    server.raw([end, told.promise], { reset: true });
    const outcome = await read(modelOf(), request(), undefined, () => told.resolve());
    expect(outcome).toMatchObject({ text: "a", finish_reason: "stop", failure: undefined });
  });
});

describe("the connection", () => {
  /** A reply's end is read in the background, so it takes a moment until the connection is free again. */
  const untilReused = (ask: () => Promise<void>): Promise<void> =>
    until("a connection has served two requests", async () => {
      await ask();
      const [before, last] = server.requests.slice(-2);
      return last !== undefined && before!.closed === last.closed;
    });

  test("serves the next request after a whole reply", async () => {
    const model = modelOf();
    await untilReused(async () => {
      server.reply(["one"]);
      expect((await read(model)).text).toBe("one");
    });
  });

  test("serves the next request where the end of the body comes a moment after [DONE]", async () => {
    const model = modelOf();
    await untilReused(async () => {
      const held = server.hold();
      held.send("one");
      held.sendRaw(`data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n`);
      expect((await read(model)).text).toBe("one");
      held.end();
    });
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
});
