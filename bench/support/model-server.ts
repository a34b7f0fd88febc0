/**
 * The model of the bench: OpenAI's streaming protocol from prebuilt buffers on a bare TCP socket, so that its own
 * work stays small beside the servers under test. `PUT /64x30` sets what it says from then on (reply-shape.ts), so that
 * a server warmed up by one shape can be measured with another. The first token is sent at once: every wait that a
 * client sees was added by the server between them.
 *
 * A process of its own: prints its port as its first line.
 */
import type { Socket } from "bun";
import { burst, type ReplyShape, shapeOf, tokensOf } from "./reply-shape.ts";

interface Script {
  everyMs: number;
  /** What is written at once, then what is written at each step. */
  writes: Buffer[];
}

interface Connection {
  received: string;
  script: Script | null;
  step: number;
  unsent: Buffer[];
}

const head =
  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

const httpChunk = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

function frame(choices: unknown[], usage: unknown = null): string {
  const chunk = {
    id: "chatcmpl-0199bench",
    object: "chat.completion.chunk",
    created: 1_760_000_000,
    model: "bench",
    system_fingerprint: "fp_bench",
    choices,
    usage,
  };
  return httpChunk(`data: ${JSON.stringify(chunk)}\n\n`);
}

const delta = (content: Record<string, unknown>, finish_reason: string | null = null): string =>
  frame([{ index: 0, delta: content, logprobs: null, finish_reason }]);

function scriptFor(shape: ReplyShape): Script {
  const role = delta({ role: "assistant", content: "", refusal: null });
  const tokens = tokensOf(shape).map((content) => delta({ content }));
  const usage = { prompt_tokens: 20, completion_tokens: shape.tokens, total_tokens: 20 + shape.tokens };
  const end = `${delta({}, "stop")}${frame([], usage)}${httpChunk("data: [DONE]\n\n")}0\r\n\r\n`;
  tokens[0] = head + role + tokens[0]!;
  tokens[tokens.length - 1] += end;
  const writes = shape.everyMs === 0 ? [tokens.join("")] : tokens;
  return { everyMs: shape.everyMs, writes: writes.map((text) => Buffer.from(text)) };
}

let current = scriptFor(burst);

type Client = Socket<Connection>;

function send(socket: Client, bytes: Buffer): void {
  const { unsent } = socket.data;
  if (unsent.length > 0) {
    unsent.push(bytes);
    return;
  }
  const sent = Math.max(socket.write(bytes), 0);
  if (sent < bytes.length) unsent.push(bytes.subarray(sent));
}

/** Streams by the millisecond at which their next token is due: each keeps the phase at which it began. */
const due = new Map<number, Client[]>();
const now = (): number => Math.floor(performance.now());
let ticked = now();

setInterval(() => {
  for (const until = now(); ticked < until; ticked += 1) {
    const streams = due.get(ticked);
    if (streams === undefined) continue;
    due.delete(ticked);
    for (const socket of streams) advance(socket, ticked);
  }
}, 1);

function advance(socket: Client, at: number): void {
  const connection = socket.data;
  const { script } = connection;
  if (script === null) return;
  send(socket, script.writes[connection.step]!);
  connection.step += 1;
  if (connection.step === script.writes.length) {
    connection.script = null;
    return;
  }
  const next = at + script.everyMs;
  const streams = due.get(next);
  if (streams === undefined) due.set(next, [socket]);
  else streams.push(socket);
}

function receive(socket: Client, bytes: Buffer): void {
  const connection = socket.data;
  connection.received += bytes.toString("latin1");
  const headEnd = connection.received.indexOf("\r\n\r\n");
  if (headEnd < 0) return;
  const requestHead = connection.received.slice(0, headEnd);
  const length = Number(/\r\ncontent-length: *(\d+)/i.exec(requestHead)?.[1] ?? Number.NaN);
  const [method, path = ""] = requestHead.split(" ", 2);
  if (method === "PUT") {
    const shape = shapeOf(path);
    if (shape !== null) current = scriptFor(shape);
    socket.end(`HTTP/1.1 ${shape === null ? 400 : 200} -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    return;
  }
  if (Number.isNaN(length) || path !== "/v1/chat/completions") {
    socket.end("HTTP/1.1 400 -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    return;
  }
  if (connection.received.length < headEnd + 4 + length) return;
  connection.received = "";
  connection.script = current;
  connection.step = 0;
  advance(socket, Math.max(ticked, now()));
}

const server = Bun.listen<Connection>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket) {
      socket.data = { received: "", script: null, step: 0, unsent: [] };
      socket.setNoDelay(true);
    },
    data: receive,
    drain(socket) {
      const unsent = socket.data.unsent.splice(0);
      for (const bytes of unsent) send(socket, bytes);
    },
    close(socket) {
      socket.data.script = null;
    },
    error() {},
  },
});

console.log(server.port);
