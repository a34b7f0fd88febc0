/** One line an event on stdout: ids, durations and outcomes, never secrets, and content only where that is asked for. */
import { writeSync } from "node:fs";
import { isatty } from "node:tty";
import { type Logger, pino } from "pino";
import type { LogLevel } from "./config.ts";
import { jsonLine, type LineForm, prettyLine } from "./log-line.ts";

export type Log = Pick<Logger, "info" | "warn" | "error">;

/** Lines are gathered for a moment: a system call for each would cost a turn as much as its commit. */
const flushMs = 100;
const gatheredCharsMax = 4_096;
/** What is kept for a stdout that takes nothing right now; more is lost, and counted. */
const waitingBytesMax = 1024 * 1024;

const stdout = 1;

/**
 * Lines on their way to stdout. A full disk under it, or a reader that has gone, costs lines and nothing else: pino's
 * own destination waits for ever then.
 */
class Lines {
  #gathered = "";
  #waiting: Buffer = Buffer.alloc(0);
  #lost = 0;

  constructor(readonly form: LineForm) {}

  write(line: string): void {
    this.#gathered += this.form(line);
    if (this.#gathered.length >= gatheredCharsMax) this.flush();
  }

  flush(): void {
    if (this.#gathered === "" && this.#waiting.length === 0) return;
    const lostBefore = this.#lost === 0 ? "" : this.form(linesLost(this.#lost));
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

const linesLost = (lines: number): string =>
  `${JSON.stringify({ level: "warn", time: new Date().toISOString(), event: "log_lines_lost", lines })}\n`;

/** Writes as much as stdout takes now; how many bytes that is. */
function writtenOf(bytes: Buffer): number {
  try {
    return writeSync(stdout, bytes);
  } catch {
    // There is nowhere to tell it.
    return 0;
  }
}

/** JSON, or lines for people where stdout is a terminal. @param level less than that isn't written */
export function createLog(level: LogLevel = "info"): Log {
  const lines = new Lines(isatty(stdout) ? prettyLine(process.stdout.hasColors?.() ?? false) : jsonLine);
  setInterval(() => lines.flush(), flushMs).unref();
  process.on("exit", () => lines.flush());
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    lines,
  );
}
