/** The service's side of one process that reads documents. */
import { AppError } from "../../errors.ts";
import type { Source } from "../media-type.ts";
import type { Passage } from "../passages.ts";
import { unreadable } from "../refusals.ts";
import type { ExtractionAnswer, ExtractionLimits, ExtractionRequest } from "./messages.ts";

/** A document as it is stored. */
export interface ReadDocument {
  /** What it was read as, without parameters. */
  readonly media_type: string;
  /** In Parley's normal form. */
  readonly text: string;
  readonly passages: readonly Passage[];
}

/** The child ends itself in time; where it doesn't, this much later it is ended from here. */
const graceSeconds = 5;
/** Bytes that are handed over at once. */
const chunkBytes = 256 * 1024;

/** This very program, with its hidden command; not what a test runner was started with. */
const command = Bun.isStandaloneExecutable
  ? [process.execPath, "extract"]
  : [process.execPath, new URL("../../main.ts", import.meta.url).pathname, "extract"];

export class ChildProcess {
  readonly #process: Bun.Subprocess<"pipe", "pipe", "ignore">;
  readonly #answers: AsyncGenerator<ExtractionAnswer, void>;
  #timer: Timer | undefined;
  #isNew = true;

  constructor(readonly limits: ExtractionLimits) {
    this.#process = Bun.spawn(command, {
      // No key, and no `.env` to take one from. The engine lets garbage grow with the memory that it believes in.
      env: { BUN_JSC_forceRAMSize: String(limits.documentMemoryMibMax * 2 ** 19) },
      cwd: "/",
      stdin: "pipe",
      stdout: "pipe",
      stderr: "ignore",
    });
    this.#answers = this.#read();
  }

  /**
   * Reads a document; `isReady` is to follow. Null where the process ended while it waited for a document.
   * @throws document_unreadable, unsupported_media_type, payload_too_large, internal
   */
  async extract({ bytes, name, media_type }: Source): Promise<ReadDocument | null> {
    this.#timer = setTimeout(() => this.kill(), (this.limits.documentSecondsMax + graceSeconds) * 1000);
    const request: ExtractionRequest = { name, media_type, bytes: bytes.length, limits: this.limits };
    // What can't be written is told by the missing answer.
    void this.#write(request, bytes).catch(() => this.kill());
    let text = "";
    const passages: Passage[] = [];
    for (let isFirst = true; ; isFirst = false) {
      const answer = await this.#next();
      if (answer === null) {
        // Nobody can tell whether it was this document; a new process will.
        if (isFirst && !this.#isNew) return null;
        throw unreadable("The document can't be read.", await this.#howItEnded());
      }
      if ("text" in answer) text += answer.text;
      else if ("passages" in answer) passages.push(...answer.passages);
      else if ("done" in answer) return { media_type: answer.done.media_type, text, passages };
      else if ("error" in answer) throw new AppError(answer.error.code, answer.error);
    }
  }

  /** Whether it reads another document; if not, it has ended when this resolves. */
  async isReady(): Promise<boolean> {
    const answer = await this.#next();
    if (answer === null) await this.#process.exited;
    clearTimeout(this.#timer);
    this.#isNew = false;
    return answer !== null;
  }

  /** Ends it, whatever it does; resolves when it has gone. */
  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }

  async #howItEnded(): Promise<string> {
    const code = await this.#process.exited;
    return `the process ended with ${this.#process.signalCode ?? code}`;
  }

  async #write(request: ExtractionRequest, bytes: Uint8Array): Promise<void> {
    const { stdin } = this.#process;
    await stdin.write(`${JSON.stringify(request)}\n`);
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      await stdin.write(bytes.subarray(at, at + chunkBytes));
      await stdin.flush();
    }
    await stdin.flush();
  }

  async #next(): Promise<ExtractionAnswer | null> {
    const { value, done } = await this.#answers.next();
    return done ? null : value;
  }

  /** Answers one by one, each in a turn of the event loop of its own, so that others get theirs in between. */
  async *#read(): AsyncGenerator<ExtractionAnswer, void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of this.#process.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        yield JSON.parse(line) as ExtractionAnswer;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }
}
