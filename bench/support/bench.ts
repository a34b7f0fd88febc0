/** What a part of the bench works with: the servers, the client, and one way to measure a server under load. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cpuSeconds } from "./accounting.ts";
import type { Load, LoadResult } from "./load.ts";
import { freePort, Processes, type Server } from "./processes.ts";
import { burst, pathOf } from "./reply-shape.ts";
import type { Row } from "./table.ts";

export interface Options {
  /** Measure `dist/parley` and not `src/main.ts`. */
  binary: boolean;
  /** Fill the long list with 100,000 conversations and not 1,000,000. */
  few: boolean;
}

export interface Part {
  name: string;
  run(bench: Bench): Promise<Row[]>;
}

const root = join(import.meta.dir, "../..");
export const binaryPath = join(root, "dist/parley");
export const scriptCommand = [process.execPath, join(root, "src/main.ts"), "serve"];
export const binaryCommand = [binaryPath, "serve"];

const warmUpSeconds = 5;

/** Writes behind an answer are let finish before a server's CPU time is read. */
const settleMs = 300;

export interface Measure {
  result: LoadResult;
  /** CPU time of the server for one answer. */
  secondsPerAnswer: number;
}

export class Bench {
  private readonly processes = new Processes();
  private modelServer: Promise<Server> | null = null;
  private client: ((load: Load) => Promise<LoadResult>) | null = null;

  constructor(readonly options: Options) {
    if (options.binary && !existsSync(binaryPath))
      throw new Error(`${binaryPath} isn't built: bun run build`);
  }

  /** The service on an empty data directory, or on the one given. */
  async service({
    directory = this.processes.directory(),
    command = this.command,
    env = {},
  }: ServiceOptions = {}): Promise<Server> {
    return this.processes.healthy(
      command,
      {
        PORT: String(freePort()),
        PARLEY_DATA_DIR: join(directory, "data"),
        OPENAI_API_KEY: "bench",
        OPENAI_BASE_URL: await this.modelUrl(),
        // What the other side of a row doesn't do: looking things up for a turn has rows of its own (`context`).
        PARLEY_MEMORY: "off",
        PARLEY_MODEL: "bench",
        PARLEY_SHUTDOWN_SECONDS: "1",
        NODE_ENV: "production",
        ...env,
      },
      directory,
    );
  }

  async passThrough(): Promise<Server> {
    const script = join(import.meta.dir, "pass-through.ts");
    return this.processes.announced([process.execPath, script, await this.modelUrl()], {
      BUN_CONFIG_MAX_HTTP_REQUESTS: "65535",
    });
  }

  /** A new empty directory, removed when the part is over. */
  directory(place: "disk" | "memory" = "disk"): string {
    return this.processes.directory(place);
  }

  /** Runs a script of the bench to its end; gives what it printed. */
  run(script: string, ...args: string[]): Promise<string> {
    return this.processes.run([process.execPath, join(import.meta.dir, script), ...args]);
  }

  get command(): string[] {
    return this.options.binary ? binaryCommand : scriptCommand;
  }

  /** Lets the model speak in the load's shape, and puts the load on a server. */
  async load(load: Load): Promise<LoadResult> {
    this.client ??= this.processes.client();
    await fetch(await this.modelUrl(pathOf(load.reply)), { method: "PUT" });
    const result = await this.client(load);
    for (const failure of result.failures) this.note(`failed: ${failure.slice(0, 500)}`);
    return result;
  }

  /** Lets a server's code be compiled as far as it gets in a longer life: turns of one burst are the quickest way. */
  async warmUp({ port }: Server, path: string, answer: Load["answer"]): Promise<void> {
    const { failed } = await this.load({
      port,
      method: "POST",
      path,
      answer,
      reply: burst,
      clients: 64,
      startEveryMs: 0,
      requestsPerClient: 5000,
      seconds: warmUpSeconds,
      readEvery: 1,
    });
    if (failed > 0) throw new Error(`${failed} answers failed while warming up`);
  }

  /** Puts a load on a server and reads what CPU time it cost. */
  async measure(server: Server, load: Load): Promise<Measure> {
    const before = cpuSeconds(server.pid);
    const result = await this.load(load);
    await Bun.sleep(settleMs);
    const used = cpuSeconds(server.pid) - before;
    if (result.failed > 0)
      throw new Error(`${result.failed} of ${result.failed + result.answered} answers failed`);
    return { result, secondsPerAnswer: used / result.answered };
  }

  /** Says on stderr how far the run is. */
  note(text: string): void {
    console.error(`  ${text}`);
  }

  async stop(...servers: Pick<Server, "pid">[]): Promise<void> {
    await Promise.all(servers.map((server) => this.processes.stop(server)));
  }

  /** Ends what a part left running. */
  async stopAll(): Promise<void> {
    this.modelServer = null;
    this.client = null;
    await this.processes.stopAll();
  }

  killAll(): void {
    this.processes.killAll();
  }

  private async modelUrl(path = "/v1"): Promise<string> {
    const script = join(import.meta.dir, "model-server.ts");
    this.modelServer ??= this.processes.announced([process.execPath, script]);
    return `http://127.0.0.1:${(await this.modelServer).port}${path}`;
  }
}

export interface ServiceOptions {
  directory?: string;
  command?: string[];
  env?: Record<string, string>;
}
