/** SIGTERM and SIGINT: not ready at once, a grace for what runs, then interrupted; exit code 0. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Problem } from "../../src/http/problem.ts";
import type { ReadinessReport } from "../../src/ops/readiness.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { holdTurn, resume, turnOf } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;

beforeAll(() => {
  model = startModelServer();
});
afterAll(() => model.close());

const untilNotReady = (service: Service): Promise<void> =>
  until("it isn't ready", async () => (await service.get("/ready")).status === 503);

describe("within the grace", () => {
  test("it isn't ready, takes no new turns, and lets the running ones end", async () => {
    await using service = await startService({ model });
    const { turn, held } = await holdTurn(service, model, "almost ");
    const watcher = readTranscript(await resume(service, turn.id, 0));
    service.signal("SIGTERM");
    await untilNotReady(service);
    const ready = await service.get<ReadinessReport>("/ready");
    expect(ready.body).toMatchObject({
      status: "not_ready",
      checks: { serving: { status: "failed" }, storage: { status: "ok" } },
    });
    expect((await service.get("/health")).status).toBe(200);
    const asked = model.requests.length;
    for (const path of ["/v1/chat", "/v1/chat/stream", "/v1/turns"]) {
      const refused = await service.post<Problem>(path, { user_id: "late", message: "Hello" });
      expect([refused.status, refused.body.code]).toEqual([503, "shutting_down"]);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    }
    expect(model.requests.length).toBe(asked);
    expect((await turnOf(service, turn.id)).status).toBe("running");
    held.send("done");
    held.finish();
    expect(await watcher).toMatchObject({ text: "almost done", done: { status: "completed", error: null } });
    expect(await service.exited()).toBe(0);
    await service.restart();
    expect(await turnOf(service, turn.id)).toMatchObject({ status: "completed", response: "almost done" });
  });
});

describe("after the grace", () => {
  test.each(["SIGTERM", "SIGINT"] as const)(
    "%s interrupts what runs: partial text, done to the watchers, 503 to those who wait, exit code 0",
    async (signal) => {
      await using service = await startService({ model, env: { PARLEY_SHUTDOWN_SECONDS: "0" } });
      const { turn } = await holdTurn(service, model, "partial 😀");
      const watchers = [0, 3, 10].map(async (offset) =>
        readTranscript(await resume(service, turn.id, offset)),
      );
      const held = model.hold();
      held.send("for JSON");
      const chat = service.post<Problem>("/v1/chat", { user_id: "waiter", message: "Hello" });
      await held.request;
      service.signal(signal);
      for (const { text, done, startId } of await Promise.all(watchers)) {
        expect(text).toBe("partial 😀".slice(Number(startId.split(":")[1])));
        expect(done).toMatchObject({ status: "interrupted", length: 10, error: { code: "shutting_down" } });
      }
      const waited = await chat;
      expect(waited.status).toBe(503);
      expect(waited.body).toMatchObject({
        code: "shutting_down",
        turn_id: expect.stringMatching(/^turn_/),
        conversation_id: expect.stringMatching(/^conv_/),
        response: expect.any(String),
      });
      expect(await service.exited()).toBe(0);
      await service.restart();
      expect(await turnOf(service, turn.id)).toMatchObject({
        status: "interrupted",
        response: "partial 😀",
        error: { code: "shutting_down" },
      });
    },
  );

  test("PARLEY_SHUTDOWN_SECONDS is waited for", async () => {
    await using service = await startService({ model, env: { PARLEY_SHUTDOWN_SECONDS: "1" } });
    const { turn, held } = await holdTurn(service, model, "one ");
    const watcher = readTranscript(await resume(service, turn.id, 0));
    service.signal("SIGTERM");
    await untilNotReady(service);
    held.send("more");
    const { text, done } = await watcher;
    expect([text, done.status]).toEqual(["one more", "interrupted"]);
    expect(await service.exited()).toBe(0);
  });
});

test("with nothing running it exits with 0", async () => {
  await using service = await startService({ model });
  expect(await service.stop()).toBe(0);
});
