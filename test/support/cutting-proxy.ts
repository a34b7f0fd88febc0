/** A TCP proxy of the tests' own: cuts streams after so many bytes, as bad networks do. */
import { connect, createServer, type Socket } from "node:net";

export interface CuttingProxy {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  /** Cuts the next streams after so many bytes of their answers, one number for each; those after them stay whole. */
  cutNext(bytes: number[]): void;
  /** How many streams were asked for, and how many of them were cut. */
  readonly streams: number;
  readonly cuts: number;
  close(): void;
}

const cutAfterMs = 20;

/**
 * A proxy before a port of 127.0.0.1. A request with `/stream?` or `/stream ` in its first line is one for a stream.
 * `retry: 2000` becomes `retry: 0020` on the way, which has the same length and saves tests the wait.
 */
export async function startCuttingProxy(port: number): Promise<CuttingProxy> {
  const planned: number[] = [];
  const open = new Set<Socket>();
  let streams = 0;
  let cuts = 0;

  const server = createServer((client) => {
    const service = connect(port, "127.0.0.1");
    /** What may still pass of the current answer. */
    let left = Number.POSITIVE_INFINITY;
    for (const socket of [client, service]) {
      open.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        open.delete(socket);
        client.destroy();
        service.destroy();
      });
    }
    client.on("data", (bytes) => {
      if (/^GET \S*\/stream[? ]/.test(bytes.toString("latin1"))) {
        streams++;
        left = planned.shift() ?? Number.POSITIVE_INFINITY;
      }
      service.write(bytes);
    });
    service.on("data", (bytes) => {
      const hurried = Buffer.from(bytes.toString("latin1").replace("retry: 2000", "retry: 0020"), "latin1");
      if (left >= hurried.length) {
        left -= hurried.length;
        client.write(hurried);
        return;
      }
      if (left === Number.NEGATIVE_INFINITY) return;
      const part = hurried.subarray(0, Math.max(0, left));
      left = Number.NEGATIVE_INFINITY;
      cuts++;
      if (part.length === 0) client.destroy();
      // A moment later, as in life: a client that learns of both at once may throw away what came before the cut.
      else client.write(part, () => setTimeout(() => client.destroy(), cutAfterMs));
    });
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");

  return {
    url: `http://127.0.0.1:${address.port}`,
    cutNext: (bytes) => void planned.splice(0, planned.length, ...bytes),
    get streams() {
      return streams;
    },
    get cuts() {
      return cuts;
    },
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
