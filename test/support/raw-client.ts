/** Requests byte by byte, for what `fetch` would tidy up or refuse to send. */

export interface RawAnswer {
  status: number;
  headers: Headers;
  body: string;
}

export interface RawConnection {
  write(bytes: string | Uint8Array): void;
  /** Everything received so far. */
  readonly received: Buffer;
  /** Resolves when the other side has closed the connection. */
  readonly closed: Promise<void>;
  /** Stops and goes on taking what the other side sends. */
  pause(): void;
  resume(): void;
  /** Cuts the connection. */
  close(): void;
}

/** Opens a connection to a port of 127.0.0.1. */
export async function connect(port: number): Promise<RawConnection> {
  const chunks: Uint8Array[] = [];
  const closed = Promise.withResolvers<void>();
  const pending: Uint8Array[] = [];
  const flush = (socket: Bun.Socket): void => {
    for (let bytes = pending[0]; bytes !== undefined; bytes = pending[0]) {
      const sent = Math.max(0, socket.write(bytes));
      if (sent < bytes.byteLength) {
        pending[0] = bytes.subarray(sent);
        return;
      }
      pending.shift();
    }
  };
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data: (_socket, bytes) => void chunks.push(Uint8Array.from(bytes)),
      drain: flush,
      close: () => closed.resolve(),
      end: (ended) => void ended.end(),
      error: () => closed.resolve(),
    },
  });
  return {
    write(bytes) {
      pending.push(typeof bytes === "string" ? Buffer.from(bytes) : bytes);
      flush(socket);
    },
    get received() {
      return Buffer.concat(chunks);
    },
    closed: closed.promise,
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close: () => socket.terminate(),
  };
}

/** Sends a request that asks for the connection to be closed, and reads the whole answer. */
export async function rawRequest(port: number, request: string | Uint8Array): Promise<RawAnswer> {
  const connection = await connect(port);
  connection.write(request);
  await connection.closed;
  return parseAnswer(connection.received);
}

/** @throws where the bytes don't hold a whole head */
export function parseAnswer(received: Buffer): RawAnswer {
  const headEnd = received.indexOf("\r\n\r\n");
  if (headEnd < 0) throw new Error(`no answer, but ${received.byteLength} bytes`);
  const [statusLine = "", ...lines] = received.toString("latin1", 0, headEnd).split("\r\n");
  const headers = new Headers();
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const rest = received.subarray(headEnd + 4);
  const body = headers.get("transfer-encoding") === "chunked" ? unchunk(rest) : rest;
  return { status: Number(statusLine.split(" ")[1]), headers, body: body.toString("utf8") };
}

/** The content of a chunked body, as far as it was received. */
export function unchunk(bytes: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) break;
    const size = Number.parseInt(bytes.toString("latin1", at, lineEnd), 16);
    if (!(size > 0)) break;
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
  return Buffer.concat(parts);
}
