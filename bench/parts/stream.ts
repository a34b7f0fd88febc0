/** The server's CPU time for a token that goes through it, everything stored, beside bytes passed through. */
import type { Bench, Part } from "../support/bench.ts";
import { interleave } from "../support/interleave.ts";
import type { Load } from "../support/load.ts";
import { burst, paced, type ReplyShape } from "../support/reply-shape.ts";
import { microseconds, type Row } from "../support/table.ts";

interface Streaming {
  name: string;
  what: string;
  reply: ReplyShape;
  load: Pick<Load, "clients" | "startEveryMs" | "requestsPerClient" | "seconds">;
  ratioMax: number;
}

const path = "/v1/chat/stream";

const streamPart = ({ name, what, reply, load, ratioMax }: Streaming): Part => ({
  name,
  async run(bench: Bench): Promise<Row[]> {
    const service = await bench.service();
    const passThrough = await bench.passThrough();
    await bench.warmUp(service, path, "turn-stream");
    await bench.warmUp(passThrough, path, "model-bytes");
    const common = { ...load, method: "POST", path, reply, readEvery: 16 } as const;
    const secondsPerToken = async (load: Load, pid: number): Promise<number> =>
      (await bench.measure({ pid }, load)).secondsPerAnswer / reply.tokens;

    const figures = await interleave({
      service: () => secondsPerToken({ ...common, port: service.port, answer: "turn-stream" }, service.pid),
      passThrough: () =>
        secondsPerToken({ ...common, port: passThrough.port, answer: "model-bytes" }, passThrough.pid),
    });
    await bench.stop(service, passThrough);
    return [
      {
        name: what,
        figure: `${microseconds(figures.service)} a token`,
        beside: `${microseconds(figures.passThrough)} passed through`,
        ratio: figures.service / figures.passThrough,
        ratioMax,
      },
    ];
  },
});

export const streamBurst = streamPart({
  name: "stream-burst",
  what: "stream, 64 tokens in a burst: server CPU",
  reply: burst,
  load: { clients: 64, startEveryMs: 0, requestsPerClient: 2000, seconds: 3 },
  ratioMax: 6,
});

export const streamPaced = streamPart({
  name: "stream-paced",
  what: "stream, 250 at a token each 30 ms: server CPU",
  reply: paced,
  load: { clients: 250, startEveryMs: 4, requestsPerClient: 3, seconds: 6 },
  ratioMax: 2.3,
});
