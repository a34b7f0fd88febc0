/** Clients that drop their connections, in every way and at any time: nothing of them stays behind. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { connect } from "node:net";
import type { ChatResponse, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { cpuMsOf, descriptorsOf, memoryOf } from "../support/processes.ts";
import { type Service, startService, until } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { holdTurn, turnOf, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(60_000);

const drops = 1_000;

type HowToDrop = "close" | "reset" | "half-close";
const ways: HowToDrop[] = ["close", "reset", "half-close"];

/**
 * Sends some bytes and drops the connection.
 * @param wanted is waited for in the answer; null: only until the service has seen the bytes
 * @returns what came until then
 */
async function drop(service: Service, bytes: string, wanted: string | null, how: HowToDrop): Promise<string> {
  const socket = connect(service.port, "127.0.0.1");
  const closed = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  let received = "";
  let dropped = false;
  socket.on("error", () => {});
  socket.on("close", () => {
    answered.resolve();
    closed.resolve();
  });
  socket.on("data", (data: Buffer) => {
    if (dropped) return;
    received += data.toString();
    if (wanted === null || !received.includes(wanted)) return;
    socket.pause();
    answered.resolve();
  });
  if (bytes !== "") socket.write(bytes);
  // What was sent before is seen before this is answered.
  if (wanted === null) await (await service.fetch("/health", { keepalive: false })).text();
  else await answered.promise;
  dropped = true;
  if (how === "close") socket.destroy();
  else if (how === "reset") socket.resetAndDestroy();
  else socket.end();
  socket.resume();
  await closed.promise;
  return received;
}

interface Footprint {
  /** Sockets and files, without those to the model, which are kept for the next turns. */
  descriptors: number;
  /** How many objects of each type there are, timers among them. */
  objects: Record<string, number>;
  memory: number;
  /** Of a second in which nobody asks anything. */
  cpuMs: number;
}

/** What the runtime keeps for itself: compiled code, shapes of objects and their names. */
const ofTheRuntime = /CodeBlock|Executable|Structure|SymbolTable|^string$/;

async function footprintOf(service: Service, model: ModelServer): Promise<Footprint> {
  const cpuBefore = cpuMsOf(service.pid);
  await Bun.sleep(1_000);
  const cpuMs = cpuMsOf(service.pid) - cpuBefore;
  return {
    descriptors: descriptorsOf(service.pid) - model.connections,
    objects: await objectsOf(service),
    memory: memoryOf(service.pid),
    cpuMs,
  };
}

/** By the heap probe of the service. */
async function objectsOf(service: Service): Promise<Record<string, number>> {
  const counts = () => service.logs.filter((line) => line.includes('"event":"heap"'));
  const before = counts().length;
  service.signal("SIGUSR2");
  await until("the heap is counted", () => counts().length > before);
  return (JSON.parse(counts().at(-1)!) as { objects: Record<string, number> }).objects;
}

test(`${drops} dropped connections leave sockets, timers, memory and CPU as they were, and stop no turn`, async () => {
  const model = startModelServer();
  await using service = await startService({
    model,
    command: [process.execPath, "--preload", "./test/support/heap-probe.ts", "src/main.ts", "serve"],
    env: { PARLEY_REPLY_CHARS_MAX: "10000000" },
  });
  const long = await wholeTurn(
    service,
    model,
    Array.from({ length: 30 }, () => "0123456789".repeat(10_000)),
  );
  const running = [await holdTurn(service, model, "a"), await holdTurn(service, model, "b")];
  const watchers = running.map(async ({ turn }) => readTranscript(await service.fetch(turn.stream_url)));
  const retried = { user_id: "retrier", message: "Once" };
  const held = model.hold();
  const key = { "idempotency-key": "the-same" };
  const { body: waitedFor } = await service.post<Turn>("/v1/turns", retried, key);
  await held.request;
  const waiting = service.post<ChatResponse>("/v1/chat", retried, key);
  const heldIds = new Set([...running.map(({ turn }) => turn.id), waitedFor.id]);
  const reply = ["a reply ", "to somebody who has left"];
  model.default((script) => script.reply(reply));

  const get = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`;
  const post = (path: string, body: object, headers = ""): string => {
    const bytes = JSON.stringify(body);
    return `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${headers}content-length: ${bytes.length}\r\n\r\n${bytes}`;
  };
  let user = 0;
  const own = () => ({ user_id: `leaver-${user++}`, message: "Bye" });
  /** What is sent, and what of the answer is waited for before the connection is dropped. */
  const moments: (() => [bytes: string, wanted: string | null])[] = [
    () => [get(`/v1/turns/${running[0]!.turn.id}/stream`), "event: start"],
    () => [get(`/v1/turns/${running[1]!.turn.id}/stream`), null],
    // So long that not all is sent by then: the connection breaks within a frame.
    () => [get(`/v1/turns/${long.turn_id}/stream`), '{"token":"0123'],
    () => [post("/v1/chat", retried, "idempotency-key: the-same\r\n"), null],
    () => [post("/v1/chat", own()), null],
    () => [post("/v1/chat/stream", own()), '"model":'],
    () => [get(`/v1/chat/stream?${new URLSearchParams(own())}`), null],
    () => [post("/v1/chat", own()).slice(0, -5), null],
    () => [post("/v1/turns", own()).slice(0, 20), null],
    () => ["", null],
  ];

  const started: string[] = [];
  async function dropAll(count: number): Promise<void> {
    let next = 0;
    const client = async (): Promise<void> => {
      for (let index = next++; index < count; index = next++) {
        const [bytes, wanted] = moments[index % moments.length]!();
        const first = await drop(service, bytes, wanted, ways[index % ways.length]!);
        const turnId = /"turn_id":"([^"]+)"/.exec(first)?.[1];
        if (bytes.includes("leaver-") && turnId !== undefined) started.push(turnId);
      }
    };
    await Promise.all(Array.from({ length: 100 }, client));
    await until("none but the held turns run", async () => {
      const { body } = await service.get<{ conversations: Conversation[] }>("/v1/conversations?limit=100");
      return body.conversations.every(({ active_turn_id: id }) => id === null || heldIds.has(id));
    });
  }

  // The first ones make the runtime compile, and fill what it keeps.
  await dropAll(drops / 2);
  const before = await footprintOf(service, model);
  await dropAll(drops);
  await until(
    "their sockets are closed",
    () => descriptorsOf(service.pid) - model.connections <= before.descriptors,
  );
  const after = await footprintOf(service, model);

  const grown = Object.entries(after.objects).filter(
    ([type, count]) =>
      !ofTheRuntime.test(type) && count - (before.objects[type] ?? 0) > drops / moments.length / 2,
  );
  expect(grown.map(([type, count]) => `${type}: ${before.objects[type] ?? 0}, then ${count}`)).toEqual([]);
  expect(after.memory - before.memory).toBeLessThan(drops * 32 * 1024);
  expect(after.cpuMs).toBeLessThan(before.cpuMs + 100);

  for (const { send, finish } of [...running.map(({ held }) => held), held]) {
    send("to the end");
    finish();
  }
  const seen = (await Promise.all(watchers)).map(({ text }) => text);
  expect(seen).toEqual(["ato the end", "bto the end"]);
  expect((await waiting).body).toMatchObject({ status: "completed", response: "to the end" });
  expect(started.length).toBeGreaterThanOrEqual((1.5 * drops) / moments.length);
  for (const id of started) {
    expect(await turnOf(service, id)).toMatchObject({ status: "completed", response: reply.join("") });
  }
  expect(service.logs.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  await model.close();
});
