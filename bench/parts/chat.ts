/** `POST /v1/chat`, durable, beside the same service with its storage in memory and beside bytes passed through. */
import type { Bench, Part } from "../support/bench.ts";
import { interleave } from "../support/interleave.ts";
import type { Load } from "../support/load.ts";
import type { Server } from "../support/processes.ts";
import { burst } from "../support/reply-shape.ts";
import type { Row } from "../support/table.ts";

const load = {
  method: "POST",
  path: "/v1/chat",
  reply: burst,
  clients: 64,
  startEveryMs: 0,
  requestsPerClient: 5000,
  seconds: 3,
  readEvery: 16,
} as const;

export const chat: Part = {
  name: "chat",
  async run(bench: Bench): Promise<Row[]> {
    const onDisk = await bench.service();
    const inMemory = await bench.service({ directory: bench.directory("memory") });
    const passThrough = await bench.passThrough();
    const perSecond = async ({ port }: Server, answer: Load["answer"]): Promise<number> => {
      const { answered, failed, seconds } = await bench.load({ ...load, port, answer });
      if (failed > 0) throw new Error(`${failed} answers failed`);
      return answered / seconds;
    };

    const figures = await interleave({
      onDisk: () => perSecond(onDisk, "turn-json"),
      inMemory: () => perSecond(inMemory, "turn-json"),
      passThrough: () => perSecond(passThrough, "model-bytes"),
    });
    await bench.stop(onDisk, inMemory, passThrough);
    const figure = `${figures.onDisk.toFixed(0)} a second`;
    return [
      {
        name: "chat, 64 clients, durable: answers",
        figure,
        beside: `${figures.inMemory.toFixed(0)} stored in memory`,
        ratio: figures.inMemory / figures.onDisk,
      },
      {
        name: "chat, 64 clients, durable: answers",
        figure,
        beside: `${figures.passThrough.toFixed(0)} passed through`,
        ratio: figures.passThrough / figures.onDisk,
      },
    ];
  },
};
