/** What Linux says about a process: nothing needs to be added to the program under test. */
import { readdirSync, readFileSync } from "node:fs";

const ticksPerSecond = Number(Bun.spawnSync(["getconf", "CLK_TCK"]).stdout.toString()) || 100;

/** Seconds of CPU time, in user and kernel mode, that all threads of a process have used; 10 ms fine. */
export function cpuSeconds(pid: number): number {
  const { used } = statOf(pid);
  return used / ticksPerSecond;
}

/** The same with its children, those that have ended too; theirs aren't counted. */
export function cpuSecondsOfFamily(pid: number): number {
  const parent = statOf(pid);
  let ticks = parent.used + parent.usedByEnded;
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const child = statOf(Number(name));
      if (child.parent === pid) ticks += child.used;
    } catch {
      // It has ended meanwhile, and is counted next time.
    }
  }
  return ticks / ticksPerSecond;
}

/** Times in ticks: see man 5 proc. */
function statOf(pid: number) {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  return { parent: fields[1]!, used: fields[11]! + fields[12]!, usedByEnded: fields[13]! + fields[14]! };
}

/** Resident memory of a process in bytes. */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/** Watches a process's memory until told to stop; the answer is the most that was seen. */
export function watchMemory(pid: number): () => number {
  let most = residentBytes(pid);
  const timer = setInterval(() => {
    most = Math.max(most, residentBytes(pid));
  }, 100);
  return () => {
    clearInterval(timer);
    return most;
  };
}
