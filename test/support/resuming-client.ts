/** A client that loses its connection and goes on where it was, as EventSource does, but cuts where it is told to. */
import { connect } from "node:net";
import { createParser } from "eventsource-parser";
import { parseAnswer } from "./raw-client.ts";
import { offsetOf } from "./sse.ts";

export interface Cut {
  /** After so many bytes of the answer; 0: as soon as the request was sent. */
  bytesMax: number;
  /** After so many milliseconds in which nothing more comes. */
  silenceMsMax: number;
  /** Without an orderly end of the connection. */
  reset: boolean;
}

export const neverCut: Cut = {
  bytesMax: Number.POSITIVE_INFINITY,
  silenceMsMax: 2 ** 31 - 1,
  reset: false,
};

export class ResumingClient {
  text = "";
  /** Of the last event that was read; null before the first. */
  lastEventId: string | null = null;
  /** How often it was told the end. */
  ends = 0;

  /** Forgets the end of what it was told, as one that hadn't kept it yet. */
  forget(units: number): void {
    if (this.lastEventId === null || this.ends > 0) return;
    this.text = this.text.slice(0, Math.max(0, this.text.length - units));
    this.lastEventId = `${this.lastEventId.split(":")[0]}:${this.text.length}`;
  }

  /** Asks for a stream and reads until the cut, or its end. @throws where an id doesn't count the text in UTF-16 units */
  async read(port: number, path: string, cut: Cut): Promise<void> {
    const header = this.lastEventId === null ? "" : `last-event-id: ${this.lastEventId}\r\n`;
    const request = `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${header}\r\n`;
    const answer = await readUntil(port, request, cut);
    if (!answer.includes("\r\n\r\n")) return;
    const { status, body } = parseAnswer(answer);
    if (status !== 200) throw new Error(`${status}: ${body}`);
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        this.lastEventId = id ?? this.lastEventId;
        const { token, done } = JSON.parse(data) as { token?: string; done?: boolean };
        if (event === undefined) this.text += token ?? "";
        if (done) this.ends++;
        else if (id !== undefined && offsetOf(id) !== this.text.length) {
          throw new Error(`the id ${id} at ${this.text.length}`);
        }
      },
    });
    // A last character that isn't whole belongs to an event that isn't.
    parser.feed(body);
  }
}

function readUntil(port: number, request: string, { bytesMax, silenceMsMax, reset }: Cut): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const chunks: Buffer[] = [];
    let bytes = 0;
    const cut = (): void => void (reset ? socket.resetAndDestroy() : socket.destroy());
    let silence: Timer | undefined;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      clearTimeout(silence);
      silence = setTimeout(cut, silenceMsMax);
      if (bytes >= bytesMax) cut();
    });
    socket.on("close", () => {
      clearTimeout(silence);
      resolve(Buffer.concat(chunks).subarray(0, bytesMax));
    });
    socket.write(request, () => bytesMax === 0 && cut());
  });
}
