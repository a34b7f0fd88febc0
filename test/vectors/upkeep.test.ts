/** Vectors are brought up to date in the background: over kill -9, for what was stored before, for another model. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  type EmbeddingBody,
  type EmbeddingServer,
  startEmbeddingServer,
} from "../support/embedding-server.ts";
import { addDocument } from "../support/library.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";
import { wholeTurn } from "../support/turns.ts";
import { untilEmbedded, vectorsIn } from "../support/vectors.ts";

// Several processes, one after the other.
setDefaultTimeout(2 * testMsMax);

let model: ModelServer;
let embeddings: EmbeddingServer;
beforeAll(() => {
  model = startModelServer();
  embeddings = startEmbeddingServer();
});
afterAll(async () => {
  await model.close();
  await embeddings.close();
});

const env = (name: string, server: { url: string } = embeddings) => ({
  PARLEY_EMBEDDING_MODEL: `${name}@${server.url}`,
});

/** A document of many passages, each about a number. */
const manual = (sections: number): string =>
  Array.from(
    { length: sections },
    (_, index) =>
      `# Part ${index}\n\nPart ${index} of the engine, ${"which is oiled and cleaned, ".repeat(8)}`,
  ).join("\n\n");

/** Starts a new process and waits until it has looked at everything that was stored before. */
async function restartAndWalk(service: Service, env: Record<string, string> = {}): Promise<void> {
  const from = service.logs.length;
  await service.restart(env);
  const hasWalked = () => service.logs.slice(from).some((line) => line.includes('"event":"embedded"'));
  await until("it has looked at everything", hasWalked, testMsMax);
}

const isKnown = (service: Service): Promise<void> =>
  until("the model is known", () => service.logs.some((line) => line.includes('"event":"embedding"')));

test("kill -9 in the middle costs nothing that was done, and the next start does the rest", async () => {
  const server = startEmbeddingServer();
  await using service = await startService({ model, env: env("test-embedding", server) });
  await isKnown(service);
  const before = server.requests.length;
  server.default((script) => script.silence());
  server.answer();
  server.answer();
  const { passage_count } = await addDocument(service, { name: "manual.md", text: manual(150) });
  expect(passage_count).toBeGreaterThan(100);
  await server.received(before + 3);
  const done = server.requests.slice(before, before + 2).flatMap(({ body }) => body.input);
  await untilEmbedded(service, { passages: done.length });
  await service.kill();
  expect(vectorsIn(service.dataDir)[0]!.passages).toBe(done.length);

  const restarted = server.requests.length;
  server.default((script) => script.answer());
  await service.restart();
  await untilEmbedded(service, { passages: passage_count });
  const asked = server.requests.slice(restarted).flatMap(({ body }) => body.input);
  for (const text of done) expect(asked).not.toContain(text);
  await server.close();
});

test("what was stored before gets vectors once there is a model, and others with another model", async () => {
  await using service = await startService({ model });
  for (let count = 0; count < 3; count++) {
    await wholeTurn(service, model, [`Answer ${count}`], {
      message: `Question ${count}`,
      user_id: `user-${count}`,
    });
  }
  await wholeTurn(service, model, ["No"], { message: "This is not to be remembered", use_memory: false });
  const { passage_count } = await addDocument(service, { name: "manual.md", text: manual(3) });
  await addDocument(service, { name: "manual.md", text: manual(4) });
  await service.kill();

  await service.restart(env("first"));
  const expected = { messages: 6, passages: passage_count + 1 };
  await untilEmbedded(service, { model: "first", ...expected });
  expect(await service.stop()).toBe(0);

  await service.restart(env("second"));
  await untilEmbedded(service, { model: "second", ...expected });
  expect(vectorsIn(service.dataDir)).toMatchObject([
    { model: "first", messages: 0, passages: 0 },
    { model: "second", ...expected },
  ]);
  await service.kill();
  const asked = embeddings.requests.length;
  await restartAndWalk(service, env("second"));
  // Of a start there is only what tells what the model's cosines mean.
  const repeated = embeddings.requests.slice(asked).flatMap(({ body }) => body.input);
  expect(repeated.filter((text) => /Question|Answer|engine/.test(text))).toEqual([]);
  const everything = embeddings.requests.flatMap(({ body }) => body.input).join("\n");
  expect(everything).not.toContain("not to be remembered");
});

describe("a text that the server refuses", () => {
  /** A server that takes no text with a certain word in it, and answers as llama.cpp does where a text is too long. */
  function startRefusing(refused: string, charsMax: number) {
    const requests: EmbeddingBody[] = [];
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch(request) {
        const body = (await request.json()) as EmbeddingBody;
        requests.push(body);
        const texts = [body.input].flat();
        if (texts.some((text) => text.includes(refused))) {
          return Response.json({ error: { message: "no", type: "invalid_request_error" } }, { status: 400 });
        }
        if (texts.some((text) => text.length > charsMax)) {
          return Response.json({ error: { message: "input is too large", code: 500 } }, { status: 500 });
        }
        return await fetch(`${embeddings.url}/embeddings`, { method: "POST", body: JSON.stringify(body) });
      },
    });
    return { url: `http://127.0.0.1:${server.port}/v1`, requests, stop: () => server.stop(true) };
  }

  test("is left without a vector, and one that is too long gets that of its beginning; others wait for neither", async () => {
    const refusing = startRefusing("FORBIDDEN", 600);
    await using service = await startService({ model, env: env("test-embedding", refusing) });
    const long = `The beginning tells what it is about. ${"And so it goes on and on. ".repeat(60)}`;
    for (const message of ["A FORBIDDEN thing", long, "A fine thing"]) {
      await wholeTurn(service, model, ["Noted."], { message, user_id: message.slice(0, 6) });
    }
    // A reply has the end of the message before as its context.
    await untilEmbedded(service, { messages: 4 });

    // It isn't offered again.
    await service.kill();
    const asked = refusing.requests.length;
    await restartAndWalk(service);
    const repeated = refusing.requests.slice(asked).flatMap(({ input }) => input);
    expect(repeated.filter((text) => /FORBIDDEN|A fine thing|The beginning/.test(text))).toEqual([]);
    refusing.stop();
  });
});
