/** Processes as /proc shows them. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { programPath, skipsWithout } from "./needs.ts";

export const skipsWithoutProc = (): boolean =>
  skipsWithout("Linux's /proc", existsSync("/proc/self/environ"));

export interface Outcome {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** Runs a command to its end, whatever that is; its program may lie where only root's PATH looks. */
export async function outcomeOf([program, ...args]: string[]): Promise<Outcome> {
  const child = Bun.spawn([programPath(program!) ?? program!, ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

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

/** What a process is called in the innermost of its namespaces; null where it has ended. */
export function pidWithin(pid: number): number | null {
  try {
    const [, within] = /^NSpid:.*\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))!;
    return Number(within);
  } catch {
    return null;
  }
}

/** Whether a process is there and not only waiting to be reaped. */
export const isAlive = (pid: number): boolean => {
  const stat = statOf(pid);
  return stat !== null && stat.state !== "Z";
};

/** Resident memory, in bytes. */
export const memoryOf = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024;

/** The most that it was so far, in bytes; null where the process has ended. */
export function peakMemoryOf(pid: number): number | null {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024;
  } catch {
    return null;
  }
}

/** Open files and sockets. */
export const descriptorsOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

/** Processor time used so far, in milliseconds; the kernel counts in steps of 10. */
export function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function statOf(pid: number): { state: string; parent: number } | null {
  try {
    const [, state, parent] = /^.*\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))!;
    return { state: state!, parent: Number(parent) };
  } catch {
    // It ended in the meantime.
    return null;
  }
}
