/** What a part of the bench works with: the servers, the client, and one way to measure a server under load. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cpuSeconds } from "./accounting.ts";
import type { Load, LoadResult } from "./load.ts";
import { type Postgres, startPostgres } from "./postgres.ts";
import { freePort, Processes, type Server } from "./processes.ts";
import { burst, pathOf, type ReplyShape } from "./reply-shape.ts";
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
  private readonly databases: Postgres[] = [];
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

  /** What the model says from now on. */
  async shapeReplies(reply: ReplyShape): Promise<void> {
    await fetch(await this.modelUrl(pathOf(reply)), { method: "PUT" });
  }

  /** Lets the model speak in the load's shape, and puts the load on a server. */
  async load(load: Load): Promise<LoadResult> {
    this.client ??= this.processes.client();
    await this.shapeReplies(load.reply);
    const result = await this.client(load);
    for (const failure of result.failures) this.note(`failed: ${failure.slice(0, 500)}`);
    return result;
  }

  /** Lets a server's code be compiled as far as it gets in a longer life: turns of one burst are the quickest way. */
  async warmUp({ port }: Pick<Server, "port">, path: string, answer: Load["answer"]): Promise<void> {
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
  async measure(server: Pick<Server, "pid">, load: Load): Promise<Measure> {
    const { result, secondsPerAnswer } = await this.measureAll(
      { server: () => cpuSeconds(server.pid) },
      load,
    );
    return { result, secondsPerAnswer: secondsPerAnswer.server };
  }

  /** The same where several have a part in an answer. @param used the CPU time of each so far, in seconds */
  async measureAll<Name extends string>(
    used: Record<Name, () => number>,
    load: Load,
  ): Promise<{ result: LoadResult; secondsPerAnswer: Record<Name, number> }> {
    const names = Object.keys(used) as Name[];
    const before = names.map((name) => used[name]());
    const result = await this.load(load);
    await Bun.sleep(settleMs);
    const after = names.map((name) => used[name]());
    if (result.failed > 0)
      throw new Error(`${result.failed} of ${result.failed + result.answered} answers failed`);
    const perAnswer = names.map((name, index) => [name, (after[index]! - before[index]!) / result.answered]);
    return { result, secondsPerAnswer: Object.fromEntries(perAnswer) as Record<Name, number> };
  }

  /** Says on stderr how far the run is. */
  note(text: string): void {
    console.error(`  ${text}`);
  }

  async stop(...servers: Pick<Server, "pid">[]): Promise<void> {
    await Promise.all(servers.map((server) => this.processes.stop(server)));
  }

  /** A PostgreSQL of its own, as it is by itself but for the connections it takes; stopped when the part is over. */
  async postgres(): Promise<Postgres> {
    const postgres = await startPostgres();
    this.databases.push(postgres);
    return postgres;
  }

  /** Ends what a part left running. */
  async stopAll(): Promise<void> {
    this.modelServer = null;
    this.client = null;
    await this.processes.stopAll();
    for (const database of this.databases.splice(0)) await database.stop();
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
