/** More than the service can carry: each request is served or clearly refused, and when the load goes all is as before. */
import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { startModelServer } from "../support/model-server.ts";
import { type Service, startService, until } from "../support/service.ts";
import { readTranscript, sseEvents } from "../support/sse.ts";
import { startTellingModel, tellingOf } from "../support/telling-model.ts";
import {
  holdTurn,
  type StartedTurn,
  seededRandom,
  startTurn,
  turnOf,
  untilEnded,
  wholeTurn,
} from "../support/turns.ts";

setDefaultTimeout(60_000);

const json = { "content-type": "application/json" };

/** @throws where a response is no refusal that says when to come back */
function expectRefusal(status: number, headers: Headers, body: unknown): void {
  expect([status, headers.get("content-type")]).toEqual([503, "application/problem+json"]);
  expect(body).toMatchObject({ code: "overloaded", status: 503 });
  expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
}

const conversationsOf = async (service: Service, user_id: string): Promise<Conversation[]> =>
  (await service.get<{ conversations: Conversation[] }>(`/v1/conversations?user_id=${user_id}&limit=100`))
    .body.conversations;

/** Opens so many streams of a turn as soon as there is room; the returned function closes their connections. */
async function openStreams(service: Service, turnId: string, count: number): Promise<() => Promise<void>> {
  let open: ReturnType<typeof sseEvents>[] = [];
  const leave = async (): Promise<void> => {
    await Promise.all(open.map((events) => events.return()));
  };
  // Of a connection that was dropped the service may hear a moment later.
  await until(`${count} streams have room`, async () => {
    const responses = await Promise.all(
      Array.from({ length: count }, () => service.fetch(`/v1/turns/${turnId}/stream`)),
    );
    open = responses.map((response) => sseEvents(response));
    await Promise.all(open.map((events) => events.next()));
    if (responses.every(({ status }) => status === 200)) return true;
    await leave();
    return false;
  });
  return leave;
}

/** Exactly so many streams have room, which shows that none is counted that has gone. */
async function expectRoomFor(service: Service, turnId: string, count: number): Promise<void> {
  const leave = await openStreams(service, turnId, count);
  const refused = await service.get<Problem>(`/v1/turns/${turnId}`);
  expectRefusal(refused.status, refused.headers, refused.body);
  await leave();
  await until("there is room again", async () => (await service.get(`/v1/turns/${turnId}`)).status === 200);
}

test("beyond PARLEY_REQUESTS_OPEN_MAX everything but the probes is refused, and starts nothing", async () => {
  const model = startModelServer();
  await using service = await startService({ model, env: { PARLEY_REQUESTS_OPEN_MAX: "6" } });
  const { turn, held } = await holdTurn(service, model);
  const asked = model.requests.length;
  const leave = await openStreams(service, turn.id, 6);
  const chat = { user_id: "late", message: "Me too" };
  const requests: [method: string, path: string, body?: object][] = [
    ["POST", "/v1/chat", chat],
    ["POST", "/v1/chat/stream", chat],
    ["GET", `/v1/chat/stream?${new URLSearchParams(chat)}`],
    ["POST", "/v1/turns", chat],
    ["GET", `/v1/turns/${turn.id}`],
    ["GET", `/v1/turns/${turn.id}/stream`],
    ["POST", `/v1/turns/${turn.id}/stop`],
    ["POST", "/v1/conversations", { user_id: "late" }],
    ["GET", "/v1/conversations"],
    ["PATCH", `/v1/conversations/${turn.conversation_id}`, { title: "Late" }],
    ["DELETE", `/v1/conversations/${turn.conversation_id}`],
    ["GET", "/openapi.json"],
  ];
  for (const [method, path, body] of requests) {
    const { status, headers, body: problem } = await service.send<Problem>(method, path, body);
    expectRefusal(status, headers, problem);
  }
  for (const probe of ["/health", "/ready"]) expect((await service.get(probe)).status).toBe(200);
  await leave();
  await expectRoomFor(service, turn.id, 6);
  expect(await turnOf(service, turn.id)).toMatchObject({ status: "running" });
  expect(await conversationsOf(service, "late")).toEqual([]);
  expect(model.requests.length).toBe(asked);
  held.finish();
  await untilEnded(service, turn.id);
  await model.close();
});

/** One request of a client under load, and what came of it. */
interface Outcome {
  message: string | null;
  refused: boolean;
  turnId: string | null;
}

test("under twice the load that it may carry each request is served or refused, and no turn is lost or doubled", async () => {
  const turnsMax = 6;
  const requestsMax = 12;
  const random = seededRandom();
  const model = startTellingModel();
  await using service = await startService({
    model,
    env: { PARLEY_TURNS_RUNNING_MAX: `${turnsMax}`, PARLEY_REQUESTS_OPEN_MAX: `${requestsMax}` },
  });

  /** A turn in one of the four ways to have one. */
  async function takeTurn(user_id: string, message: string, way: number): Promise<Outcome> {
    const chat = { user_id, message };
    const post = { method: "POST", headers: json, body: JSON.stringify(chat) };
    const response = await (way === 2
      ? service.fetch(`/v1/chat/stream?${new URLSearchParams(chat)}`)
      : service.fetch(["/v1/chat", "/v1/chat/stream", "", "/v1/turns"][way]!, post));
    if (response.status === 503) {
      expectRefusal(response.status, response.headers, await response.json());
      return { message, refused: true, turnId: null };
    }
    expect(response.status).toBe(way === 3 ? 202 : 200);
    if (way === 3) return { message, refused: false, turnId: ((await response.json()) as StartedTurn).id };
    if (way === 0) {
      const { response: text, status, turn_id } = (await response.json()) as ChatResponse;
      expect([status, text]).toEqual(["completed", tellingOf(message).text]);
      return { message, refused: false, turnId: turn_id };
    }
    const { text, done } = await readTranscript(response);
    expect([done.status, text]).toEqual(["completed", tellingOf(message).text]);
    return { message, refused: false, turnId: done.turn_id };
  }

  async function look(path: string): Promise<Outcome> {
    const { status, headers, body } = await service.get<unknown>(path);
    if (status === 503) expectRefusal(status, headers, body);
    else expect(status).toBe(200);
    return { message: null, refused: status === 503, turnId: null };
  }

  let probing = true;
  let probes = 0;
  const probe = (async () => {
    while (probing) {
      for (const path of ["/health", "/ready"]) expect((await service.get(path)).status).toBe(200);
      probes++;
    }
  })();

  // Twice as many at once as there is room for, while no turn can end: all others are told so at once.
  let resume = model.pause();
  let refused = 0;
  const first = Array.from({ length: 2 * requestsMax }, async (_, index) => {
    const outcome = await takeTurn(`user-${index}`, `first ${index}`, index % 4);
    if (outcome.refused) refused++;
    return outcome;
  });
  await until("all but those that have room are refused", () => refused === 2 * requestsMax - turnsMax);
  resume();

  // Then as many go on for a while, turns and reads mixed.
  const clients = Array.from({ length: 2 * requestsMax }, async (_, index) => {
    const outcomes: Outcome[] = [];
    for (let round = 0; round < 8; round++) {
      const choice = Math.floor(random() * 6);
      outcomes.push(
        choice < 4
          ? await takeTurn(`user-${index}`, `message ${index}.${round}`, choice)
          : await look(
              choice === 4 ? "/v1/conversations" : `/v1/conversations?user_id=user-${index}&q=message`,
            ),
      );
    }
    return outcomes;
  });
  const outcomes = [...(await Promise.all(first)), ...(await Promise.all(clients)).flat()];
  probing = false;
  await probe;
  expect(probes).toBeGreaterThan(0);

  const taken = outcomes.filter((outcome) => !outcome.refused && outcome.message !== null);
  for (const { message, turnId } of taken) {
    await untilEnded(service, turnId!);
    const { status, response } = await turnOf(service, turnId!);
    expect([status, response]).toEqual(["completed", tellingOf(message!).text]);
  }
  // The model was asked once for each turn that was taken, and for no other.
  expect(new Map(model.asked)).toEqual(new Map(taken.map(({ message }) => [message!, 1])));
  const kept = (
    await Promise.all(clients.map((_, index) => conversationsOf(service, `user-${index}`)))
  ).flat();
  expect(kept.length).toBe(taken.length);
  expect(
    kept.every(({ message_count, active_turn_id }) => message_count === 2 && active_turn_id === null),
  ).toBe(true);

  // All counts are back at zero: there is room for exactly as many as in the beginning.
  resume = model.pause();
  const again: StartedTurn[] = [];
  while (again.length < turnsMax) again.push(await startTurn(service, { message: `again ${again.length}` }));
  const beyond = await service.post<Problem>("/v1/turns", { user_id: "ada", message: "One more" });
  expectRefusal(beyond.status, beyond.headers, beyond.body);
  await expectRoomFor(service, again[0]!.id, requestsMax);
  resume();
  for (const { id } of again) await untilEnded(service, id);
  await model.close();
});

test("writes beyond PARLEY_WRITES_WAITING_MAX are refused and not done; the end of a turn finds room", async () => {
  const model = startModelServer();
  await using service = await startService({ model, env: { PARLEY_WRITES_WAITING_MAX: "10" } });
  const { turn, held } = await holdTurn(service, model, "All of ");
  const asked = model.requests.length;
  // Another program that writes keeps the database locked: what is to be written waits.
  using database = new Database(join(service.dataDir, "parley.db"));
  database.run("begin immediate");
  const users = Array.from({ length: 40 }, (_, index) => `waiter-${index}`);
  const refusedUsers = new Set<string>();
  const creating = users.map(async (user_id) => {
    const { status, headers, body } = await service.post<unknown>("/v1/conversations", { user_id });
    if (status !== 503) return expect(status).toBe(201);
    expectRefusal(status, headers, body);
    refusedUsers.add(user_id);
  });
  // Ten are on their way to the disk, ten wait.
  await until("the queue is full", () => refusedUsers.size >= users.length - 20);
  const late = await service.post<Problem>("/v1/chat", { user_id: "late", message: "Me too" });
  expectRefusal(late.status, late.headers, late.body);
  held.send("it.");
  held.finish();
  await until(
    "the turn has all its text",
    async () => (await turnOf(service, turn.id)).response === "All of it.",
  );
  database.run("rollback");
  await Promise.all(creating);
  await untilEnded(service, turn.id);
  expect(await turnOf(service, turn.id)).toMatchObject({ status: "completed", response: "All of it." });
  for (const user_id of users) {
    expect([user_id, (await conversationsOf(service, user_id)).length]).toEqual([
      user_id,
      refusedUsers.has(user_id) ? 0 : 1,
    ]);
  }
  expect(await conversationsOf(service, "late")).toEqual([]);
  expect(model.requests.length).toBe(asked);
  expect((await wholeTurn(service, model, ["as before"])).response).toBe("as before");
  expect(service.logs.filter((line) => line.includes("turn end not stored"))).toEqual([]);
  await model.close();
});
