/** A small HTTP/1.1 server on bare sockets, for tests that must hang, cut or reset in the middle of an answer. */

export interface RawRequest {
  method: string;
  path: string;
  headers: Headers;
  body: string;
  closed: Promise<void>;
}

export interface Reply {
  status: number;
  headers: Record<string, string>;
}

/** One answer, in chunked encoding: each `write` is one chunk in one packet. */
export interface Connection {
  start(reply: Reply): void;
  write(chunk: string | Uint8Array): void;
  /** Ends the body; the connection stays open for further requests. */
  end(): void;
  /** Cuts the connection without an end. */
  reset(): void;
}

interface SocketState {
  received: Buffer;
  /** What the kernel would not take yet. */
  pending: Buffer[];
  closed: Promise<void>;
  onClose: () => void;
}

type Socket = Bun.Socket<SocketState>;

export interface Listener {
  port: number;
  readonly connections: number;
  readonly connectionsTaken: number;
  close(): Promise<void>;
}

/** Listens on a free port of 127.0.0.1. */
export function listen(onRequest: (request: RawRequest, connection: Connection) => void): Listener {
  const open = new Set<Socket>();
  let taken = 0;
  const server = Bun.listen<SocketState>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        const { promise, resolve } = Promise.withResolvers<void>();
        socket.data = { received: Buffer.alloc(0), pending: [], closed: promise, onClose: resolve };
        socket.setNoDelay(true);
        open.add(socket);
        taken++;
      },
      data(socket, bytes) {
        socket.data.received = Buffer.concat([socket.data.received, bytes]);
        for (let raw = takeRequest(socket.data); raw !== null; raw = takeRequest(socket.data)) {
          onRequest(raw, connectionOn(socket));
        }
      },
      drain: flush,
      close(socket) {
        open.delete(socket);
        socket.data.onClose();
      },
      error(socket) {
        socket.terminate();
      },
    },
  });
  return {
    port: server.port,
    get connections() {
      return open.size;
    },
    get connectionsTaken() {
      return taken;
    },
    async close() {
      server.stop(true);
    },
  };
}

/** The next whole request that was received, or null. */
function takeRequest(state: SocketState): RawRequest | null {
  const headEnd = state.received.indexOf("\r\n\r\n");
  if (headEnd < 0) return null;
  const [requestLine = "", ...lines] = state.received.toString("latin1", 0, headEnd).split("\r\n");
  const headers = new Headers();
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const bodyEnd = headEnd + 4 + Number(headers.get("content-length") ?? 0);
  if (state.received.length < bodyEnd) return null;
  const body = state.received.toString("utf8", headEnd + 4, bodyEnd);
  state.received = state.received.subarray(bodyEnd);
  const [method = "", path = ""] = requestLine.split(" ");
  return { method, path, headers, body, closed: state.closed };
}

function connectionOn(socket: Socket): Connection {
  const send = (bytes: Buffer): void => {
    socket.data.pending.push(bytes);
    flush(socket);
  };
  return {
    start({ status, headers }) {
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      send(Buffer.from(`HTTP/1.1 ${status} Scripted\r\n${lines.join("")}transfer-encoding: chunked\r\n\r\n`));
    },
    write(chunk) {
      const bytes = Buffer.from(chunk as Uint8Array);
      if (bytes.length === 0) return;
      send(Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]));
    },
    end() {
      send(Buffer.from("0\r\n\r\n"));
    },
    reset() {
      socket.terminate();
    },
  };
}

function flush(socket: Socket): void {
  const { pending } = socket.data;
  while (pending.length > 0) {
    const bytes = pending[0]!;
    const sent = socket.write(bytes);
    if (sent < 0) return;
    if (sent < bytes.length) {
      pending[0] = bytes.subarray(sent);
      return;
    }
    pending.shift();
  }
}
