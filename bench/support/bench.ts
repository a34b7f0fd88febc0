/** What a part of the bench works with: the servers, the client, and one way to measure a server under load. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cpuSeconds } from "./accounting.ts";
import type { Load, LoadResult } from "./load.ts";
import { freePort, Processes, type Server } from "./processes.ts";
import { pathOf, type ReplyShape } from "./reply-shape.ts";
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
  async service(
    reply: ReplyShape,
    { directory = this.processes.directory(), command = this.command, env = {} }: ServiceOptions = {},
  ): Promise<Server> {
    return this.processes.healthy(
      command,
      {
        PORT: String(freePort()),
        PARLEY_DATA_DIR: join(directory, "data"),
        OPENAI_API_KEY: "bench",
        OPENAI_BASE_URL: await this.modelUrl(reply),
        PARLEY_MODEL: "bench",
        PARLEY_SHUTDOWN_SECONDS: "1",
        NODE_ENV: "production",
        ...env,
      },
      directory,
    );
  }

  async passThrough(reply: ReplyShape): Promise<Server> {
    const script = join(import.meta.dir, "pass-through.ts");
    return this.processes.announced([process.execPath, script, await this.modelUrl(reply)], {
      BUN_CONFIG_MAX_HTTP_REQUESTS: "65535",
    });
  }

  /** A new empty directory, removed when the part is over. */
  directory(place: "disk" | "memory" = "disk"): string {
    return this.processes.directory(place);
  }

  /** Runs a script of the bench to its end. */
  run(script: string, ...args: string[]): Promise<void> {
    return this.processes.run([process.execPath, join(import.meta.dir, script), ...args]);
  }

  get command(): string[] {
    return this.options.binary ? binaryCommand : scriptCommand;
  }

  async load(load: Load): Promise<LoadResult> {
    this.client ??= this.processes.client();
    const result = await this.client(load);
    for (const failure of result.failures) this.note(`failed: ${failure.slice(0, 500)}`);
    return result;
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

  private async modelUrl(reply: ReplyShape): Promise<string> {
    this.modelServer ??= this.processes.announced([
      process.execPath,
      join(import.meta.dir, "model-server.ts"),
    ]);
    return `http://127.0.0.1:${(await this.modelServer).port}${pathOf(reply)}`;
  }
}

export interface ServiceOptions {
  directory?: string;
  command?: string[];
  env?: Record<string, string>;
}
