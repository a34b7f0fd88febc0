/** A client that doesn't read costs an offset, not a queue. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createParser } from "eventsource-parser";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { connect, parseAnswer } from "../support/raw-client.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";
import { holdTurn, turnOf, untilEnded } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const chars = 1_000_000;
const readers = 300;

let model: ModelServer;
let service: Service;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

/** Resident memory of the service, in bytes. */
async function rss(): Promise<number> {
  const status = await Bun.file(`/proc/${service.pid}/status`).text();
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024;
}

/** Runs a turn of a million characters while so many clients watch; the first of them reads, the others don't. */
async function writeWatchedBy(
  count: number,
): Promise<{ turnId: string; text: string; readFirst(): Promise<string> }> {
  const { turn, held } = await holdTurn(service, model);
  const connections = await Promise.all(
    Array.from({ length: count }, async () => {
      const connection = await connect(service.port);
      connection.write(
        `GET /v1/turns/${turn.id}/stream HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`,
      );
      await until("start has come", () => connection.received.includes("event: start"));
      connection.pause();
      return connection;
    }),
  );
  const piece = "中文 and words. ".repeat(100);
  let text = "";
  while (text.length < chars - piece.length) {
    held.send(piece);
    text += piece;
  }
  held.finish();
  await untilEnded(service, turn.id);
  return {
    turnId: turn.id,
    text,
    /** The first client takes up reading again: it gets all of it. */
    async readFirst() {
      const [first, ...others] = connections;
      for (const other of others) other.close();
      first!.resume();
      await first!.closed;
      let read = "";
      const parser = createParser({
        onEvent: ({ data }) => {
          read += (JSON.parse(data) as { token?: string }).token ?? "";
        },
      });
      parser.feed(parseAnswer(first!.received).body);
      return read;
    },
  };
}

test(`${readers} clients that don't read while ${chars} characters are written cost bounded memory, and lose nothing`, async () => {
  // What the turn itself costs, and the runtime's own growth under such a load, is not the readers'.
  await (await writeWatchedBy(1)).readFirst();
  await (await writeWatchedBy(1)).readFirst();
  const before = await rss();
  const { turnId, text, readFirst } = await writeWatchedBy(readers);
  // A queue for each would hold the reply 300 times, at 1 byte or more for each character. Garbage goes in its own time.
  await until(
    "the memory of the readers is bounded",
    async () => (await rss()) - before < (readers * chars) / 3,
  );
  expect((await turnOf(service, turnId)).length).toBe(text.length);
  expect(await readFirst()).toBe(text);
});
