/** A model server that answers nobody before as many requests as expected wait at the same time. */
import { frame } from "./model-server.ts";

export interface GateModel {
  readonly url: string;
  /** Requests that have come so far. */
  readonly arrived: number;
  /** Resolves when all expected ones have come, and are being answered. */
  readonly opened: Promise<void>;
  close(): Promise<void>;
}

export function startGateModel(expected: number): GateModel {
  const gate = Promise.withResolvers<void>();
  let arrived = 0;
  const chunk = (delta: object, finish_reason: string | null) =>
    frame({
      id: "chatcmpl-gate",
      object: "chat.completion.chunk",
      created: 1,
      model: "gate",
      choices: [{ index: 0, delta, finish_reason }],
    });
  const body = `${chunk({ role: "assistant", content: "through" }, null)}${chunk({}, "stop")}${frame("[DONE]")}`;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    async fetch() {
      if (++arrived >= expected) gate.resolve();
      await gate.promise;
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}/v1`,
    get arrived() {
      return arrived;
    },
    opened: gate.promise,
    close: () => server.stop(true),
  };
}
