/** Log injection: whatever stands in a request, a line of the log is one event, in JSON, of what the service says. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { DocumentView } from "../../src/documents/schema.ts";
import type { Memory } from "../../src/users/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { apiDocument, type Spec } from "../support/openapi.ts";
import { connect } from "../support/raw-client.ts";
import { type Service, startService, until } from "../support/service.ts";
import { type Place, stringPlaces } from "../support/string-places.ts";

setDefaultTimeout(60_000);

let model: ModelServer;
let service: Service;
let places: Place[];

beforeAll(async () => {
  model = startModelServer();
  model.default((all) => all.reply(["Hello."]));
  service = await startService({ model });
  const user = "mallory";
  const chat = await service.post<ChatResponse>("/v1/chat", { user_id: user, message: "Hello" });
  const added = await service.post<DocumentView>("/v1/documents", {
    name: "a.txt",
    text: "Text.",
    user_id: user,
  });
  const memory = await service.post<Memory>(`/v1/users/${user}/memories`, { text: "Likes logs." });
  const { turn_id: turn, conversation_id: conversation } = chat.body;
  const document = apiDocument((await service.get<Spec>("/openapi.json")).body);
  places = stringPlaces(document, {
    user,
    turn,
    conversation,
    document: added.body.id,
    memory: memory.body.id,
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const forged = '{"level":"info","time":"2026-01-01T00:00:00.000Z","event":"forged","msg":"forged"}';
const hostile = [
  `x\n${forged}\n`,
  `x\r\n${forged}\r\n`,
  `x\u2028${forged}\u2029`,
  `x\u0085${forged}\u000b\u000c`,
  `","event":"forged","x":"`,
  // Sequences for terminals: clear the screen, set the title, and the same in one byte of C1.
  "x\u001b[2J\u001b[1;1H\u001b]0;forged\u0007",
  "x\u009b2J\u009d0;forged\u009c",
  // What shows otherwise than it is.
  "x\u202eforged\u202c\u200b\u2066",
  "\u007f\b\b\b\bforged",
  "x\u{e0001}forged",
  "%s %o %j %d {{forged}}",
];

/** Everything but what prints as it is: control characters of C0 and C1, separators of lines, marks of direction. */
const unprintable = /[\p{Cc}\p{Cf}\u2028\u2029]/u;

async function expectHonest(): Promise<void> {
  // What comes after all of it has been logged as well.
  const { body } = await service.post<ChatResponse>("/v1/chat", { user_id: "mallory", message: "Last" });
  await until("what came later is logged", () => service.logs.some((line) => line.includes(body.turn_id)));
  expect(service.logs.length).toBeGreaterThan(10);
  for (const line of service.logs) {
    const { level, time, event } = JSON.parse(line) as Record<string, string>;
    expect([typeof level, Number.isNaN(Date.parse(time!))]).toEqual(["string", false]);
    expect(event).not.toBe("forged");
    expect(unprintable.test(line) ? line : "printable").toBe("printable");
  }
}

test("no string of a request ends a line, forges an event, or speaks to a terminal", async () => {
  for (const text of hostile) {
    const erases = (place: Place): boolean => place.name.startsWith("DELETE /v1/users/{user_id} ");
    const all = places.filter((place) => !erases(place) || text === hostile[0]);
    await Promise.all(
      all.map(async (place) => {
        const { path, method, headers, body } = place.request(text);
        await (await service.fetch(path, { method, headers, ...(body !== null && { body }) })).text();
      }),
    );
  }
  await expectHonest();
});

test("nor does a header, a path or a method, byte by byte", async () => {
  const bytes = [
    "\t",
    "\x01",
    "\x0b",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\x9b2J",
    "\xe2\x80\xa8",
    "\xff",
    `\r${forged}`,
  ];
  for (const byte of bytes) {
    for (const request of [
      `POST /v1/chat HTTP/1.1\r\nhost: localhost\r\nx-request-id: a${byte}forged\r\ncontent-length: 2\r\n\r\n{}`,
      `GET /v1/conversations HTTP/1.1\r\nhost: localhost\r\ntraceparent: a${byte}forged\r\n\r\n`,
      `GET /v1/conversations HTTP/1.1\r\nhost: localhost\r\nuser-agent: a${byte}forged\r\nreferer: a${byte}forged\r\n\r\n`,
      `GET /v1/conversations HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer a${byte}forged\r\n\r\n`,
      `GET /v1/a${byte}forged HTTP/1.1\r\nhost: localhost\r\n\r\n`,
      `GET /v1/conversations?q=a${byte}forged HTTP/1.1\r\nhost: localhost\r\n\r\n`,
      `GE${byte}T /v1/conversations HTTP/1.1\r\nhost: localhost\r\n\r\n`,
      `GET /v1/conversations HTTP/1.1\r\nhost: a${byte}forged\r\n\r\n`,
    ]) {
      const connection = await connect(service.port);
      connection.write(Buffer.from(request, "latin1"));
      // It is answered or cut; a method that none is may end up as neither.
      await Promise.race([connection.closed, until("it is answered", () => connection.received.length > 0)]);
      connection.close();
    }
  }
  await expectHonest();
});

test("nor does what a model's server answers", async () => {
  const text = `x\n${forged}\n\u001b[2J\u009b2J\u2028`;
  const statusOf = async (): Promise<number> =>
    (await service.post("/v1/chat", { user_id: "mallory", message: "Hello" })).status;
  model.reply([text]);
  expect(await statusOf()).toBe(200);
  model.failAfter(1, { error: { message: text, code: text, type: text } });
  expect(await statusOf()).toBe(502);
  // Nothing was said yet, so that it is asked again.
  model.raw([text]);
  expect(await statusOf()).toBe(200);
  await expectHonest();
});
