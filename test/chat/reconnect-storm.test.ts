/** Hundreds of clients of one turn that lose their connections again and again, all at once. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { startModelServer } from "../support/model-server.ts";
import { descriptorsOf } from "../support/processes.ts";
import { ResumingClient } from "../support/resuming-client.ts";
import { startService, until } from "../support/service.ts";
import { conversationOf, seededRandom, turnOf } from "../support/turns.ts";

setDefaultTimeout(60_000);

const clients = 200;
const pieces = Array.from({ length: 60 }, (_, index) => `${index} – naïve 漢字 😀\n`);
/** So many connections are made for each piece of the reply. */
const connectionsPerPiece = 20;

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
  // Before the first event a client has no id: then it is the key that leads to its turn.
  const path = "/v1/chat/stream?user_id=storm&message=Everybody&idempotency_key=one-for-all";
  async function follow(): Promise<ResumingClient> {
    const client = new ResumingClient();
    while (client.ends === 0) {
      connections++;
      while (sent < pieces.length && sent < connections / connectionsPerPiece) {
        held.send(pieces[sent++]!);
        if (sent === pieces.length) held.finish();
      }
      await client.read(service.port, path, {
        bytesMax: random() < 0.1 ? 0 : Math.floor(random() * 4_000),
        silenceMsMax: random() * 50,
        reset: random() < 0.5,
      });
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
