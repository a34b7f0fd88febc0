/** Resuming a stream: from any offset, at any time, after a cut at any byte. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createParser } from "eventsource-parser";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { connect, parseAnswer, rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";
import { offsetOf, readTranscript, sseEvents } from "../support/sse.ts";
import { holdTurn, resume, seededRandom, untilEnded, untilText, wholeTurn } from "../support/turns.ts";

/** Every width of UTF-8, pairs, a joined emoji, a combining accent, line ends, JSON's own characters. */
const reply = 'Añb😀中\n\n"\\data: 👩‍👧e\u0301\u2028\r𝒳. ';

setDefaultTimeout(testMsMax);

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

describe("from every offset of a reply", () => {
  async function expectEveryOffset(id: string, text: string): Promise<void> {
    for (let offset = 0; offset <= text.length; offset++) {
      const view = await readTranscript(await resume(service, id, offset));
      expect(view.startId).toBe(`${id}:${offset}`);
      expect(view.text).toBe(text.slice(offset));
      expect(view.done).toMatchObject({ status: "completed", length: text.length });
    }
  }

  test("long after its end, and after a restart", async () => {
    const { turn_id } = await wholeTurn(service, model, [...reply]);
    await expectEveryOffset(turn_id, reply);
    await service.kill();
    await service.restart();
    await expectEveryOffset(turn_id, reply);
  });

  test("while it runs: what is there comes at once, the rest as it grows", async () => {
    const half = reply.length >> 1;
    const { turn, held } = await holdTurn(service, model, reply.slice(0, half));
    const views = [];
    for (let offset = 0; offset <= half; offset++) {
      const events = sseEvents(await resume(service, turn.id, offset));
      expect((await events.next()).value).toMatchObject({ event: "start", id: `${turn.id}:${offset}` });
      views.push({ offset, events });
    }
    held.send(reply.slice(half));
    held.finish();
    for (const { offset, events } of views) {
      let text = "";
      let last = "";
      for await (const { data, id } of events) {
        text += (JSON.parse(data) as { token?: string }).token ?? "";
        last = id ?? last;
      }
      expect([text, last]).toEqual([reply.slice(offset), `${turn.id}:end`]);
    }
  });

  test("by Last-Event-ID, by ?after= with an offset, and by ?after= with an event id", async () => {
    const { turn_id } = await wholeTurn(service, model, ["0123456789"]);
    const stream = `/v1/turns/${turn_id}/stream`;
    const headers = { "last-event-id": `${turn_id}:4` };
    for (const [path, init] of [
      [stream, { headers }],
      [`${stream}?after=4`, {}],
      [`${stream}?after=${turn_id}:4`, {}],
      // A browser that reconnects sends the address of its first connection and where it is now.
      [`${stream}?after=1`, { headers }],
      [stream.slice(3), { headers }],
    ] as const) {
      expect((await readTranscript(await service.fetch(path, init))).text).toBe("456789");
    }
    expect((await readTranscript(await service.fetch(stream))).text).toBe("0123456789");
    expect(
      (await readTranscript(await service.fetch(stream, { headers: { "last-event-id": "" } }))).text,
    ).toBe("0123456789");
  });
});

describe("at and beyond the end", () => {
  test("after :end there is nothing, 204", async () => {
    const { turn_id } = await wholeTurn(service, model, ["over"]);
    for (const response of [
      await resume(service, turn_id, "end"),
      await service.fetch(`/v1/turns/${turn_id}/stream?after=end`),
      await service.fetch(`/v1/turns/${turn_id}/stream?after=${turn_id}:end`),
    ]) {
      expect(response.status).toBe(204);
      expect(await response.text()).toBe("");
    }
  });

  test("beyond an ended turn's text there are start and done, whose length says what was kept", async () => {
    const { turn_id } = await wholeTurn(service, model, ["short"]);
    for (const offset of [6, 1_000, 999_999_999_999_999]) {
      const { text, done, startId } = await readTranscript(await resume(service, turn_id, offset));
      expect([text, done.length, startId]).toEqual(["", 5, `${turn_id}:${offset}`]);
    }
  });

  test("beyond a running turn's text it waits until the text gets there", async () => {
    const { turn, held } = await holdTurn(service, model, "12345");
    const events = sseEvents(await resume(service, turn.id, 7));
    expect((await events.next()).value).toMatchObject({ event: "start" });
    held.send("67");
    await untilText(service, turn.id, "1234567");
    held.send("89");
    expect((await events.next()).value).toMatchObject({ id: `${turn.id}:9`, data: '{"token":"89"}' });
    held.finish();
    expect(JSON.parse((await events.next()).value!.data)).toMatchObject({ done: true, length: 9 });
  });
});

describe("refused", () => {
  test("another turn's event id on this turn's stream is 400", async () => {
    const one = await wholeTurn(service, model, ["one"]);
    const other = await wholeTurn(service, model, ["other"]);
    const stream = `/v1/turns/${one.turn_id}/stream`;
    const byHeader = await service.get<Problem>(stream, { "last-event-id": `${other.turn_id}:1` });
    expect(byHeader.status).toBe(400);
    expect(byHeader.body.errors).toEqual([
      { path: "headers.last-event-id", message: "must be an event id of this turn" },
    ]);
    const byQuery = await service.get<Problem>(`${stream}?after=${other.turn_id}:end`);
    expect(byQuery.status).toBe(400);
    expect(byQuery.body.errors).toEqual([
      { path: "query.after", message: "must be an event id of this turn" },
    ]);
  });

  /** `ID` stands for the id of an ended turn, `OTHER` for that of another one. */
  const garbage = [
    ...["garbage", "1:2", "turn_1:1", "turn_x:5:6", ":1", ":end", "ID", "ID:", "ID:1:1", "ID: 1", " ID:1x"],
    ...[
      "ID:-1",
      "ID:+1",
      "ID:1.5",
      "ID:1e3",
      "ID:0x1",
      "ID:NaN",
      "ID:Infinity",
      "ID:null",
      "ID:9999999999999999",
    ],
    ...["ID:END", "ID:end:end", "ID:٣", "ID:１", "ID:😀", "ID:é", "ID:%31", "CONV:1", "UPPER:1", "ID:1,ID:2"],
  ];
  const offsets = [
    "-1",
    "+1",
    "1.5",
    "1e3",
    "0x1",
    "NaN",
    "Infinity",
    "null",
    "9999999999999999",
    "٣",
    "１",
    "😀",
  ];
  const noOffsets = [...offsets, ...["", " ", "1 ", "END", "\0", "1\n"]];

  async function expectFault(path: string, headers: Record<string, string>, faults: string[]): Promise<void> {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const head = `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${lines.join("")}\r\n`;
    // In UTF-8, where `fetch` takes Latin-1 alone.
    const { status, body } = await rawRequest(service.port, Buffer.from(head));
    expect([path, headers, status]).toEqual([path, headers, 400]);
    const { code, errors = [] } = JSON.parse(body) as Problem;
    expect([code, errors.map(({ path }) => path)]).toEqual(["invalid_request", faults]);
  }

  test("garbage in Last-Event-ID, in ?after= or in both is 400, names the fault and starts nothing", async () => {
    const { turn_id, conversation_id } = await wholeTurn(service, model, ["x"]);
    const other = await wholeTurn(service, model, ["y"]);
    const asked = model.requests.length;
    const stream = `/v1/turns/${turn_id}/stream`;
    const starting = "/v1/chat/stream?user_id=bad&message=Hi";
    const after = (value: string): string => `${stream}?after=${encodeURIComponent(value)}`;
    const values = garbage.map((value) =>
      value
        .replaceAll("ID", turn_id)
        .replace("CONV", conversation_id)
        .replace("UPPER", turn_id.toUpperCase()),
    );
    for (const value of values) {
      await expectFault(stream, { "last-event-id": value }, ["headers.last-event-id"]);
      await expectFault(starting, { "last-event-id": value }, ["headers.last-event-id"]);
      await expectFault(after(value), {}, ["query.after"]);
    }
    for (const value of noOffsets) await expectFault(after(value), {}, ["query.after"]);
    // What is right in one place doesn't make up for the other, and both are named.
    const good = `${turn_id}:1`;
    await expectFault(after("1e3"), { "last-event-id": good }, ["query.after"]);
    await expectFault(after("1"), { "last-event-id": "1e3" }, ["headers.last-event-id"]);
    await expectFault(after("1e3"), { "last-event-id": "1e3" }, ["query.after", "headers.last-event-id"]);
    await expectFault(`${stream}?after=1&after=1`, {}, ["query.after"]);
    for (const place of ["0", "1", "end"]) {
      const foreign = `${other.turn_id}:${place}`;
      await expectFault(stream, { "last-event-id": foreign }, ["headers.last-event-id"]);
      await expectFault(after(foreign), {}, ["query.after"]);
      await expectFault(after("1"), { "last-event-id": foreign }, ["headers.last-event-id"]);
    }
    expect(model.requests.length).toBe(asked);
    const { body } = await service.get<{ conversations: object[] }>("/v1/conversations?user_id=bad");
    expect(body.conversations).toEqual([]);
  });

  test("a turn that doesn't exist is 404, and starts nothing", async () => {
    const asked = model.requests.length;
    const id = "turn_01890a5d-ac96-774b-bcce-b302099a8057";
    for (const place of ["0", "7", "999999999999999", "end"]) {
      const headers = { "last-event-id": `${id}:${place}` };
      for (const path of [`/v1/turns/${id}/stream`, "/v1/chat/stream?user_id=nobody&message=Hi"]) {
        expect((await service.get<Problem>(path, headers)).status).toBe(404);
      }
      const posted = await service.post<Problem>(
        "/v1/chat/stream",
        { user_id: "nobody", message: "Hi" },
        headers,
      );
      expect(posted.status).toBe(404);
      expect((await service.get<Problem>(`/v1/turns/${id}/stream?after=${place}`)).status).toBe(404);
    }
    expect(model.requests.length).toBe(asked);
    const { body } = await service.get<{ conversations: object[] }>("/v1/conversations?user_id=nobody");
    expect(body.conversations).toEqual([]);
  });
});

describe("a cut at any byte", () => {
  /** What a client has of a body that was cut: text that it was given, and the id it would send to go on. */
  function received(body: Buffer, client: { text: string; id: string; done: boolean }): void {
    const parser = createParser({
      onEvent({ id, event, data }) {
        if (id !== undefined) client.id = id;
        if (event !== undefined) return;
        const parsed = JSON.parse(data) as { token?: string; done?: boolean };
        client.text += parsed.token ?? "";
        client.done ||= parsed.done === true;
      },
    });
    parser.feed(new TextDecoder().decode(body, { stream: true }));
  }

  const bodyOf = async (turn_id: string, id: string): Promise<Buffer> =>
    Buffer.from(
      (
        await rawRequest(
          service.port,
          `GET /v1/turns/${turn_id}/stream HTTP/1.1\r\nhost: localhost\r\nlast-event-id: ${id}\r\nconnection: close\r\n\r\n`,
        )
      ).body,
    );

  test("neither repeats nor loses text, once or again and again, also right after a repeated start", async () => {
    const { turn_id } = await wholeTurn(service, model, [reply]);
    const whole = await bodyOf(turn_id, `${turn_id}:0`);
    const bodies = new Map<string, Buffer>();
    for (let cut = 0; cut <= whole.length; cut++) {
      const client = { text: "", id: `${turn_id}:0`, done: false };
      received(whole.subarray(0, cut), client);
      // The second connection is cut right after its `start`, the third runs to the end.
      for (const cutAfterStart of [true, false]) {
        if (client.done) break;
        const asked = client.id;
        const body = bodies.get(asked) ?? (await bodyOf(turn_id, asked));
        bodies.set(asked, body);
        const startEnd = body.indexOf("\n\n", body.indexOf("event: start")) + 2;
        received(cutAfterStart ? body.subarray(0, startEnd) : body, client);
        if (cutAfterStart) expect(client.id).toBe(asked);
      }
      expect([cut, client.text, client.done]).toEqual([cut, reply, true]);
    }
  });

  test("while the model writes: connections dropped at random bytes, the text comes out whole", async () => {
    const random = seededRandom();
    const words = Array.from({ length: 60 }, (_, index) => `${[...reply][index % 20]}${index} `);
    const { turn, held } = await holdTurn(service, model);
    const text = words.join("");
    const client = { text: "", id: `${turn.id}:0`, done: false };
    let sent = 0;
    let connections = 0;
    while (!client.done) {
      connections++;
      const connection = await connect(service.port);
      connection.write(
        `GET /v1/turns/${turn.id}/stream HTTP/1.1\r\nhost: localhost\r\nlast-event-id: ${client.id}\r\n\r\n`,
      );
      const bytes = Math.floor(random() * 900);
      for (let more = Math.floor(random() * 4); more > 0 && sent < words.length; more--)
        held.send(words[sent++]!);
      if (sent === words.length) held.finish();
      // A stream that has nothing to say yet is cut as well.
      await until("start has come", () => connection.received.includes("event: start"));
      const bodyStart = connection.received.indexOf("\r\n\r\n") + 4;
      const { body } = parseAnswer(connection.received.subarray(0, bodyStart + bytes));
      connection.close();
      received(Buffer.from(body), client);
      expect(text).toStartWith(client.text);
      expect(offsetOf(client.id)).toBeGreaterThanOrEqual(client.text.length);
      if (sent === words.length && connections > 500) throw new Error("never done");
    }
    expect(client.text).toBe(text);
    expect(connections).toBeGreaterThan(5);
    await untilEnded(service, turn.id);
  });
});
