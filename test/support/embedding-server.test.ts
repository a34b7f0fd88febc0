import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import OpenAI from "openai";
import { type EmbeddingServer, startEmbeddingServer } from "./embedding-server.ts";
import { vectorOf } from "./embedding-vectors.ts";

let server: EmbeddingServer;
let client: OpenAI;

beforeEach(() => {
  server = startEmbeddingServer();
  client = new OpenAI({ apiKey: "test", baseURL: server.url, maxRetries: 0 });
});
afterEach(() => server.close());

const model = "test-embedding";
const texts = ["The ferry sails at nine.", "我要去深圳出差", "A cat, asleep"];

const ask = (body: object): Promise<Response> =>
  fetch(`${server.url}/embeddings`, { method: "POST", body: JSON.stringify({ model, ...body }) });

const cosine = (a: string, b: string): number => {
  const [left, right] = [vectorOf(a), vectorOf(b)];
  return left.reduce((sum, value, index) => sum + value * right[index]!, 0);
};

const length = (vector: number[]): number => Math.hypot(...vector);

describe("the embedding server, to the official client", () => {
  test("answers a batch in its order, in floats and in base64 alike", async () => {
    const floats = await client.embeddings.create({ model, input: texts, encoding_format: "float" });
    // The client asks for base64 by itself, and decodes it.
    const decoded = await client.embeddings.create({ model, input: texts });
    expect(server.requests.map(({ body }) => body.encoding_format)).toEqual(["float", "base64"]);
    for (const { data, object, model: named } of [floats, decoded]) {
      expect([object, named]).toEqual(["list", model]);
      expect(data.map(({ index, object }) => [index, object])).toEqual([
        [0, "embedding"],
        [1, "embedding"],
        [2, "embedding"],
      ]);
      for (const [index, { embedding }] of data.entries())
        expect([...embedding]).toEqual(vectorOf(texts[index]!));
    }
  });

  test("answers a single text, and shortens vectors to the dimensions asked for", async () => {
    const { data } = await client.embeddings.create({ model, input: texts[0]!, dimensions: 64 });
    expect(data).toHaveLength(1);
    expect(data[0]!.embedding).toHaveLength(64);
    expect(length([...data[0]!.embedding])).toBeCloseTo(1, 5);
  });

  test("counts tokens of all texts together", async () => {
    const usages = [];
    for (const input of [texts[0]!, texts[2]!, [texts[0]!, texts[2]!]])
      usages.push((await client.embeddings.create({ model, input })).usage);
    const [first, second, both] = usages;
    expect(first!.prompt_tokens).toBeGreaterThan(3);
    expect(both!.prompt_tokens).toBe(first!.prompt_tokens + second!.prompt_tokens);
    expect(both!.total_tokens).toBe(both!.prompt_tokens);
  });

  test.each([
    ["nothing", { input: [] }, "input"],
    ["an empty text", { input: ["a", ""] }, "input"],
    ["more than 2,048 texts", { input: Array(2049).fill("a") }, "input"],
    ["a text of more than 8,192 tokens", { input: " word".repeat(9000) }, "input"],
    ["more than 300,000 tokens", { input: Array(40).fill(" word".repeat(8000)) }, "input"],
    ["tokens, which it doesn't take", { input: [1, 2] }, "input"],
    ["more dimensions than it has", { input: "a", dimensions: 1025 }, "dimensions"],
    ["an unknown encoding", { input: "a", encoding_format: "int8" }, "encoding_format"],
  ])("refuses %s", async (_, body, param) => {
    const answer = await ask(body);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { type: "invalid_request_error", param } });
  });
});

describe("its faults", () => {
  test("are taken one for each request, then it answers well", async () => {
    server.status(429, { headers: { "Retry-After": "7" } });
    server.status(500, { body: { error: { message: "mine" } } });
    const refused = await ask({ input: "a" });
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "7"]);
    const failed = await ask({ input: "a" });
    expect([failed.status, await failed.json()]).toEqual([500, { error: { message: "mine" } }]);
    expect((await ask({ input: "a" })).status).toBe(200);
  });

  test("stay, where they are made the default", async () => {
    server.default((script) => script.status(503));
    server.answer();
    const statuses = [];
    for (let count = 0; count < 3; count += 1) statuses.push((await ask({ input: "a" })).status);
    expect(statuses).toEqual([200, 503, 503]);
  });

  test("can be vectors of the wrong length, in both encodings", async () => {
    server.dimensions(255);
    server.dimensions(300);
    const float = await client.embeddings.create({ model, input: texts, encoding_format: "float" });
    expect(float.data.map(({ embedding }) => embedding.length)).toEqual([255, 255, 255]);
    const base64 = await client.embeddings.create({ model, input: texts });
    expect(base64.data.map(({ embedding }) => embedding.length)).toEqual([300, 300, 300]);
  });

  test("can be anything that is made of a good answer", async () => {
    server.change((answer, { input }) => ({ ...answer, data: answer.data.slice(1), asked: input }));
    const { data, asked } = (await (await ask({ input: texts })).json()) as {
      data: { index: number }[];
      asked: string[];
    };
    expect(data.map(({ index }) => index)).toEqual([1, 2]);
    expect(asked).toEqual(texts);
  });

  test("can be garbage", async () => {
    server.raw("<html>Bad gateway</html>", "text/html");
    const answer = await ask({ input: "a" });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "text/html"]);
    expect(await answer.text()).toBe("<html>Bad gateway</html>");
  });

  test("can be lateness: by a time, or until the test lets it go on", async () => {
    server.delay(50);
    const startedAt = performance.now();
    expect((await ask({ input: "a" })).status).toBe(200);
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(49);

    const held = server.hold();
    let answered = false;
    const late = ask({ input: "late" }).then((answer) => {
      answered = true;
      return answer;
    });
    expect((await held.request).body.input).toBe("late");
    // Another one comes back meanwhile.
    await ask({ input: "b" });
    expect(answered).toBe(false);
    held.release();
    expect((await late).status).toBe(200);
  });

  test("can be silence, which ends when the client gives up", async () => {
    server.silence();
    const abort = new AbortController();
    const unanswered = fetch(`${server.url}/embeddings`, {
      method: "POST",
      body: JSON.stringify({ model, input: "a" }),
      signal: abort.signal,
    });
    await server.received(1);
    abort.abort();
    await expect(unanswered).rejects.toThrow();
    await server.requests[0]!.closed;
  });

  test("can be a cut connection", async () => {
    server.reset();
    const failure = await client.embeddings.create({ model, input: "a" }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(OpenAI.APIConnectionError);
    expect((await ask({ input: "a" })).status).toBe(200);
  });
});

describe("vectors", () => {
  test("have length 1, whatever the text", () => {
    for (const text of [...texts, "a", "!?", "the of and", "word ".repeat(5000), "\u0000\ud800"])
      expect(length(vectorOf(text)), text.slice(0, 20)).toBeCloseTo(1, 5);
  });

  test("are the same each time, on every machine", () => {
    const recorded = [0, 0.011793, 0.081704, 0.011793, -0.023586];
    for (const [index, value] of recorded.entries())
      expect(vectorOf("The ferry sails at nine.")[index]).toBeCloseTo(value, 5);
  });

  const question = "When does the ferry leave?";
  test.each([
    ["the same words", "The ferry leaves at nine in the morning."],
    ["other forms of the words", "Ferries leaving early are full."],
    ["a synonym", "The boat sails at nine."],
    ["a misspelling", "the fery leavs at nine"],
    ["another language's word for it", "Le bateau part à neuf heures."],
  ])("of a question and of a text with %s are nearer than that of another text", (_, text) => {
    const others = ["Beat the egg whites until they are stiff.", "Signed by the head of engineering."];
    for (const other of others)
      expect(cosine(question, text)).toBeGreaterThan(cosine(question, other) + 0.05);
  });

  test("of a word's forms are near, and those of a misspelt word not far", () => {
    expect(cosine("installing", "installed")).toBeGreaterThan(0.5);
    expect(cosine("certificate", "certifcate")).toBeGreaterThan(0.1);
    expect(Math.abs(cosine("certificate", "mountain"))).toBeLessThan(0.1);
  });

  test("tell texts in scripts without spaces apart", () => {
    expect(cosine("年假可以留到明年吗", "没有用完的年假最多可以留五天到下一年")).toBeGreaterThan(
      cosine("年假可以留到明年吗", "不想爬山的客人可以坐电瓶车") + 0.1,
    );
  });

  test("are nearly at right angles where nothing is shared", () => {
    expect(Math.abs(cosine("purple elephant", "quick frost"))).toBeLessThan(0.25);
  });
});
