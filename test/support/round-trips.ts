/**
 * A TCP proxy before PostgreSQL that notes each round trip by what was asked: it reads the frontend's messages of
 * PostgreSQL's protocol (version 3, "Message Formats" of its documentation) and passes everything on as it is. What
 * prepares a query isn't noted: a connection does that once for each.
 */
import { connect, createServer, type Socket } from "node:net";

export interface RoundTrips extends AsyncDisposable {
  /** The database's URL, through it. */
  readonly url: string;
  /** The queries of the round trips so far, one each. */
  readonly queries: readonly string[];
}

/** @param databaseUrl without TLS */
export async function countRoundTrips(databaseUrl: string): Promise<RoundTrips> {
  const { hostname, port } = new URL(databaseUrl);
  const queries: string[] = [];
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const database = connect(Number(port || 5432), hostname);
    const reader = new FrontendMessages((query) => queries.push(query));
    for (const [socket, other] of [
      [client, database],
      [database, client],
    ] as const) {
      open.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        open.delete(socket);
        other.destroy();
      });
    }
    client.on("data", (bytes: Buffer) => {
      reader.read(bytes);
      database.write(bytes);
    });
    database.on("data", (bytes) => client.write(bytes));
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return {
    url: Object.assign(new URL(databaseUrl), { host: `127.0.0.1:${address.port}` }).href,
    queries,
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

class FrontendMessages {
  #received: Buffer = Buffer.alloc(0);
  #hasStarted = false;
  /** What is prepared, by its name. */
  readonly #prepared = new Map<string, string>();
  /** What is executed when the server is next to answer. */
  #query: string | null = null;

  constructor(readonly onRoundTrip: (query: string) => void) {}

  read(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    for (;;) {
      // The first message has no type.
      const lengthAt = this.#hasStarted ? 1 : 0;
      if (this.#received.length < lengthAt + 4) return;
      const end = lengthAt + this.#received.readInt32BE(lengthAt);
      if (this.#received.length < end) return;
      const type = this.#hasStarted ? String.fromCharCode(this.#received[0]!) : null;
      this.#take(type, this.#received.subarray(lengthAt + 4, end));
      this.#received = this.#received.subarray(end);
    }
  }

  #take(type: string | null, body: Buffer): void {
    const strings = (): string[] => body.toString("utf8").split("\0", 2);
    switch (type) {
      case null:
        this.#hasStarted = true;
        break;
      case "P": {
        const [name, query] = strings();
        this.#prepared.set(name!, query!);
        break;
      }
      case "B":
        this.#query = this.#prepared.get(strings()[1]!) ?? "";
        break;
      // A simple query, and the ends of extended ones: the server answers to these.
      case "Q":
        this.onRoundTrip(strings()[0]!);
        break;
      case "S":
      case "H":
        if (this.#query !== null) this.onRoundTrip(this.#query);
        this.#query = null;
        break;
    }
  }
}
