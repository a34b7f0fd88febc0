/** A TCP proxy between a service and its database, for what goes wrong on the way. */
import { connect, createServer, type Socket } from "node:net";

export interface DatabaseProxy {
  /** The database's URL, through the proxy. */
  readonly url: string;
  /**
   * Lets the next query that holds this text through, but not its answer: as soon as that comes all connections are cut,
   * and no new ones are taken until `heal`. Resolves when that has happened.
   */
  loseAnswerTo(text: string): Promise<void>;
  heal(): void;
  close(): void;
}

/** @param databaseUrl of a database on this machine, without TLS */
export async function startDatabaseProxy(databaseUrl: string): Promise<DatabaseProxy> {
  const database = new URL(databaseUrl);
  const open = new Set<Socket>();
  let isCut = false;
  let awaited: { text: string; lost: () => void } | null = null;

  const cut = (): void => {
    isCut = true;
    for (const socket of open) socket.destroy();
  };
  const server = createServer((service) => {
    if (isCut) return void service.destroy();
    const behind = connect(Number(database.port), database.hostname);
    /** Whether the answer that comes next is to be lost. */
    let isAwaited = false;
    for (const socket of [service, behind]) {
      open.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        open.delete(socket);
        service.destroy();
        behind.destroy();
      });
    }
    service.on("data", (bytes) => {
      if (awaited !== null && bytes.includes(awaited.text)) isAwaited = true;
      behind.write(bytes);
    });
    behind.on("data", (bytes: Buffer) => {
      // What is prepared is answered before it is executed.
      if (isAwaited && holdsCompletion(bytes)) {
        const { lost } = awaited!;
        awaited = null;
        cut();
        lost();
      } else service.write(bytes);
    });
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  const url = new URL(databaseUrl);
  url.port = String(address.port);

  return {
    url: url.href,
    loseAnswerTo(text) {
      const { promise, resolve } = Promise.withResolvers<void>();
      awaited = { text, lost: resolve };
      return promise;
    },
    heal() {
      isCut = false;
    },
    close() {
      server.close();
      cut();
    },
  };
}

/** Whether messages of PostgreSQL hold a CommandComplete, which comes when a statement outside of a transaction is committed. */
function holdsCompletion(bytes: Buffer): boolean {
  for (let at = 0; at + 5 <= bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
    if (bytes[at] === "C".charCodeAt(0)) return true;
  }
  return false;
}
