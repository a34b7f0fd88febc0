/** One JSON line an event on stdout: ids, durations and outcomes, never content or secrets. */
import { type Logger, pino } from "pino";

export type Log = Pick<Logger, "info" | "warn" | "error">;

/** Lines are gathered for a moment: a system call for each would cost a turn as much as its commit. */
const flushMs = 100;
const gatheredBytesMax = 4_096;

export function createLog(): Log {
  const stdout = pino.destination({
    dest: 1,
    sync: true,
    minLength: gatheredBytesMax,
    periodicFlush: flushMs,
  });
  process.on("exit", () => stdout.flushSync());
  return pino(
    {
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    stdout,
  );
}
