/** The `EventSource` of a real browser, used as tutorials use it: `onmessage`, `data.token`, `data.done`, no more. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, Page } from "playwright-core";
import { launchChromium, openPage, skipsBrowser } from "../support/browser.ts";
import { type CuttingProxy, startCuttingProxy } from "../support/cutting-proxy.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService } from "../support/service.ts";
import type { DoneData } from "../support/sse.ts";

// Other tests run beside this on the same cores.
setDefaultTimeout(60_000);

/** What the page's script uses; this project has no types of browsers. */
interface PageEventSource {
  onmessage: (event: { data: string }) => void;
  onerror: () => void;
  readonly readyState: number;
  close(): void;
}
declare const EventSource: new (url: string) => PageEventSource;
declare const document: { body: { textContent: string } };

interface Shown {
  done: DoneData[];
  /** 0 connecting, 1 open, 2 closed: it will not reconnect. */
  readyState: number;
}

/** Shows a stream as the page's text, until `done`. */
const show = (page: Page, url: string): Promise<Shown> =>
  page.evaluate(
    (url) =>
      new Promise<Shown>((resolve) => {
        document.body.textContent = "";
        const source = new EventSource(url);
        source.onmessage = (event) => {
          const data = JSON.parse(event.data) as { token?: string } & Partial<DoneData>;
          if (data.token) document.body.textContent += data.token;
          if (!data.done) return;
          source.close();
          resolve({ done: [data as DoneData], readyState: source.readyState });
        };
      }),
    url,
  );

/** The same by a page that never closes its stream: resolves when the browser itself has given up. */
const showAndForget = (page: Page, url: string): Promise<Shown> =>
  page.evaluate(
    (url) =>
      new Promise<Shown>((resolve) => {
        document.body.textContent = "";
        const done: DoneData[] = [];
        const source = new EventSource(url);
        source.onmessage = (event) => {
          const data = JSON.parse(event.data) as { token?: string } & Partial<DoneData>;
          if (data.token) document.body.textContent += data.token;
          if (data.done) done.push(data as DoneData);
        };
        source.onerror = () => {
          if (source.readyState === 2) resolve({ done, readyState: source.readyState });
        };
      }),
    url,
  );

const textOf = (page: Page): Promise<string> => page.evaluate(() => document.body.textContent);

const pieces = Array.from({ length: 24 }, (_, index) => `${index} Überträger 山 😀👍🏽 "\\n${"\n"}`);
const reply = pieces.join("");
const streamOf = (parameters: Record<string, string> = {}): string =>
  `/v1/chat/stream?${new URLSearchParams({ user_id: "ada", message: "Tell me", ...parameters })}`;

describe.skipIf(skipsBrowser())("EventSource of a real browser", () => {
  let browser: Browser;
  let model: ModelServer;
  let service: Service;
  let proxy: CuttingProxy;

  beforeAll(async () => {
    model = startModelServer();
    service = await startService({ model });
    proxy = await startCuttingProxy(service.port);
    browser = await launchChromium();
  });

  afterAll(async () => {
    await browser.close();
    proxy.close();
    await service[Symbol.asyncDispose]();
    await model.close();
  });

  test("shows a reply with onmessage, data.token and data.done alone", async () => {
    const page = await openPage(browser, service.url);
    model.reply(pieces, { delayMs: 2 });
    const { done } = await show(page, streamOf());
    expect(await textOf(page)).toBe(reply);
    expect(done[0]).toMatchObject({ status: "completed", length: reply.length, error: null });
    await page.close();
  });

  test("is told of a failure by data.done, after the text that came before", async () => {
    const page = await openPage(browser, service.url);
    model.failAfter(2, "end");
    const { done } = await show(page, streamOf());
    expect(await textOf(page)).toBe("word1 word2 ");
    expect(done[0]).toMatchObject({ status: "failed", error: { code: "model_stream_incomplete" } });
    await page.close();
  });

  test("gives up by itself when nothing is left to see", async () => {
    const page = await openPage(browser, proxy.url);
    const before = { turns: model.requests.length, streams: proxy.streams };
    model.reply(pieces);
    const { done, readyState } = await showAndForget(page, streamOf());
    expect(await textOf(page)).toBe(reply);
    expect(done).toHaveLength(1);
    expect(readyState).toBe(2);
    // One for the reply, one that was told 204.
    expect(proxy.streams - before.streams).toBe(2);
    expect(model.requests.length - before.turns).toBe(1);
    await page.close();
  });

  test("opens the stream_url of a turn, though it can send no key", async () => {
    const key = "a-key-of-the-tests-1234";
    await using guarded = await startService({ model, env: { PARLEY_API_KEYS: key } });
    const page = await openPage(browser, guarded.url);
    model.reply(pieces, { delayMs: 2 });
    const started = await guarded.post<{ id: string; stream_url: string }>(
      "/v1/turns",
      { user_id: "ada", message: "Tell me" },
      { authorization: `Bearer ${key}` },
    );
    expect(started.status).toBe(202);
    const { done, readyState } = await showAndForget(page, started.body.stream_url);
    expect(await textOf(page)).toBe(reply);
    expect(done).toMatchObject([{ turn_id: started.body.id, status: "completed" }]);
    expect(readyState).toBe(2);
    expect((await guarded.get(`/v1/turns/${started.body.id}`)).status).toBe(401);
    await page.close();
  });

  // The answer's head has some 250 bytes, `start` 300, `done` 450: no stream is shorter than that, also where all of the
  // text has been seen or comes as one token. The first stream has the reply's own bytes on top.
  const cuts = {
    "in the head and in start": [120, 200, 255, 300, 400, 520, 560],
    "between and within tokens": [640, 700, 750, 800, 850, 900, 950],
    "late, and again before anything new came": [
      1000 + Buffer.byteLength(reply),
      400,
      610,
      900,
      340,
      950,
      601,
    ],
  };
  for (const [where, bytes] of Object.entries(cuts)) {
    test(`neither repeats nor loses text when it is cut ${where}`, async () => {
      const page = await openPage(browser, proxy.url);
      const before = { turns: model.requests.length, cuts: proxy.cuts };
      model.reply(pieces, { delayMs: 5 });
      proxy.cutNext(bytes);
      const { done } = await show(page, streamOf({ idempotency_key: crypto.randomUUID() }));
      expect(await textOf(page)).toBe(reply);
      expect(done[0]).toMatchObject({ status: "completed", length: reply.length });
      expect(proxy.cuts - before.cuts).toBe(bytes.length);
      expect(model.requests.length - before.turns).toBe(1);
      await page.close();
    });
  }

  test("makes no second turn when it is cut before the first event and sent an idempotency_key", async () => {
    const page = await openPage(browser, proxy.url);
    const before = { turns: model.requests.length, streams: proxy.streams };
    model.reply(pieces, { delayMs: 2 });
    // Before the first byte of the answer, by when the turn is stored; and right after its head.
    proxy.cutNext([0, 255]);
    const { done } = await show(page, streamOf({ idempotency_key: crypto.randomUUID() }));
    expect(await textOf(page)).toBe(reply);
    expect(proxy.streams - before.streams).toBe(3);
    expect(model.requests.length - before.turns).toBe(1);
    const { body } = await service.get<{ message_count: number }>(
      `/v1/conversations/${done[0]?.conversation_id}`,
    );
    expect(body.message_count).toBe(2);
    await page.close();
  });
});
