/** Hundreds of clients of one turn that lose their connections again and again, all at once. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:net";
import { createParser } from "eventsource-parser";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { startModelServer } from "../support/model-server.ts";
import { descriptorsOf } from "../support/processes.ts";
import { parseAnswer } from "../support/raw-client.ts";
import { startService, until } from "../support/service.ts";
import { conversationOf, seededRandom, turnOf } from "../support/turns.ts";

setDefaultTimeout(60_000);

const clients = 200;
const pieces = Array.from({ length: 60 }, (_, index) => `${index} – naïve 漢字 😀\n`);
/** So many connections are made for each piece of the reply. */
const connectionsPerPiece = 20;

interface Part {
  /** Cut after so many bytes; 0: as soon as the request was sent. */
  bytesMax: number;
  /** Cut after so many milliseconds in which nothing more comes. */
  silenceMsMax: number;
  reset: boolean;
}

/** What of an answer is read until the connection is cut, or ends. */
function readPart(port: number, request: string, { bytesMax, silenceMsMax, reset }: Part): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const chunks: Buffer[] = [];
    let bytes = 0;
    const cut = (): void => void (reset ? socket.resetAndDestroy() : socket.destroy());
    let silence: Timer | undefined;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      clearTimeout(silence);
      silence = setTimeout(cut, silenceMsMax);
      if (bytes >= bytesMax) cut();
    });
    socket.on("close", () => {
      clearTimeout(silence);
      resolve(Buffer.concat(chunks).subarray(0, bytesMax));
    });
    socket.write(request, () => bytesMax === 0 && cut());
  });
}

interface Client {
  text: string;
  /** Of the last event that was read; null before the first. */
  lastEventId: string | null;
  ends: number;
}

/** Takes what was read of an answer into account, as EventSource does. */
function receive(client: Client, answer: Buffer): void {
  if (!answer.includes("\r\n\r\n")) return;
  const { status, body } = parseAnswer(answer);
  expect(status).toBe(200);
  const parser = createParser({
    onEvent({ id, event, data }) {
      client.lastEventId = id ?? client.lastEventId;
      if (event !== undefined) return;
      const { token, done } = JSON.parse(data) as { token?: string; done?: boolean };
      client.text += token ?? "";
      if (done) client.ends++;
    },
  });
  // Cut as it was: a last character that isn't whole belongs to an event that isn't.
  parser.feed(body);
}

test(`${clients} clients that reconnect again and again get the whole text once each, of one request to the model`, async () => {
  const random = seededRandom();
  const model = startModelServer();
  await using service = await startService({ model });
  await service.get("/health");
  const before = descriptorsOf(service.pid) - model.connections;
  const held = model.hold();
  model.default(({ reply }) => reply(["calm"]));

  let connections = 0;
  let sent = 0;
  const query = "user_id=storm&message=Everybody&idempotency_key=one-for-all";
  async function follow(): Promise<Client> {
    const client: Client = { text: "", lastEventId: null, ends: 0 };
    while (client.ends === 0) {
      connections++;
      while (sent < pieces.length && sent < connections / connectionsPerPiece) {
        held.send(pieces[sent++]!);
        if (sent === pieces.length) held.finish();
      }
      // Before the first event there is no id: then it is the key that leads to the turn.
      const header = client.lastEventId === null ? "" : `last-event-id: ${client.lastEventId}\r\n`;
      const request = `GET /v1/chat/stream?${query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${header}\r\n`;
      const part: Part = {
        bytesMax: random() < 0.1 ? 0 : Math.floor(random() * 4_000),
        silenceMsMax: random() * 50,
        reset: random() < 0.5,
      };
      receive(client, await readPart(service.port, request, part));
    }
    return client;
  }

  let storming = true;
  let calmTurns = 0;
  const others = (async () => {
    // The first request to the model is the storm's.
    await held.request;
    while (storming) {
      const { status, body } = await service.post<ChatResponse>("/v1/chat", {
        user_id: "calm",
        message: "Hi",
      });
      expect([status, body.response]).toEqual([200, "calm"]);
      expect((await service.get("/health")).status).toBe(200);
      calmTurns++;
    }
  })();
  const followed = await Promise.all(Array.from({ length: clients }, follow));
  storming = false;
  await others;
  console.log(`${connections} connections`);

  const text = pieces.join("");
  expect(followed.filter((client) => client.text !== text || client.ends !== 1)).toEqual([]);
  expect(connections).toBeGreaterThan(5 * clients);
  expect(calmTurns).toBeGreaterThan(0);
  const turnId = followed[0]!.lastEventId!.replace(":end", "");
  const turn = await turnOf(service, turnId);
  expect(turn).toMatchObject({ status: "completed", response: text });
  expect((await conversationOf(service, turn.conversation_id)).message_count).toBe(2);
  const asked = model.requests.filter(({ body }) => body.messages.at(-1)?.content === "Everybody");
  expect(asked.length).toBe(1);
  await until("their sockets are closed", () => descriptorsOf(service.pid) - model.connections <= before + 5);
  expect(service.logs.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  await model.close();
});
