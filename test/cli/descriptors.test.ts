/** Few file descriptors, as with a low `ulimit -n`: no crash, no spinning, no turn lost, and all as before afterwards. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { cpuMsOf } from "../support/processes.ts";
import { connect, type RawConnection } from "../support/raw-client.ts";
import { type Service, startService, until } from "../support/service.ts";
import { readTranscript, type StartData, sseEvents } from "../support/sse.ts";
import { holdTurn, untilEnded, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(60_000);

const descriptorsMax = 200;
/** Half of them are the program's own at most, and of the rest a half each are for clients and for models. */
const half = 50;

const startPoor = (model: ModelServer): Promise<Service> =>
  startService({
    model,
    command: ["sh", "-c", `ulimit -n ${descriptorsMax}; exec '${process.execPath}' src/main.ts serve`],
  });

const logged = (service: Service, event: string): Record<string, unknown>[] =>
  service.logs
    .filter((line) => line.includes(`"event":"${event}"`))
    .map((line) => JSON.parse(line) as Record<string, unknown>);

/** Processor time of one second, in milliseconds. */
async function cpuMsInASecond(pid: number): Promise<number> {
  const before = cpuMsOf(pid);
  await Bun.sleep(1_000);
  return cpuMsOf(pid) - before;
}

/** Opens twice as many connections as there are descriptors, sends so much on each, and gives those not refused. */
async function flood(service: Service, part: string): Promise<RawConnection[]> {
  const connecting = Array.from({ length: 2 * descriptorsMax }, async () => {
    const connection = await connect(service.port);
    if (part !== "") connection.write(part);
    return connection;
  });
  const settled = await Promise.allSettled(connecting);
  return settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
}

test("turns and requests are limited to what there are descriptors for, and each turn gets to its model", async () => {
  const model = startModelServer();
  await using service = await startPoor(model);
  expect(logged(service, "listening")).toMatchObject([{ turns_running_max: half, requests_open_max: half }]);
  const helds = Array.from({ length: half }, () => model.hold());
  const streams = await Promise.all(
    helds.map((_, index) => service.fetch(`/v1/chat/stream?user_id=poor-${index}&message=Hello`)),
  );
  await model.received(half);
  for (const path of ["/v1/chat", "/v1/turns"]) {
    const { status, body } = await service.post<Problem>(path, { user_id: "late", message: "Me too" });
    expect([status, body.code]).toEqual([503, "overloaded"]);
  }
  for (const held of helds) {
    held.send("enough for all");
    held.finish();
  }
  for (const stream of streams) expect((await readTranscript(stream)).text).toBe("enough for all");
  expect(logged(service, "connections_refused")).toEqual([]);
  await model.close();
});

test("connections that only wait for a next request make room for others", async () => {
  const model = startModelServer();
  await using service = await startPoor(model);
  const connections = await flood(service, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
  expect(connections.length).toBe(2 * descriptorsMax);
  for (const connection of connections) {
    await until("each is answered", () => connection.received.includes("healthy"), 30_000);
  }
  expect((await service.get("/health")).status).toBe(200);
  expect(logged(service, "connections_refused")).toEqual([]);
  for (const connection of connections) connection.close();
  await model.close();
});

// Side by side, because most of it is waiting.
test.concurrent.each([
  ["silent connections", ""],
  ["halves of requests", "POST /v1/chat HTTP/1.1\r\nhost: loc"],
])(
  "more %s than descriptors are refused for a while: running streams go on, and nothing spins",
  async (_what, part) => {
    const model = startModelServer();
    await using service = await startPoor(model);
    const { turn, held } = await holdTurn(service, model);
    const events = sseEvents(await service.fetch(turn.stream_url));
    const start = JSON.parse((await events.next()).value!.data) as StartData;
    expect(start.turn_id).toBe(turn.id);
    const idle = await cpuMsInASecond(service.pid);

    const connections = await flood(service, part);
    await until("connections are refused", () => logged(service, "connections_refused").length > 0);
    held.send("In the flood");
    expect((await events.next()).value?.data).toBe('{"token":"In the flood"}');
    // A listener that is told of connections it can't accept takes a whole processor.
    expect(await cpuMsInASecond(service.pid)).toBeLessThan(idle + 200);

    for (const connection of connections) connection.close();
    await until("connections are taken again", () => logged(service, "connections_taken").length > 0, 30_000);
    expect((await service.get("/health")).status).toBe(200);
    held.send(" and after");
    held.finish();
    expect((await events.next()).value?.data).toBe('{"token":" and after"}');
    expect(JSON.parse((await events.next()).value!.data)).toMatchObject({ done: true, status: "completed" });
    await untilEnded(service, turn.id);
    expect((await wholeTurn(service, model, ["as before"])).response).toBe("as before");
    expect(await service.stop()).toBe(0);
    await model.close();
  },
);
