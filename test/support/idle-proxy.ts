/** A TCP proxy on loopback that cuts what is idle, as load balancers do. */
import { connect, createServer, type Socket } from "node:net";

export interface IdleProxy {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  /** Connections cut so far. */
  readonly cuts: number;
  close(): void;
}

/** A proxy before a port of 127.0.0.1 that cuts a connection once no byte has gone either way for so long. */
export async function startIdleProxy(port: number, idleMsMax: number): Promise<IdleProxy> {
  const open = new Set<Socket>();
  let cuts = 0;
  const server = createServer((client) => {
    const service = connect(port, "127.0.0.1");
    const timer = setTimeout(() => {
      cuts++;
      client.destroy();
    }, idleMsMax);
    for (const [from, to] of [
      [client, service],
      [service, client],
    ] as const) {
      open.add(from);
      from.setNoDelay(true);
      from.on("data", (bytes) => {
        timer.refresh();
        to.write(bytes);
      });
      from.on("end", () => to.end());
      from.on("error", () => from.destroy());
      from.on("close", () => {
        clearTimeout(timer);
        open.delete(from);
        to.destroy();
      });
    }
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    get cuts() {
      return cuts;
    },
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
