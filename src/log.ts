/** One JSON line an event on stdout: ids, durations and outcomes, never content or secrets. */
import { type Logger, pino } from "pino";

export type Log = Pick<Logger, "info" | "warn" | "error">;

export const createLog = (): Log =>
  pino({
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level) => ({ level }) },
  });
