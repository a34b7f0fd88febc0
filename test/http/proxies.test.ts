/**
 * What stands between a service and its clients in real life: nginx, as Debian configures it, and load balancers that
 * cut what is idle. Their patience is 15 s here; PARLEY_TEST_PROXY_MINUTES=2.5 makes it the usual 60 s, and the silence
 * so many minutes.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { startIdleProxy } from "../support/idle-proxy.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Nginx, skipsNginx, startNginx } from "../support/nginx.ts";
import { connect, parseAnswer, rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";
import { readTranscript, type StartData, sseEvents } from "../support/sse.ts";
import { conversationOf, turnOf, untilText, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const minutes = Number(process.env.PARLEY_TEST_PROXY_MINUTES ?? 0);
/** Above the heartbeat, with room for a starved process. */
const patienceSeconds = minutes > 0 ? 60 : 15;
const silenceSeconds = minutes > 0 ? minutes * 60 : 20;
const silentTestMsMax = silenceSeconds * 1000 + 2 * testMsMax;

/** A service that bears the silence of its model. */
const patient = {
  PARLEY_MODEL_FIRST_BYTE_SECONDS: String(2 * silenceSeconds),
  PARLEY_MODEL_IDLE_SECONDS: String(2 * silenceSeconds),
};

/** What everybody writes. */
const plain = ({ port }: Service, more = "") => {
  const location = `location / { proxy_pass http://127.0.0.1:${port}; ${more} }`;
  return (listen: string): string => `server { listen ${listen}; ${location} }`;
};

const exampleFile = await Bun.file(join(import.meta.dir, "../../deploy/nginx.conf")).text();

/** deploy/nginx.conf, with the ports of a test. */
const example =
  ({ port }: Service) =>
  (listen: string): string => {
    const site = exampleFile.replace("listen 80;", `listen ${listen};`).replace(":8000;", `:${port};`);
    if (!site.includes(listen) || !site.includes(`:${port};`)) throw new Error("the example has other ports");
    return site;
  };

const ask = { user_id: "ada", message: "Hello" };
const post = (url: string, body: object = ask, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

/** Reads the next event of a stream and gives what its data holds. */
async function nextOf<Data>(events: ReturnType<typeof sseEvents>): Promise<Data> {
  const { value } = await events.next();
  if (!value) throw new Error("the stream has ended");
  return JSON.parse(value.data) as Data;
}

/** Each thing is said only when the one before was heard, so that nothing may be held back anywhere. */
async function expectUnbuffered(model: ModelServer, response: () => Promise<Response>): Promise<Response> {
  const held = model.hold();
  const stream = await response();
  const events = sseEvents(stream);
  const { turn_id } = await nextOf<StartData>(events);
  expect(turn_id).toStartWith("turn_");
  for (const token of ["a", "few ", "short ", "😀"]) {
    held.send(token);
    expect(await nextOf<object>(events)).toEqual({ token });
  }
  held.finish();
  expect(await nextOf<object>(events)).toMatchObject({
    done: true,
    turn_id,
    status: "completed",
    length: 13,
  });
  expect((await events.next()).done).toBe(true);
  return stream;
}

describe.skipIf(skipsNginx())("behind nginx", () => {
  let model: ModelServer;
  let service: Service;
  let nginx: Nginx<"plain" | "example" | "zipping" | "naming">;

  beforeAll(async () => {
    model = startModelServer();
    service = await startService({ model });
    nginx = await startNginx({
      plain: plain(service),
      example: example(service),
      zipping: plain(service, "gzip_types *; gzip_min_length 0; gzip_comp_level 9;"),
      naming: plain(service, "proxy_set_header Host $host;"),
    });
  });
  afterAll(async () => {
    await nginx[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
    await model.close();
  });

  describe.each(["plain", "example"] as const)("with the site %s", (site) => {
    const url = (path: string): string => nginx.urls[site] + path;

    test("the first event comes before the model has said a word, and each token when it was said", async () => {
      const { headers } = await expectUnbuffered(model, () => post(url("/v1/chat/stream")));
      expect(headers.get("server")).toStartWith("nginx");
      expect(headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
      // For what stands between nginx and the client.
      expect(headers.get("cache-control")).toBe("no-cache, no-transform");
      expect(headers.get("x-request-id")).toStartWith("req_");
    });

    test("an EventSource's GET is unbuffered too", async () => {
      await expectUnbuffered(model, () => fetch(url(`/v1/chat/stream?${new URLSearchParams(ask)}`)));
    });

    test("a client that drops ends no turn, and resumes where it was", async () => {
      const held = model.hold();
      const leaving = new AbortController();
      const stream = await fetch(url(`/v1/chat/stream?${new URLSearchParams(ask)}`), {
        signal: leaving.signal,
      });
      const events = sseEvents(stream);
      const { turn_id } = await nextOf<StartData>(events);
      held.send("heard, ");
      expect(await nextOf<object>(events)).toEqual({ token: "heard, " });
      leaving.abort();
      held.send("missed, ");
      await untilText(service, turn_id, "heard, missed, ");
      expect((await turnOf(service, turn_id)).status).toBe("running");
      const resumed = await fetch(url(`/v1/turns/${turn_id}/stream`), {
        headers: { "last-event-id": `${turn_id}:7` },
      });
      held.send("and heard again");
      held.finish();
      const { text, startId, done } = await readTranscript(resumed);
      expect([text, startId, done.status]).toEqual(["missed, and heard again", `${turn_id}:7`, "completed"]);
    });

    test("after the last event a reconnect gets 204", async () => {
      const { turn_id } = await wholeTurn(service, model, ["all"]);
      for (const path of [`/v1/turns/${turn_id}/stream`, `/v1/chat/stream?${new URLSearchParams(ask)}`]) {
        const response = await fetch(url(path), { headers: { "last-event-id": `${turn_id}:end` } });
        expect([path, response.status, await response.text()]).toEqual([path, 204, ""]);
      }
    });

    test("HEAD has the head of the stream and starts no turn", async () => {
      const asked = model.requests.length;
      const query = new URLSearchParams({ ...ask, user_id: `head-${site}` });
      const response = await fetch(url(`/v1/chat/stream?${query}`), { method: "HEAD" });
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
      const { body } = await service.get<{ conversations: unknown[] }>(
        `/v1/conversations?user_id=head-${site}`,
      );
      expect(body.conversations).toEqual([]);
      expect(model.requests.length).toBe(asked);
    });

    test("the longest message gets through in a body, which nginx sets aside in a file", async () => {
      model.reply(["long"]);
      const message = "漢".repeat(32_000);
      const response = await post(url("/v1/chat"), { ...ask, message });
      expect(response.status).toBe(200);
      const { conversation_id } = (await response.json()) as ChatResponse;
      expect((await conversationOf(service, conversation_id)).title).toStartWith("漢漢");
      expect(JSON.stringify(model.requests.at(-1)!.body.messages)).toContain(message);
    });

    test("a problem is the service's own", async () => {
      const response = await post(url("/v1/chat"), { user_id: "ada" });
      expect(response.headers.get("content-type")).toBe("application/problem+json");
      expect(await response.json()).toMatchObject({ status: 400, code: "invalid_request" });
    });
  });

  test("the example takes the longest message in an address too", async () => {
    model.reply(["long"]);
    const query = new URLSearchParams({ ...ask, message: "漢".repeat(32_000) });
    const { text } = await readTranscript(await fetch(`${nginx.urls.example}/v1/chat/stream?${query}`));
    expect(text).toBe("long");
  });

  test("compression holds nothing back", async () => {
    const { headers } = await expectUnbuffered(model, () =>
      post(`${nginx.urls.zipping}/v1/chat/stream`, ask, { "accept-encoding": "gzip" }),
    );
    expect(headers.get("content-encoding")).toBe("gzip");
  });

  test("a name or a page of elsewhere is refused without a key, with the way out", async () => {
    const named = await fetch(`${nginx.urls.naming}/v1/conversations`, { headers: { host: "chat.example" } });
    const paged = await post(`${nginx.urls.plain}/v1/chat`, ask, { origin: "https://chat.example" });
    for (const [header, response] of [
      ["Host", named],
      ["Origin", paged],
    ] as const) {
      const { detail } = (await response.json()) as Problem;
      expect([response.status, detail]).toEqual([
        403,
        `The ${header} header is not of this machine. Without a key only local programs are served: make one, also behind a proxy (parley keys create).`,
      ]);
    }
  });
});

describe("HTTP/1.0, which nginx speaks to what stands behind it", () => {
  test("a stream is not chunked, comes as it is said, and ends with its connection", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    const held = model.hold();
    const body = JSON.stringify(ask);
    const connection = await connect(service.port);
    connection.write(
      `POST /v1/chat/stream HTTP/1.0\r\nhost: 127.0.0.1:${service.port}\r\nconnection: close\r\n` +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    const heard = (what: string): Promise<void> =>
      until(`${what} is heard`, () => connection.received.includes(what));
    await heard("event: start");
    held.send("one");
    await heard('{"token":"one"}\n\n');
    held.send("two");
    await heard('{"token":"two"}\n\n');
    held.finish();
    await connection.closed;
    const { status, headers, body: stream } = parseAnswer(connection.received);
    expect([status, headers.get("transfer-encoding")]).toEqual([200, null]);
    const { text, done } = await readTranscript(new Response(stream));
    expect([text, done.status]).toEqual(["onetwo", "completed"]);
    const health = await rawRequest(service.port, "GET /health HTTP/1.0\r\nhost: localhost\r\n\r\n");
    expect(health.headers.get("content-length")).toBe(String(health.body.length));
    await model.close();
  });
});

describe.skipIf(skipsNginx())(
  `in silence of ${silenceSeconds} s, behind proxies that wait ${patienceSeconds} s`,
  () => {
    const impatient = (service: Service) =>
      plain(service, minutes > 0 ? "" : `proxy_read_timeout ${patienceSeconds}s;`);

    test.concurrent(
      "a stream survives",
      async () => {
        const model = startModelServer();
        await using service = await startService({ model, env: patient });
        await using nginx = await startNginx({ impatient: impatient(service) });
        const proxy = await startIdleProxy(service.port, patienceSeconds * 1000);
        const streams = [];
        for (const url of [nginx.urls.impatient, proxy.url]) {
          const held = model.hold();
          const events = sseEvents(await post(`${url}/v1/chat/stream`));
          const { turn_id } = await nextOf<StartData>(events);
          await held.request;
          streams.push({ held, events, turn_id });
        }
        await Bun.sleep(silenceSeconds * 1000);
        for (const { held, events, turn_id } of streams) {
          held.send("at last");
          expect(await nextOf<object>(events)).toEqual({ token: "at last" });
          held.finish();
          expect(await nextOf<object>(events)).toMatchObject({ done: true, turn_id, status: "completed" });
        }
        expect(proxy.cuts).toBe(0);
        proxy.close();
        await model.close();
      },
      silentTestMsMax,
    );

    test.concurrent(
      "a waiting POST /v1/chat is cut, its turn goes on, and the same Idempotency-Key fetches the reply",
      async () => {
        const model = startModelServer();
        await using service = await startService({ model, env: patient });
        await using nginx = await startNginx({ impatient: impatient(service) });
        const proxy = await startIdleProxy(service.port, patienceSeconds * 1000);
        const outcomeOf = (response: Promise<Response>): Promise<string> =>
          response.then(
            ({ status, headers }) => `${status} of ${headers.get("server")?.split("/")[0]}`,
            () => "cut",
          );
        const waiting = [];
        for (const [url, outcome] of [
          [nginx.urls.impatient, "504 of nginx"],
          [proxy.url, "cut"],
        ] as const) {
          const held = model.hold();
          const key = { "idempotency-key": crypto.randomUUID() };
          const answer = outcomeOf(post(`${url}/v1/chat`, ask, key));
          await held.request;
          waiting.push({ url, outcome, held, key, answer });
        }
        for (const { url, outcome, held, key, answer } of waiting) {
          expect(await answer).toBe(outcome);
          const again = post(`${url}/v1/chat`, ask, key);
          held.send("the reply");
          held.finish();
          const { response, status } = (await (await again).json()) as ChatResponse;
          expect([response, status]).toEqual(["the reply", "completed"]);
        }
        expect(model.requests.length).toBe(2);
        proxy.close();
        await model.close();
      },
      silentTestMsMax,
    );

    test.concurrent(
      "a waiting POST /v1/chat is answered behind deploy/nginx.conf",
      async () => {
        const model = startModelServer();
        await using service = await startService({ model, env: patient });
        await using nginx = await startNginx({ example: example(service) });
        const held = model.hold();
        const answer = post(`${nginx.urls.example}/v1/chat`);
        await held.request;
        await Bun.sleep(silenceSeconds * 1000);
        held.send("at last");
        held.finish();
        const response = await answer;
        expect(response.status).toBe(200);
        expect(((await response.json()) as ChatResponse).response).toBe("at last");
        await model.close();
      },
      silentTestMsMax,
    );
  },
);
