/** Clients that send or read so slowly that they hold a connection: each costs little, and for a bounded time. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createParser } from "eventsource-parser";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { descriptorsOf, memoryOf } from "../support/processes.ts";
import { connect, parseAnswer, type RawConnection } from "../support/raw-client.ts";
import { type Service, startService, until } from "../support/service.ts";
import { connectSlowly, type SlowReader } from "../support/slow-reader.ts";
import { readTranscript } from "../support/sse.ts";
import { holdTurn, untilEnded, wholeTurn } from "../support/turns.ts";

// They run side by side: most of it is waiting.
setDefaultTimeout(120_000);

const env = {
  PARLEY_BODY_SECONDS_MAX: "2",
  // As large as any other body, so that it has no more time either.
  PARLEY_DOCUMENT_BYTES_MAX: "1048576",
  // The least that can be set.
  PARLEY_CONNECTION_IDLE_SECONDS: "8",
  PARLEY_REPLY_CHARS_MAX: "10000000",
};

/** A service with a model of its own, so that tests side by side don't take each other's scripts. */
async function startBoth(): Promise<{ model: ModelServer; service: Service } & AsyncDisposable> {
  const model = startModelServer();
  const service = await startService({ model, env });
  return {
    model,
    service,
    async [Symbol.asyncDispose]() {
      await service[Symbol.asyncDispose]();
      await model.close();
    },
  };
}

/** For what never gets as far as a turn. */
let service: Service;
beforeAll(async () => {
  service = await startService({ env });
});
afterAll(() => service[Symbol.asyncDispose]());

const body = JSON.stringify({ user_id: "slow", message: "Hello" });
const post = (path: string, head: string, part: string): string =>
  `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${head}\r\n\r\n${part}`;
const get = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`;

/** Sends the first part, then a byte of the rest each second, until the other side closes; all that was received. */
async function dribble(connection: RawConnection, first: string, rest = ""): Promise<Buffer> {
  if (first !== "") connection.write(first);
  let sent = 0;
  const timer = setInterval(() => connection.write(rest[sent++] ?? ""), 1_000);
  await connection.closed;
  clearInterval(timer);
  return connection.received;
}

test.concurrent.each([
  ["stops in its middle", `content-length: ${body.length}`, body.slice(0, 9), ""],
  ["comes a byte a second", `content-length: ${body.length}`, "", body],
  ["promises more than comes", "content-length: 1000", body, ""],
  ["comes in a chunk a byte a second", "transfer-encoding: chunked", "400\r\n", body],
  ["never ends its chunks", "transfer-encoding: chunked", `${body.length.toString(16)}\r\n${body}\r\n`, ""],
])("a body that %s is refused in time, and nothing of it is done", async (_what, head, part, rest) => {
  const paths = ["/v1/chat", "/v1/chat/stream", "/v1/turns", "/v1/conversations", "/v1/documents"];
  const answers = await Promise.all(
    paths.map(async (path) => dribble(await connect(service.port), post(path, head, part), rest)),
  );
  for (const received of answers) {
    const answer = parseAnswer(received);
    expect([answer.status, answer.headers.get("content-type")]).toEqual([400, "application/problem+json"]);
    expect(JSON.parse(answer.body)).toMatchObject({
      code: "invalid_request",
      detail: "The body did not arrive within 2 s.",
    });
  }
  const { body: page } = await service.get<{ conversations: object[] }>("/v1/conversations?user_id=slow");
  expect(page.conversations).toEqual([]);
});

test.concurrent.each([
  ["sends nothing", "", ""],
  ["stops within its head", "POST /v1/chat HTTP/1.1\r\nhost: loc", ""],
  ["sends its head a byte a second", "GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: ", "x".repeat(60)],
])("a client that %s is cut off", async (_what, first, rest) => {
  expect((await dribble(await connect(service.port), first, rest)).toString()).toBe("");
});

test.concurrent("a connection that is kept open is closed when no next request comes, also after a turn", async () => {
  await using both = await startBoth();
  const { model, service } = both;
  const { turn_id } = await wholeTurn(service, model, ["A short reply."]);
  const kept = JSON.stringify({ user_id: "keeper", message: "Hello" });
  const answered: [request: string, ends: string][] = [
    [get("/health"), "}"],
    [get(`/v1/turns/${turn_id}/stream`), "0\r\n\r\n"],
    [post("/v1/chat", `idempotency-key: kept\r\ncontent-length: ${kept.length}`, kept), "}"],
  ];
  model.reply(["For the one who keeps the connection."]);
  await Promise.all(
    answered.flatMap(([request, end]) =>
      // With nothing more, and with half a request that never becomes whole.
      ["", "GET /health HTTP/1.1\r\nhost: loc"].map(async (more) => {
        const connection = await connect(service.port);
        connection.write(request);
        await until("the answer is whole", () => connection.received.toString().endsWith(end));
        const { length } = connection.received;
        await dribble(connection, more);
        expect(connection.received.length).toBe(length);
      }),
    ),
  );
});

test.concurrent("a turn may be silent for longer, and so may who waits for it", async () => {
  await using both = await startBoth();
  const { model, service } = both;
  const { turn, held } = await holdTurn(service, model, "", { user_id: "patient" });
  const streamed = service.fetch(turn.stream_url);
  const waiting = model.hold();
  const answered = service.post<ChatResponse>("/v1/chat", { user_id: "patient", message: "And?" });
  await waiting.request;
  // What is silent for no longer than they are is closed for it.
  const idle = await connect(service.port);
  idle.write(get("/health"));
  await idle.closed;
  for (const { send, finish } of [held, waiting]) {
    send("At last.");
    finish();
  }
  expect((await readTranscript(await streamed)).text).toBe("At last.");
  expect((await answered).body).toMatchObject({ status: "completed", response: "At last." });
});

test.concurrent("hundreds of slow senders at once are cut off and cost others nothing", async () => {
  await using both = await startBoth();
  const { model, service } = both;
  await service.get("/health");
  const before = descriptorsOf(service.pid);
  const openings = [
    post("/v1/chat", "content-length: 1000", "{"),
    post("/v1/chat/stream", "transfer-encoding: chunked", "400\r\n{"),
    "POST /v1/turns HTTP/1.1\r\nhost: loc",
  ];
  const senders = await Promise.all(
    Array.from({ length: 600 }, async (_, index) => {
      const connection = await connect(service.port);
      connection.write(openings[index % openings.length]!);
      return connection;
    }),
  );
  expect((await wholeTurn(service, model, ["in their midst"])).response).toBe("in their midst");
  expect((await service.get("/health")).status).toBe(200);
  await Promise.all(senders.map(({ closed }) => closed));
  const answers = senders.map(({ received }) => (received.length === 0 ? 0 : parseAnswer(received).status));
  expect(answers).toEqual(senders.map((_, index) => (index % openings.length === 2 ? 0 : 400)));
  await until("their sockets are closed", () => descriptorsOf(service.pid) <= before + 5);
});

/** Bytes a reader takes each second. */
const bytesPerSecond = 1024;
/** So long that the buffers of two systems don't hold it. */
const replyChars = 6_000_000;

/** The text that a reader of a stream has got so far. */
function textOf(received: Buffer): string {
  let text = "";
  const parser = createParser({
    onEvent: ({ data }) => {
      text += (JSON.parse(data) as { token?: string }).token ?? "";
    },
  });
  parser.feed(parseAnswer(received).body);
  return text;
}

/** Runs a turn that so many clients watch who read a kilobyte a second, and one who reads at once. */
async function writeWatchedBy(
  { service, model }: { service: Service; model: ModelServer },
  count: number,
): Promise<{ text: string; readers: SlowReader[] }> {
  const { turn, held } = await holdTurn(service, model);
  const readers = Array.from({ length: count }, () => {
    const reader = connectSlowly(service.port);
    reader.write(`GET /v1/turns/${turn.id}/stream HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`);
    return reader;
  });
  const quick = readTranscript(await service.fetch(`/v1/turns/${turn.id}/stream`));
  const piece = "Words and numbers, 12345. ".repeat(2_000);
  for (let sent = 0; sent < replyChars; sent += piece.length) held.send(piece);
  held.finish();
  const { text, done } = await quick;
  expect([done.status, done.length, text.length]).toEqual(["completed", text.length, text.length]);
  await untilEnded(service, turn.id);
  return { text, readers };
}

/** Reads all that is left, as fast as it comes; never returns where the stream doesn't end. */
async function drain(reader: SlowReader): Promise<string> {
  reader.hurry();
  while (!reader.ended) {
    reader.read(1024 * 1024);
    await Bun.sleep(0);
  }
  reader.close();
  return textOf(reader.received);
}

test.concurrent("readers of a kilobyte a second get everything, hold nobody up and cost bounded memory", async () => {
  await using both = await startBoth();
  const { pid, port } = both.service;
  // What such a turn costs by itself, and the runtime's growth under it, is not the readers'.
  for (let round = 0; round < 2; round++) {
    const { text, readers } = await writeWatchedBy(both, 1);
    expect(await drain(readers[0]!)).toBe(text);
  }
  const before = memoryOf(pid);
  const { text, readers } = await writeWatchedBy(both, 30);
  const reading = setInterval(() => {
    for (const reader of readers) reader.read(bytesPerSecond);
  }, 1_000);
  // A queue for each would hold most of the reply 30 times. Garbage goes in its own time.
  const bounded = () => memoryOf(pid) - before < 8 * replyChars;
  await until("the memory of the readers is bounded", bounded, 30_000);
  // They take longer than a connection may idle.
  const idle = await connect(port);
  idle.write(get("/health"));
  await idle.closed;
  clearInterval(reading);
  for (const reader of readers) expect(reader.received.length).toBeWithin(1, replyChars / 10);
  for (const reader of readers) expect((await drain(reader)) === text).toBe(true);
});
