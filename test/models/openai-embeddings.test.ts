/** Embeddings over the real protocol: batches, both forms of vectors, and every way in which a server can fail. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ModelFailure } from "../../src/models/model.ts";
import { openAiEmbeddings } from "../../src/models/openai-embeddings.ts";
import { type EmbeddingServer, startEmbeddingServer } from "../support/embedding-server.ts";
import { vectorDimensions, vectorOf } from "../support/embedding-vectors.ts";
import { limitsWith } from "../support/models.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let server: EmbeddingServer;
beforeEach(() => {
  server = startEmbeddingServer();
});
afterEach(() => server.close());

const unaborted = new AbortController().signal;
const modelOf = (limits: Parameters<typeof limitsWith>[0] = {}, apiKey: string | null = "secret-key") =>
  openAiEmbeddings({ model: "test-embedding", baseUrl: server.url, apiKey }, limitsWith(limits));

const embed = (texts: string[], model = modelOf()): Promise<Float32Array[]> => model.embed(texts, unaborted);

async function failureOf(promise: Promise<unknown>): Promise<ModelFailure> {
  const error = await promise.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ModelFailure);
  return error as ModelFailure;
}

const closeTo = (vector: Float32Array, text: string): void => {
  const expected = vectorOf(text);
  expect(vector).toHaveLength(expected.length);
  const cosine = vector.reduce((sum, value, index) => sum + value * expected[index]!, 0);
  expect(cosine).toBeCloseTo(1, 4);
};

describe("vectors", () => {
  test("come for each text, in order, in requests of 32, asked for in base64", async () => {
    const texts = Array.from({ length: 70 }, (_, index) => `text number ${index}`);
    const model = modelOf();
    expect(model.dimensions).toBeNull();
    const vectors = await embed(texts, model);
    expect(model.dimensions).toBe(vectorDimensions);
    expect(vectors).toHaveLength(70);
    vectors.forEach((vector, index) => {
      closeTo(vector, texts[index]!);
    });
    expect(server.requests.map(({ body }) => body.input.length)).toEqual([32, 32, 6]);
    for (const { body, headers } of server.requests) {
      expect(body).toMatchObject({ model: "test-embedding", encoding_format: "base64" });
      expect(headers.get("authorization")).toBe("Bearer secret-key");
    }
  });

  test("are of length 1, whatever the server's are", async () => {
    server.change(({ data, ...answer }) => ({
      ...answer,
      data: data.map((item) => ({ ...item, embedding: [3, 0, 4] })),
    }));
    expect([...(await embed(["a"]))[0]!]).toEqual([0.6, 0, 0.8].map(Math.fround));
  });

  test("come in the order of the texts where the server answers in another one", async () => {
    server.change(({ data, ...answer }) => ({ ...answer, data: data.toReversed() }));
    const [first, second] = await embed(["the first text", "another one"]);
    closeTo(first!, "the first text");
    closeTo(second!, "another one");
  });

  test("in decimals are understood, from a server that gives nothing else or no index", async () => {
    server.change(({ data, ...answer }) => ({
      ...answer,
      data: data.map(() => ({ embedding: vectorOf("a text") })),
    }));
    closeTo((await embed(["a text"]))[0]!, "a text");
  });

  test("are asked for without a format from then on, where the server refuses it", async () => {
    const model = modelOf();
    const body = { error: { message: "encoding_format is not supported", type: "invalid_request_error" } };
    server.status(400, { body });
    closeTo((await embed(["a text"], model))[0]!, "a text");
    await embed(["another"], model);
    expect(server.requests.map(({ body }) => body.encoding_format)).toEqual(["base64", undefined, undefined]);
  });

  test("are asked for without a key where there is none", async () => {
    await embed(["a"], modelOf({}, null));
    expect(server.requests[0]!.headers.has("authorization")).toBe(false);
  });
});

describe("an answer that makes no sense is a bad response", () => {
  const first = (embedding: unknown) => () =>
    server.change(({ data, ...answer }) => ({
      ...answer,
      data: data.map((item, index) => (index === 0 ? { ...item, embedding } : item)),
    }));
  const cases: [what: string, script: () => void, code: string][] = [
    ["a page", () => server.raw("<html>", "text/html"), "html"],
    ["text", () => server.raw("hello", "text/plain"), "not_json"],
    ["half of it", () => server.raw('{"data":[{'), "malformed_json"],
    ["null", () => server.raw("null"), "wrong_count"],
    [
      "a vector missing",
      () => server.change(({ data, ...answer }) => ({ ...answer, data: data.slice(1) })),
      "wrong_count",
    ],
    [
      "one text's vector twice",
      () => server.change(({ data, ...a }) => ({ ...a, data: data.map((item) => ({ ...item, index: 0 })) })),
      "wrong_indexes",
    ],
    [
      "a vector of a text that wasn't sent",
      () => server.change(({ data, ...a }) => ({ ...a, data: data.map((item) => ({ ...item, index: 7 })) })),
      "wrong_indexes",
    ],
    ["a vector of nothing", first(null), "not_a_vector"],
    ["an empty vector", first([]), "not_a_vector"],
    ["a vector without direction", first([0, 0, 0]), "not_a_vector"],
    ["words in a vector", first([1, "NaN", 2]), "not_a_vector"],
    ["half a number in base64", first("AAAAAAA="), "not_a_vector"],
    [
      "not a number in base64",
      first(Buffer.from(new Float32Array([1, Number.NaN]).buffer).toString("base64")),
      "not_a_vector",
    ],
    ["a vector that is shorter than the others", first([1, 2, 3]), "wrong_dimensions"],
  ];
  test.each(cases)("%s", async (_what, script, code) => {
    script();
    const failure = await failureOf(embed(["one", "two"]));
    expect([failure.code, failure.upstream.code]).toEqual(["model_bad_response", code]);
  });

  test("vectors of another length than before", async () => {
    const model = modelOf();
    await embed(["one"], model);
    server.dimensions(vectorDimensions - 1);
    expect((await failureOf(embed(["two"], model))).upstream.code).toBe("wrong_dimensions");
    expect(model.dimensions).toBe(vectorDimensions);
  });

  test("an error in place of the answer", async () => {
    server.raw('{"error":{"message":"SECRET","type":"overloaded_error"}}');
    const failure = await failureOf(embed(["one"]));
    expect(failure.code).toBe("model_overloaded");
    expect(JSON.stringify([failure.message, failure.upstream])).not.toContain("SECRET");
  });
});

describe("a server that fails", () => {
  test.each([
    [401, "model_rejected"],
    [404, "model_rejected"],
    [429, "model_overloaded"],
    [500, "model_bad_response"],
    [503, "model_overloaded"],
  ] as const)("with %d is told by %s", async (status, code) => {
    server.status(status, { headers: { "Retry-After": "7" } });
    const failure = await failureOf(embed(["one"]));
    expect([failure.code, failure.upstream.status, failure.retryAfterSeconds]).toEqual([code, status, 7]);
    expect(server.requests).toHaveLength(1);
  });

  test("by cutting the connection can't be reached, nor can one that isn't there", async () => {
    server.reset();
    expect((await failureOf(embed(["one"]))).code).toBe("model_unreachable");
    const model = modelOf();
    await server.close();
    expect((await failureOf(embed(["one"], model))).code).toBe("model_unreachable");
  });

  test("by silence has been too slow, and its connection is closed", async () => {
    server.silence();
    const failure = await failureOf(embed(["one"], modelOf({ modelFirstByteSeconds: 0.2 })));
    expect([failure.code, failure.upstream.code]).toEqual(["model_timeout", "no_answer"]);
    await server.requests[0]!.closed;
  });

  test("by a page without end is left", async () => {
    const { promise: left, resolve: leave } = Promise.withResolvers<void>();
    const body = () =>
      new ReadableStream<string>({
        pull: async (controller) => {
          controller.enqueue("<p>Wait</p>");
          await Bun.sleep(10);
        },
        cancel: () => leave(),
      });
    await using page = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () =>
        new Response(body() as unknown as ReadableStream, { headers: { "content-type": "text/html" } }),
    });
    const target = { model: "test-embedding", baseUrl: `http://127.0.0.1:${page.port}/v1`, apiKey: null };
    const failure = await failureOf(openAiEmbeddings(target, limitsWith()).embed(["one"], unaborted));
    expect(failure.upstream.code).toBe("html");
    await left;
  });

  test("to answer before the caller gives up is closed, and what is thrown is the caller's reason", async () => {
    server.silence();
    const controller = new AbortController();
    const promise = modelOf().embed(["one"], controller.signal);
    await server.received(1);
    controller.abort("enough");
    expect(await promise.catch((reason: unknown) => reason)).toBe("enough");
    await server.requests[0]!.closed;
  });
});
