/** /ready tells each part's state; only what no other instance could do better decides. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { BackgroundMemory } from "../../src/memory/background.ts";
import { drawByModel } from "../../src/memory/drawing.ts";
import type { ReadinessReport } from "../../src/ops/readiness.ts";
import { openWorkbench } from "../support/background.ts";
import { startEmbeddingServer } from "../support/embedding-server.ts";
import { loggedLine } from "../support/log-lines.ts";
import { startModelServer } from "../support/model-server.ts";
import { type Service, startService, testModel, testMsMax } from "../support/service.ts";
import { skipsSmallDisk, smallDisk } from "../support/small-disk.ts";
import { wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

async function checksOf(service: Service): Promise<ReadinessReport["checks"]> {
  const { status, body } = await service.get<ReadinessReport>("/ready");
  expect([status, body.status]).toEqual([200, "ready"]);
  return body.checks;
}

const ask = { user_id: "ada", message: "Hello" };

describe("the model", () => {
  test("is as it answered last, and decides nothing; no token is spent to find out", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    const first = await checksOf(service);
    expect(Object.keys(first)).toEqual(["serving", "storage", "disk", "background", "model"]);
    expect(first).toMatchObject({
      serving: { status: "ok" },
      storage: { status: "ok" },
      background: { status: "ok" },
      model: { status: "unknown", latency_ms: 0 },
    });
    expect(first.storage.latency_ms).toBeGreaterThan(0);
    await wholeTurn(service, model, ["fine"]);
    const { status, latency_ms } = (await checksOf(service)).model;
    expect(status).toBe("ok");
    expect(latency_ms).toBeGreaterThan(0);
    model.status(401);
    expect((await service.post("/v1/chat", ask)).status).toBe(502);
    expect((await checksOf(service)).model.status).toBe("failed");
    // That one was wrong itself, which the model had to be up to say.
    model.status(400, { body: { error: { message: "too long", code: "context_length_exceeded" } } });
    expect((await service.post("/v1/chat", ask)).status).toBe(502);
    expect((await checksOf(service)).model.status).toBe("ok");
    expect(model.requests.length).toBe(3);
    await model.close();
  });

  test("is failed where its answer broke off", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    model.failAfter(2, "end");
    expect((await service.post("/v1/chat", ask)).status).toBe(502);
    expect((await checksOf(service)).model.status).toBe("failed");
    await model.close();
  });

  test("is always fine where it is the embedded one", async () => {
    await using service = await startService();
    expect((await checksOf(service)).model).toEqual({ status: "ok", latency_ms: 0 });
  });
});

test("the embedding model is told where there is one, and decides nothing either", async () => {
  const embedding = startEmbeddingServer();
  const env = { PARLEY_EMBEDDING_MODEL: `vectors@${embedding.url}` };
  await using service = await startService({ env });
  await loggedLine(service, { event: "embedding" });
  expect((await checksOf(service)).embedding).toMatchObject({ status: "ok" });
  await embedding.close();
  await service.stop();
  await service.restart();
  await loggedLine(service, { event: "embedding_failed", code: "model_unreachable" });
  expect((await checksOf(service)).embedding!.status).toBe("failed");
});

test.skipIf(skipsSmallDisk())("a disk with hardly any room is told while it still takes writes", async () => {
  using disk = smallDisk(32);
  await using service = await startService({ dataDir: disk.path });
  expect((await checksOf(service)).disk?.status).toBe("failed");
  await using roomy = await startService();
  expect((await checksOf(roomy)).disk?.status).toBe("ok");
});

test("background work is behind when there is no room for what waits, and not any more when it is done", async () => {
  await using bench = await openWorkbench();
  const server = startModelServer();
  const drawing = drawByModel(bench.modelOf(server), testModel, 500);
  const { store, claims, log, limits } = bench;
  const memory = new BackgroundMemory(
    true,
    { store, claims, log, limits, drawing, summarising: null },
    { waitingMax: 1, scanMs: 10 },
  );
  const held = server.memory.hold();
  const ended = [];
  for (let n = 0; n < 3; n++) {
    const said = { message: "I live in Zurich.", tokens: 5 };
    const turn = await bench.turn("ada", said, { message: "Fine.", tokens: 2 }, { to_remember: true });
    ended.push({ ...turn, workspace_id: "default", user_id: "ada", message: said.message });
  }
  expect(memory.isBehind).toBe(false);
  for (const turn of ended) memory.turnEnded({ ...turn, to_remember: true, fold: null });
  expect(memory.isBehind).toBe(true);
  expect(memory.waiting.memories).toBe(2);
  await held.request;
  held.send('{"memories": []}');
  held.finish();
  while (memory.isBehind) await Bun.sleep(5);
  await memory.close();
  await server.close();
});
