/**
 * The processes of a run. Each is ended by its own pid, and each temporary directory removed, when its part is over
 * or the bench itself is ended.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { Load, LoadResult } from "./load.ts";

const startSecondsMax = 20;
const stopSecondsMax = 10;

type Environment = Record<string, string>;

/** Inherited variables that say nothing about Parley, its models or Bun. */
const plainEnvironment = (): Environment =>
  Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] => !/^(PARLEY_|OPENAI_|BUN_|PORT$|DATABASE_URL$)/.test(entry[0]),
    ),
  );

export interface Server {
  pid: number;
  port: number;
}

export class Processes {
  private readonly running = new Set<Subprocess>();
  private readonly directories = new Set<string>();

  /** A new empty directory, on the disk or in memory. */
  directory(place: "disk" | "memory" = "disk"): string {
    const directory = mkdtempSync(join(place === "disk" ? tmpdir() : "/dev/shm", "parley-bench-"));
    this.directories.add(directory);
    return directory;
  }

  /** Starts a program whose first line on stdout is its port. */
  async announced(command: string[], env: Environment = {}): Promise<Server> {
    const child = Bun.spawn(command, {
      env: { ...plainEnvironment(), ...env },
      stdout: "pipe",
      stderr: "inherit",
    });
    this.running.add(child);
    for await (const bytes of child.stdout)
      return { pid: child.pid, port: Number(Buffer.from(bytes).toString()) };
    throw new Error(`${command.join(" ")} ended before it listened`);
  }

  /** Starts a program that is to answer `GET /health` on this port; resolves at its first 200. */
  async healthy(command: string[], env: Environment & { PORT: string }, cwd: string): Promise<Server> {
    const log = join(cwd, "log");
    const child = Bun.spawn(command, {
      cwd,
      env: { ...plainEnvironment(), ...env },
      stdout: Bun.file(log),
      stderr: Bun.file(`${log}-errors`),
    });
    this.running.add(child);
    const deadline = performance.now() + startSecondsMax * 1000;
    while (child.exitCode === null && performance.now() < deadline) {
      const answer = await fetch(`http://127.0.0.1:${env.PORT}/health`).catch(() => null);
      await answer?.arrayBuffer();
      if (answer?.status === 200) return { pid: child.pid, port: Number(env.PORT) };
      await Bun.sleep(1);
    }
    const said = `${await Bun.file(log).text()}${await Bun.file(`${log}-errors`).text()}`;
    throw new Error(`${command.join(" ")} wasn't healthy after ${startSecondsMax} s:\n${said.slice(-2000)}`);
  }

  /** Runs a program to its end; gives what it printed. */
  async run(command: string[]): Promise<string> {
    const child = Bun.spawn(command, { env: plainEnvironment(), stdout: "pipe", stderr: "inherit" });
    this.running.add(child);
    const printed = await new Response(child.stdout).text();
    const code = await child.exited;
    this.running.delete(child);
    if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}`);
    return printed.trim();
  }

  /** A load client, which stays warm from one load to the next. */
  client(): (load: Load) => Promise<LoadResult> {
    let done: (result: LoadResult) => void = () => {};
    const child = Bun.spawn([process.execPath, join(import.meta.dir, "client.ts")], {
      env: plainEnvironment(),
      stdout: "inherit",
      stderr: "inherit",
      serialization: "json",
      ipc: (result: LoadResult) => done(result),
    });
    this.running.add(child);
    return (load) =>
      new Promise((resolve, reject) => {
        done = resolve;
        child.exited.then(() => reject(new Error("the load client ended")));
        child.send(load);
      });
  }

  /** Ends one of the processes, gently at first. */
  async stop({ pid }: Pick<Server, "pid">): Promise<void> {
    const child = [...this.running].find((candidate) => candidate.pid === pid);
    if (child === undefined) return;
    child.kill("SIGTERM");
    await Promise.race([child.exited, Bun.sleep(stopSecondsMax * 1000)]);
    child.kill("SIGKILL");
    await child.exited;
    this.running.delete(child);
  }

  /** Ends all that still run and removes every directory. */
  async stopAll(): Promise<void> {
    await Promise.all([...this.running].map((child) => this.stop(child)));
    for (const directory of this.directories) rmSync(directory, { recursive: true, force: true });
    this.directories.clear();
  }

  /** The same at once, for the way out of the process. */
  killAll(): void {
    for (const child of this.running) child.kill("SIGKILL");
    for (const directory of this.directories) rmSync(directory, { recursive: true, force: true });
  }
}

/** A port that nobody listened on a moment ago. */
export function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  listener.stop(true);
  return listener.port;
}
