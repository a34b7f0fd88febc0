/** The stream with the clients that people have: npm packages, `fetch` and `curl`. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { EventSource } from "eventsource";
import { createParser } from "eventsource-parser";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { startCuttingProxy } from "../support/cutting-proxy.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { programPath, skipsWithout } from "../support/needs.ts";
import { type Service, startService } from "../support/service.ts";
import { type DoneData, toTranscript } from "../support/sse.ts";

// Other tests run beside this on the same cores.
setDefaultTimeout(60_000);

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

const pieces = ["Mount ", "Everest, ", "埃佛勒斯峰 ", "😀👍🏽", '\n"quoted"\n\n', "\u2028 at 8,849 m."];
const reply = pieces.join("");
const ask = { user_id: "ada", message: "Which one?" };
const streamOf = (parameters: Record<string, string> = {}): string =>
  `/v1/chat/stream?${new URLSearchParams({ ...ask, ...parameters })}`;
const asJson = (headers: Record<string, string> = {}): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json", ...headers },
  body: JSON.stringify(ask),
});

interface Heard {
  text: string;
  done: DoneData[];
  named: string[];
}

/** Listens as tutorials do; resolves at `done`, or, where it stays open, when the client has given up. */
function listen(url: string, { closes }: { closes: boolean }): Promise<Heard> {
  const heard: Heard = { text: "", done: [], named: [] };
  const source = new EventSource(url);
  return new Promise((resolve) => {
    source.addEventListener("start", () => heard.named.push("start"));
    source.onmessage = ({ data }) => {
      const event = JSON.parse(data) as { token?: string } & Partial<DoneData>;
      if (event.token) heard.text += event.token;
      if (!event.done) return;
      heard.done.push(event as DoneData);
      if (closes) source.close();
      if (closes) resolve(heard);
    };
    source.onerror = () => {
      if (source.readyState === source.CLOSED) resolve(heard);
    };
  });
}

describe("the package eventsource", () => {
  test("hears a reply and its end", async () => {
    model.reply(pieces, { delayMs: 2 });
    const { text, done, named } = await listen(service.url + streamOf(), { closes: true });
    expect(text).toBe(reply);
    expect(done).toMatchObject([{ status: "completed", length: reply.length }]);
    expect(named).toEqual(["start"]);
  });

  test("gives up by itself when nothing is left to hear", async () => {
    const proxy = await startCuttingProxy(service.port);
    const before = model.requests.length;
    model.reply(pieces);
    const { text, done } = await listen(proxy.url + streamOf(), { closes: false });
    expect(text).toBe(reply);
    expect(done).toHaveLength(1);
    expect(proxy.streams).toBe(2);
    expect(model.requests.length - before).toBe(1);
    proxy.close();
  });

  test("opens a stream_url without a key", async () => {
    const key = "a-key-of-the-tests-1234";
    await using guarded = await startService({ model, env: { PARLEY_API_KEYS: key } });
    model.reply(pieces, { delayMs: 2 });
    const started = await guarded.post<{ stream_url: string }>("/v1/turns", ask, {
      authorization: `Bearer ${key}`,
    });
    const { text } = await listen(guarded.url + started.body.stream_url, { closes: true });
    expect(text).toBe(reply);
  });

  test("neither repeats nor loses text, and makes one turn, wherever it is cut", async () => {
    model.reply([reply]);
    // Its head has 200 bytes and more.
    const shortest = 200 + (await (await service.fetch(streamOf())).bytes()).length;
    expect(shortest).toBeGreaterThan(1000);
    const before = model.requests.length;
    // All at once, each through a proxy of its own: a client whose answer had no `retry` waits for seconds.
    const cuts = Array.from({ length: Math.floor(shortest / 17) }, (_, index) => index * 17);
    const heard = await Promise.all(
      cuts.map(async (cut) => {
        const proxy = await startCuttingProxy(service.port);
        // The second cut falls around the end of the repeated `start`.
        proxy.cutNext([cut, 530 + (cut % 60)]);
        model.reply(pieces, { delayMs: 1 });
        const url = proxy.url + streamOf({ idempotency_key: crypto.randomUUID() });
        const { text, done } = await listen(url, { closes: true });
        proxy.close();
        return { cut, text, ends: done.length, cuts: proxy.cuts };
      }),
    );
    expect(heard).toEqual(cuts.map((cut) => ({ cut, text: reply, ends: 1, cuts: 2 })));
    expect(model.requests.length - before).toBe(cuts.length);
  });
});

describe("the package eventsource-parser", () => {
  test("parses a stream fed to it byte by byte", async () => {
    model.reply(pieces, { delayMs: 2 });
    const bytes = await (await service.fetch("/v1/chat/stream", asJson())).bytes();
    const events: Parameters<typeof toTranscript>[0] = [];
    const retries: number[] = [];
    const faults: Error[] = [];
    const parser = createParser({
      onEvent: (event) => events.push(event),
      onRetry: (ms) => retries.push(ms),
      onError: (error) => faults.push(error),
    });
    const decoder = new TextDecoder();
    for (const byte of bytes) parser.feed(decoder.decode(Uint8Array.of(byte), { stream: true }));
    const { text, done } = toTranscript(events);
    expect(text).toBe(reply);
    expect(done).toMatchObject({ status: "completed", length: reply.length });
    expect(retries).toEqual([2000]);
    expect(faults).toEqual([]);
  });

  test("parses it as a transforming stream", async () => {
    model.reply(pieces, { delayMs: 2 });
    const { body } = await service.fetch("/v1/chat/stream", asJson());
    const events = body!.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    expect(toTranscript(await Array.fromAsync(events)).text).toBe(reply);
  });
});

describe("fetch", () => {
  /** What the reader has got once it holds `wanted`; leaves the stream open. */
  async function readUntil(
    reader: Pick<ReadableStreamDefaultReader<Uint8Array>, "read">,
    wanted: string,
  ): Promise<string> {
    const decoder = new TextDecoder();
    let text = "";
    while (!text.includes(wanted)) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`the stream ended without ${wanted}`);
      text += decoder.decode(value, { stream: true });
    }
    return text;
  }

  test("gets start before the model has said anything, and each token when it comes", async () => {
    const held = model.hold();
    const response = await service.fetch("/v1/chat/stream", asJson());
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    expect(response.headers.get("cache-control")).toBe("no-cache, no-transform");
    expect(response.headers.get("x-accel-buffering")).toBe("no");
    const reader = response.body!.getReader();
    const start = await readUntil(reader, "\n\nevent: start\n");
    expect(start).toStartWith("retry: 2000\n\n");
    expect(start).not.toContain("token");
    held.send("Mount");
    expect(await readUntil(reader, '{"token":"Mount"}\n\n')).not.toContain("Everest");
    held.send(" Everest");
    expect(await readUntil(reader, '{"token":" Everest"}\n\n')).not.toContain("done");
    held.finish();
    expect(await readUntil(reader, ":end\n")).toContain('"done":true');
    expect((await reader.read()).done).toBe(true);
  });

  test("goes on where it was left, by Last-Event-ID", async () => {
    const held = model.hold();
    const leaving = new AbortController();
    const response = await service.fetch("/v1/chat/stream", { ...asJson(), signal: leaving.signal });
    held.send("Mount 😀");
    const first = await readUntil(response.body!.getReader(), '{"token":"Mount 😀"}\n\n');
    leaving.abort();
    const id = /id: (turn_\S+:8)\n/.exec(first)?.[1] ?? "none";
    held.send(" Everest");
    held.finish();
    const rest = await service.fetch("/v1/chat/stream", asJson({ "Last-Event-ID": id }));
    const events: Parameters<typeof toTranscript>[0] = [];
    createParser({ onEvent: (event) => events.push(event) }).feed(await rest.text());
    const { text, startId, done } = toTranscript(events);
    expect(startId).toBe(id);
    expect(text).toBe(" Everest");
    expect(done).toMatchObject({ status: "completed", length: 16 });
  });
});

const curl = programPath("curl");

describe.skipIf(skipsWithout("curl (apt-get install curl)", curl !== null))("curl -N", () => {
  test("shows each event when it comes", async () => {
    const held = model.hold();
    const process_ = Bun.spawn(
      [
        ...[curl!, "-sN", "-X", "POST", `${service.url}/v1/chat/stream`],
        ...["-H", "Content-Type: application/json", "-d", JSON.stringify(ask)],
      ],
      { stdout: "pipe", stderr: "ignore" },
    );
    const decoder = new TextDecoder();
    let output = "";
    let sent = 0;
    for await (const chunk of process_.stdout) {
      output += decoder.decode(chunk, { stream: true });
      // Each piece is only sent once the one before has been seen: nothing may wait in a buffer.
      if (sent === 0 && output.includes("event: start")) held.send(pieces[sent++]!);
      else if (sent > 0 && output.includes(JSON.stringify({ token: pieces[sent - 1] }))) {
        if (sent < pieces.length) held.send(pieces[sent++]!);
        else held.finish();
      }
    }
    expect(await process_.exited).toBe(0);
    expect(sent).toBe(pieces.length);
    const events: Parameters<typeof toTranscript>[0] = [];
    createParser({ onEvent: (event) => events.push(event) }).feed(output);
    expect(toTranscript(events).text).toBe(reply);
  });
});
