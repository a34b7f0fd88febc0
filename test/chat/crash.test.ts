/** kill -9 in the middle of a reply, and a second process on the same data directory. */

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Message } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { runParley, type Service, serviceEnv, startService, testMsMax, until } from "../support/service.ts";
import { readTranscript, type StartData, sseEvents } from "../support/sse.ts";
import { conversationOf, holdTurn, resume, turnOf, untilEnded, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;

beforeAll(() => {
  model = startModelServer();
});
afterAll(() => model.close());

/** What a reply has on the disk: its last checkpoint. */
function storedText(service: Service, turnId: string): string {
  using db = new Database(join(service.dataDir, "parley.db"), { readonly: true });
  return db
    .query<{ content: string }, [string]>(
      "select content from messages where turn_id = ? and role = 'assistant'",
    )
    .get(turnId)!.content;
}

const untilStored = (service: Service, turnId: string, text: string): Promise<void> =>
  until("the text is checkpointed", () => storedText(service, turnId) === text);

/** A service that was killed in the middle of a reply, of which `kept` was checkpointed, and started again. */
async function crashed(kept: string, lost = "") {
  const service = await startService({ model });
  const { turn, held } = await holdTurn(service, model, kept);
  await untilStored(service, turn.id, kept);
  if (lost !== "") {
    const events = sseEvents(await resume(service, turn.id, kept.length));
    await events.next();
    held.send(lost);
    await events.next();
  }
  await service.kill();
  await service.restart();
  return { service, turn, kept };
}

describe("kill -9 in the middle of a reply", () => {
  test("after the restart the turn is interrupted, with the checkpointed text", async () => {
    const { service, turn, kept } = await crashed("kept by the checkpoint 😀");
    await using _ = service;
    expect(await turnOf(service, turn.id)).toMatchObject({
      status: "interrupted",
      response: kept,
      length: kept.length,
      finish_reason: null,
      error: { code: "turn_interrupted", message: expect.any(String) },
      ended_at: expect.any(Number),
    });
    const { usage } = await turnOf(service, turn.id);
    expect(usage.estimated).toBe(true);
    expect(usage.completion_tokens).toBeGreaterThan(0);
  });

  test("its watchers resume and get the rest of what was kept, and done", async () => {
    const { service, turn, kept } = await crashed("kept by the checkpoint");
    await using _ = service;
    for (const offset of [0, 5, kept.length]) {
      const { text, done } = await readTranscript(await resume(service, turn.id, offset));
      expect(text).toBe(kept.slice(offset));
      expect(done).toMatchObject({
        status: "interrupted",
        length: kept.length,
        error: { code: "turn_interrupted" },
      });
    }
  });

  test("who had seen more than was kept gets start and done, whose length says so", async () => {
    const { service, turn, kept } = await crashed("kept", " and this came right before the kill");
    await using _ = service;
    const { response } = await turnOf(service, turn.id);
    expect(`${kept} and this came right before the kill`).toStartWith(response);
    const { text, done, startId } = await readTranscript(await resume(service, turn.id, 40));
    expect([text, startId]).toEqual(["", `${turn.id}:40`]);
    expect(done).toMatchObject({ status: "interrupted", length: response.length });
  });

  test("the conversation is free again, and the partial reply is part of it", async () => {
    const { service, turn } = await crashed("half a reply");
    await using _ = service;
    const { conversation_id } = turn;
    expect((await conversationOf(service, conversation_id)).active_turn_id).toBeNull();
    const next = await wholeTurn(service, model, ["the next"], { conversation_id });
    expect(next.response).toBe("the next");
    expect(model.requests.at(-1)!.body.messages.map(({ content }) => content)).toEqual([
      "You are a helpful assistant.",
      "Hello",
      "half a reply",
      "Hello",
    ]);
    const { body } = await service.get<{ messages: Message[] }>(
      `/v1/conversations/${conversation_id}/messages`,
    );
    expect(body.messages.map(({ status }) => status)).toEqual([
      "completed",
      "interrupted",
      "completed",
      "completed",
    ]);
  });

  test("a fallback that was writing is named", async () => {
    const fallback = startModelServer();
    await using service = await startService({
      model,
      env: { PARLEY_FALLBACK_MODELS: `fallback@${fallback.url}` },
    });
    model.status(401);
    const { turn } = await holdTurn(service, fallback, "half a reply");
    await untilStored(service, turn.id, "half a reply");
    await service.kill();
    await service.restart();
    expect(await turnOf(service, turn.id)).toMatchObject({ status: "interrupted", model: "fallback" });
    const { body } = await service.get<{ messages: Message[] }>(
      `/v1/conversations/${turn.conversation_id}/messages`,
    );
    expect(body.messages.at(-1)).toMatchObject({ content: "half a reply", model: "fallback" });
    await fallback.close();
  });

  test("a request with the same Idempotency-Key is told, over JSON as a problem", async () => {
    await using service = await startService({ model });
    const key = { "idempotency-key": "before-the-crash" };
    const body = { user_id: "ada", message: "Hello" };
    const held = model.hold();
    held.send("partial");
    const { body: turn } = await service.post<{ id: string }>("/v1/turns", body, key);
    await held.request;
    await untilStored(service, turn.id, "partial");
    await service.kill();
    await service.restart();
    const asked = model.requests.length;
    const answer = await service.post<Problem>("/v1/chat", body, key);
    expect(answer.status).toBe(503);
    expect(answer.body).toMatchObject({ code: "turn_interrupted", turn_id: turn.id, response: "partial" });
    expect(model.requests.length).toBe(asked);
  });

  test("what had ended stays as it was, and so it does through further kills", async () => {
    await using service = await startService({ model });
    const { turn_id } = await wholeTurn(service, model, ["whole"]);
    const { turn } = await holdTurn(service, model, "part");
    await untilStored(service, turn.id, "part");
    const before = await turnOf(service, turn_id);
    await service.kill();
    await service.restart();
    const interrupted = await turnOf(service, turn.id);
    await service.kill();
    await service.restart();
    expect(await turnOf(service, turn_id)).toEqual(before);
    expect(await turnOf(service, turn.id)).toEqual(interrupted);
    using db = new Database(join(service.dataDir, "parley.db"));
    expect(db.query("pragma integrity_check").get()).toEqual({ integrity_check: "ok" });
  });
});

describe("a second serve on the same data directory", () => {
  test("is refused with a message, and harms nothing: the running turn goes on", async () => {
    await using service = await startService({ model });
    const { turn, held } = await holdTurn(service, model, "going ");
    const events = sseEvents(await resume(service, turn.id, 6));
    const start = JSON.parse((await events.next()).value!.data) as StartData;
    const second = await runParley(["serve"], serviceEnv(service.dataDir, { model }));
    expect(second.exitCode).not.toBe(0);
    expect(second.stderr).toContain("another parley serve is using");
    expect(second.stderr).not.toContain("at ");
    expect(second.stdout).toBe("");
    expect(await turnOf(service, turn.id)).toMatchObject({ status: "running", response: "going " });
    held.send("on");
    held.finish();
    expect((await events.next()).value).toMatchObject({ id: `${start.turn_id}:8`, data: '{"token":"on"}' });
    expect(JSON.parse((await events.next()).value!.data)).toMatchObject({ done: true, status: "completed" });
    await untilEnded(service, turn.id);
    expect((await service.get("/ready")).status).toBe(200);
  });

  test("is let in when the first one has ended, however it ended", async () => {
    await using service = await startService({ model });
    await service.kill();
    await service.restart();
    await service.stop();
    await service.restart();
    expect((await service.get("/ready")).status).toBe(200);
  });
});
