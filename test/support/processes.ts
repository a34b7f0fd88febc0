/** Processes as /proc shows them. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { skipsWithout } from "./needs.ts";

export const skipsWithoutProc = (): boolean =>
  skipsWithout("Linux's /proc", existsSync("/proc/self/environ"));

/** The pids of the processes that a process has started and that haven't ended. */
export function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((candidate) => {
      const stat = statOf(candidate);
      return stat?.parent === pid && stat.state !== "Z";
    });
}

/** Whether a process is there and not only waiting to be reaped. */
export const isAlive = (pid: number): boolean => {
  const stat = statOf(pid);
  return stat !== null && stat.state !== "Z";
};

function statOf(pid: number): { state: string; parent: number } | null {
  try {
    const [, state, parent] = /^.*\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))!;
    return { state: state!, parent: Number(parent) };
  } catch {
    // It ended in the meantime.
    return null;
  }
}
