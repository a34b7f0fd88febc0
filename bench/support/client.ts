/**
 * The load client: HTTP/1.1 by hand on plain sockets, so that thousands of streams cost little beside the server
 * under test. It checks each answer: its end always, every word of it as often as the load says.
 *
 * A process of its own, so that the server's CPU time is only the server's; takes a `Load`, sends a `LoadResult`.
 */
import type { Socket } from "bun";
import { endsWell, firstTokenMark, readAnswer } from "./answer.ts";
import type { Load, LoadResult } from "./load.ts";
import { quantiles } from "./statistics.ts";

const headEndMark = Buffer.from("\r\n\r\n");
const lastChunkMark = Buffer.from("\r\n0\r\n\r\n");
const requestSecondsMax = 120;

interface Client {
  request: Buffer;
  requestsLeft: number;
  received: Buffer[];
  receivedBytes: number;
  /** Bytes of the whole response where it says so; null for chunks, undefined until the head is read. */
  expectedBytes: number | null | undefined;
  sentAt: number;
  firstTokenAt: number;
}

class Run {
  private readonly result = { answered: 0, failed: 0, failures: [] as string[], together: 0 };
  private readonly firstTokenMs: number[] = [];
  private readonly wholeMs: number[] = [];
  private readonly mark: Buffer;
  private together = 0;
  private clientsLeft: number;
  private deadline = 0;
  private finish: () => void = () => {};

  constructor(private readonly load: Load) {
    this.mark = Buffer.from(firstTokenMark(load.answer));
    this.clientsLeft = load.clients;
  }

  async run(): Promise<LoadResult> {
    const { load } = this;
    const startedAt = performance.now();
    this.deadline = startedAt + load.seconds * 1000;
    const finished = new Promise<void>((resolve) => {
      this.finish = resolve;
    });
    for (let index = 0; index < load.clients; index += 1) {
      const wait = startedAt + index * load.startEveryMs - performance.now();
      if (wait >= 1) await Bun.sleep(wait);
      this.connect(index);
    }
    await finished;
    return {
      ...this.result,
      seconds: (performance.now() - startedAt) / 1000,
      firstToken: quantiles(this.firstTokenMs),
      whole: quantiles(this.wholeMs),
    };
  }

  private connect(index: number): void {
    const ports = this.load.ports ?? [this.load.port];
    Bun.connect<Client>({
      hostname: "127.0.0.1",
      port: ports[index % ports.length]!,
      data: {
        request: requestOf(this.load, index),
        requestsLeft: this.load.requestsPerClient,
        received: [],
        receivedBytes: 0,
        expectedBytes: undefined,
        sentAt: 0,
        firstTokenAt: 0,
      },
      socket: {
        open: (socket) => {
          socket.setNoDelay(true);
          this.next(socket);
        },
        data: (socket, bytes) => this.receive(socket, bytes),
        timeout: (socket) => this.fail(socket, `no end after ${requestSecondsMax} s`),
        close: (socket) => {
          if (socket.data.sentAt !== 0) this.fail(socket, "the connection was closed");
          this.clientEnded();
        },
        error: (socket, error) => this.fail(socket, error.message),
      },
    }).catch((error: unknown) => {
      this.note(`connect: ${error instanceof Error ? error.message : String(error)}`);
      this.clientEnded();
    });
  }

  private next(socket: Socket<Client>): void {
    const client = socket.data;
    if (client.requestsLeft === 0 || performance.now() >= this.deadline) {
      socket.end();
      return;
    }
    client.requestsLeft -= 1;
    client.received = [];
    client.receivedBytes = 0;
    client.expectedBytes = undefined;
    client.firstTokenAt = 0;
    client.sentAt = performance.now();
    socket.timeout(requestSecondsMax);
    socket.write(client.request);
  }

  private receive(socket: Socket<Client>, bytes: Buffer): void {
    const client = socket.data;
    if (client.sentAt === 0) return;
    client.received.push(bytes);
    client.receivedBytes += bytes.length;
    if (client.firstTokenAt === 0 && bytes.includes(this.mark)) {
      client.firstTokenAt = performance.now();
      this.together += 1;
      this.result.together = Math.max(this.result.together, this.together);
    }
    if (client.expectedBytes === undefined) client.expectedBytes = expectedBytes(client);
    if (client.expectedBytes === undefined || !isWhole(client)) return;
    this.end(client);
    this.next(socket);
  }

  private end(client: Client): void {
    const endedAt = performance.now();
    const response = client.received.length === 1 ? client.received[0]! : Buffer.concat(client.received);
    const fault =
      client.requestsLeft % this.load.readEvery === 0
        ? readAnswer(response, this.load)
        : endsWell(response, this.load);
    if (client.firstTokenAt !== 0) {
      this.together -= 1;
      this.firstTokenMs.push(client.firstTokenAt - client.sentAt);
    }
    this.wholeMs.push(endedAt - client.sentAt);
    client.sentAt = 0;
    if (fault === null) this.result.answered += 1;
    else this.note(fault);
  }

  private fail(socket: Socket<Client>, fault: string): void {
    const client = socket.data;
    if (client.sentAt === 0) return;
    if (client.firstTokenAt !== 0) this.together -= 1;
    client.sentAt = 0;
    this.note(fault);
    socket.terminate();
  }

  private note(fault: string): void {
    this.result.failed += 1;
    if (this.result.failures.length < 5) this.result.failures.push(fault);
  }

  private clientEnded(): void {
    this.clientsLeft -= 1;
    if (this.clientsLeft === 0) this.finish();
  }
}

/** Each client is a user of its own, and each of its requests begins a new conversation. */
function requestOf({ method, path, port }: Load, index: number): Buffer {
  const head = `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n`;
  if (method === "GET") return Buffer.from(`${head}\r\n`);
  const body = JSON.stringify({ message: "What is a turn?", user_id: `client-${index}` });
  return Buffer.from(
    `${head}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
}

function expectedBytes({ received }: Client): number | null | undefined {
  const bytes = received.length === 1 ? received[0]! : Buffer.concat(received);
  const headEnd = bytes.indexOf(headEndMark);
  if (headEnd < 0) return undefined;
  const length = /\r\ncontent-length: *(\d+)/i.exec(bytes.toString("latin1", 0, headEnd))?.[1];
  return length === undefined ? null : headEnd + headEndMark.length + Number(length);
}

function isWhole({ received, receivedBytes, expectedBytes }: Client): boolean {
  if (typeof expectedBytes === "number") return receivedBytes >= expectedBytes;
  const last = received.at(-1)!;
  if (last.length >= lastChunkMark.length) return last.subarray(-lastChunkMark.length).equals(lastChunkMark);
  return Buffer.concat(received.slice(-lastChunkMark.length))
    .subarray(-lastChunkMark.length)
    .equals(lastChunkMark);
}

process.on("message", async (load: Load) => {
  process.send?.(await new Run(load).run());
});
process.on("disconnect", () => process.exit());
