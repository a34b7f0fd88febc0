/** One JSON line an event on stdout: ids, durations and outcomes, never content or secrets. */
import { writeSync } from "node:fs";
import { type Logger, pino } from "pino";

export type Log = Pick<Logger, "info" | "warn" | "error">;

/** Lines are gathered for a moment: a system call for each would cost a turn as much as its commit. */
const flushMs = 100;
const gatheredCharsMax = 4_096;
/** What is kept for a stdout that takes nothing right now; more is lost, and counted. */
const waitingBytesMax = 1024 * 1024;

const stdout = 1;

/** What a terminal obeys, or shows otherwise than it is: JSON itself escapes the rest of it. */
const unprintable = /[\u007f-\u009f\u2028\u2029\p{Cf}]/gu;

/** A line of JSON, with all of that escaped too. */
const printable = (line: string): string =>
  line.replace(unprintable, (character) =>
    character.replace(/./gs, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
  );

/**
 * Lines on their way to stdout. A full disk under it, or a reader that has gone, costs lines and nothing else: pino's
 * own destination waits for ever then.
 */
class Lines {
  #gathered = "";
  #waiting: Buffer = Buffer.alloc(0);
  #lost = 0;

  write(line: string): void {
    this.#gathered += printable(line);
    if (this.#gathered.length >= gatheredCharsMax) this.flush();
  }

  flush(): void {
    if (this.#gathered === "" && this.#waiting.length === 0) return;
    const lostBefore =
      this.#lost === 0 ? "" : `{"level":"warn","event":"log_lines_lost","lines":${this.#lost}}\n`;
    const text = Buffer.concat([this.#waiting, Buffer.from(lostBefore + this.#gathered)]);
    this.#gathered = "";
    this.#lost = 0;
    this.#waiting = text.subarray(writtenOf(text));
    if (this.#waiting.length > waitingBytesMax) {
      this.#lost = this.#waiting.toString().split("\n").length - 1;
      this.#waiting = Buffer.alloc(0);
    }
  }
}

/** Writes as much as stdout takes now; how many bytes that is. */
function writtenOf(bytes: Buffer): number {
  try {
    return writeSync(stdout, bytes);
  } catch {
    // There is nowhere to tell it.
    return 0;
  }
}

export function createLog(): Log {
  const lines = new Lines();
  setInterval(() => lines.flush(), flushMs).unref();
  process.on("exit", () => lines.flush());
  return pino(
    {
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    lines,
  );
}
