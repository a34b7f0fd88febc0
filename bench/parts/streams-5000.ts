/** Many streams at once: that all of them run together and end whole, their memory, and the wait they add. */
import { residentBytes, watchMemory } from "../support/accounting.ts";
import type { Bench, Part } from "../support/bench.ts";
import type { Load, LoadResult } from "../support/load.ts";
import type { Server } from "../support/processes.ts";
import type { ReplyShape } from "../support/reply-shape.ts";
import { kibibytes, milliseconds, type Row } from "../support/table.ts";

const streams = 5000;
const startEveryMs = 2;

/** Long enough that the first stream still runs when the last one has begun. */
const slow: ReplyShape = { tokens: 32, everyMs: 500 };
const tenSeconds: ReplyShape = { tokens: 21, everyMs: 500 };

const load: Omit<Load, "port" | "answer"> = {
  method: "POST",
  path: "/v1/chat/stream",
  reply: slow,
  clients: streams,
  startEveryMs,
  requestsPerClient: 1,
  seconds: 60,
  readEvery: 1,
};

/** For what the warm-up left behind to be collected. */
const restMs = 3000;

interface Measured {
  result: LoadResult;
  bytesPerStream: number;
}

async function measure(bench: Bench, server: Server, answer: Load["answer"]): Promise<Measured> {
  await bench.warmUp(server, load.path, answer);
  await Bun.sleep(restMs);
  const before = residentBytes(server.pid);
  const mostSeen = watchMemory(server.pid);
  const result = await bench.load({ ...load, port: server.port, answer });
  return { result, bytesPerStream: (mostSeen() - before) / streams };
}

export const streams5000: Part = {
  name: "streams-5000",
  async run(bench: Bench): Promise<Row[]> {
    const passThrough = await bench.passThrough();
    const peer = await measure(bench, passThrough, "model-bytes");
    await bench.stop(passThrough);
    const service = await bench.service();
    const own = await measure(bench, service, "turn-stream");
    await bench.stop(service);

    const whole = ({ result }: Measured): string => `${result.together} together, ${result.failed} failed`;
    const wait = (name: "p50" | "p99"): Row => ({
      name: `${streams} streams: added time to first token, ${name}`,
      figure: milliseconds(own.result.firstToken[name]),
      beside: `${milliseconds(peer.result.firstToken[name])} passed through`,
      ratio: own.result.firstToken[name] / peer.result.firstToken[name],
    });
    return [
      {
        name: `${streams} streams, ${1000 / startEveryMs} more each second`,
        figure: whole(own),
        beside: whole(peer),
      },
      {
        name: `${streams} streams: memory for each`,
        figure: kibibytes(own.bytesPerStream),
        beside: `${kibibytes(peer.bytesPerStream)} passed through`,
        ratio: own.bytesPerStream / peer.bytesPerStream,
      },
      wait("p50"),
      wait("p99"),
      await repliesAtOnce(bench),
    ];
  },
};

/** Bun's `fetch` runs 256 requests at once by default and queues the rest: the service must have lifted that. */
async function repliesAtOnce(bench: Bench): Promise<Row> {
  const service = await bench.service();
  const replies = 2000;
  const result = await bench.load({
    ...load,
    path: "/v1/chat",
    answer: "turn-json",
    reply: tenSeconds,
    port: service.port,
    clients: replies,
    startEveryMs: 1,
  });
  await bench.stop(service);
  const alone = ((tenSeconds.tokens - 1) * tenSeconds.everyMs) / 1000;
  return {
    name: `${replies} replies of ${alone} s, 1,000 more each second`,
    figure: `${result.seconds.toFixed(1)} s, ${result.failed} failed`,
    beside: `${(alone + replies / 1000).toFixed(1)} s if none waits for another`,
    ratio: result.seconds / (alone + replies / 1000),
  };
}
