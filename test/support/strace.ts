/** Faults of the disk as the kernel would give them: `strace` makes the system calls of a process fail or wait. */
import { programPath, skipsWithout } from "./needs.ts";

const strace = programPath("strace");

/** Whether tests with injected faults are skipped. */
export function skipsStrace(): boolean {
  const works = strace !== null && Bun.spawnSync([strace, "-f", "-o", "/dev/null", "true"]).exitCode === 0;
  return skipsWithout("strace (apt-get install strace, and the right to trace)", works);
}

/**
 * Injects a fault into a running process until the function ends, such as `fsync:error=EIO`. All of its system
 * calls are slow meanwhile.
 */
export async function withFault<T>(pid: number, fault: string, work: () => Promise<T>): Promise<T> {
  const calls = fault.split(":")[0]!;
  const tracing = Bun.spawn(
    [strace!, "-f", "-o", "/dev/null", "-p", String(pid), "-e", `trace=${calls}`, "-e", `inject=${fault}`],
    { stdout: "ignore", stderr: "pipe" },
  );
  // It says so when it has attached to all threads.
  const reader = tracing.stderr.getReader();
  const { value } = await reader.read();
  const said = new TextDecoder().decode(value);
  if (!said.includes("attached")) throw new Error(`strace: ${said}`);
  try {
    return await work();
  } finally {
    tracing.kill("SIGINT");
    await tracing.exited;
  }
}

/**
 * A command that runs another one with some of its system calls traced, and a fault injected if one is named. It
 * becomes that other one, so that signals reach it: strace is its grandchild (-D).
 */
export const traced = (calls: string, fault: string | null, command: string[]): string[] => [
  ...[strace!, "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", `trace=${calls}`],
  ...(fault === null ? [] : ["-e", `inject=${calls}:${fault}`]),
  ...command,
];
