/**
 * The real process, as its users start it: `bun src/main.ts serve` on a free port, with a data directory of its own.
 *
 *   await using service = await startService({ model, env: { PARLEY_WINDOW_TOKENS: "50" } });
 *   const { status, body } = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "Hello" });
 *   await service.kill(); await service.restart();
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ModelServer } from "./model-server.ts";

const root = new URL("../..", import.meta.url).pathname;
const startMsMax = 15_000;

export const testModel = "test-model";

export interface Answer<Body> {
  status: number;
  headers: Headers;
  body: Body;
}

export interface Service {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly dataDir: string;
  /** What all processes of this service wrote so far, a line each. */
  readonly logs: string[];
  /** Any request; `path` starts with a slash. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Requests with JSON in and out. The caller says what it expects to get. */
  get<Body>(path: string, headers?: Record<string, string>): Promise<Answer<Body>>;
  post<Body>(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer<Body>>;
  send<Body>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer<Body>>;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  /** Any signal, without waiting. */
  signal(signal: NodeJS.Signals): void;
  /** SIGTERM; resolves to the exit code. */
  stop(): Promise<number>;
  /** Resolves to the exit code of the running process. */
  exited(): Promise<number>;
  /** Starts a new process on the same data directory; the one before must have ended. */
  restart(env?: Record<string, string>): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ServiceOptions {
  env?: Record<string, string>;
  /** Where the model is served; without one the embedded model answers. */
  model?: Pick<ModelServer, "url">;
  /** An existing data directory, which is then left alone at the end. */
  dataDir?: string;
  /** What is started in place of `bun src/main.ts serve`, such as the binary. */
  command?: string[];
  /** Where it is started, in place of the root of the repository. */
  cwd?: string;
}

/** A new directory under the system's temporary one. */
export const temporaryDirectory = (): string => mkdtempSync(join(tmpdir(), "parley-test-"));

/** Milliseconds for a test (`setDefaultTimeout`): processes start slowly where many things run side by side. */
export const testMsMax = 30_000;

/** Starts the service; resolves when it listens, rejects with its output when it exits before that. */
export async function startService(options: ServiceOptions = {}): Promise<Service> {
  const dataDir = options.dataDir ?? temporaryDirectory();
  const logs: string[] = [];
  let running = await startProcess(dataDir, options, logs);

  const send = async <Body>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer<Body>> => {
    const response = await fetch(running.url + path, {
      method,
      headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: (text === "" ? null : JSON.parse(text)) as Body,
    };
  };

  return {
    get url() {
      return running.url;
    },
    get port() {
      return Number(new URL(running.url).port);
    },
    get pid() {
      return running.process.pid;
    },
    dataDir,
    logs,
    fetch: (path, init) => fetch(running.url + path, init),
    get: (path, headers) => send("GET", path, undefined, headers),
    post: (path, body, headers) => send("POST", path, body, headers),
    send,
    async kill() {
      running.process.kill("SIGKILL");
      await running.process.exited;
    },
    signal: (signal) => running.process.kill(signal),
    async stop() {
      running.process.kill("SIGTERM");
      return await running.process.exited;
    },
    exited: () => running.process.exited,
    async restart(env = {}) {
      await running.process.exited;
      running = await startProcess(dataDir, { ...options, env: { ...options.env, ...env } }, logs);
    },
    async [Symbol.asyncDispose]() {
      running.process.kill("SIGKILL");
      await running.process.exited;
      if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** The environment of a service in tests: nothing of the caller's own configuration comes through. */
export function serviceEnv(dataDir: string, { env, model }: ServiceOptions): Record<string, string> {
  return {
    PATH: process.env.PATH ?? "",
    // Bun keeps its cache there.
    HOME: tmpdir(),
    PORT: "0",
    PARLEY_DATA_DIR: dataDir,
    ...databaseOf(dataDir),
    // Background requests come to the model only where a test asks for them: PARLEY_MEMORY_MODEL: testModel.
    ...(model && {
      OPENAI_BASE_URL: model.url,
      OPENAI_API_KEY: "test",
      PARLEY_MODEL: testModel,
      PARLEY_MEMORY_MODEL: "embedded",
    }),
    ...env,
  };
}

/** Runs a command of Parley to its end. @param input what is piped in; without it stdin is empty */
export async function runParley(
  args: string[],
  env: Record<string, string>,
  input?: string,
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  if (env.PARLEY_DATA_DIR !== undefined) await makeDatabase(env.PARLEY_DATA_DIR);
  const command = Bun.spawn([process.execPath, "src/main.ts", ...args], {
    cwd: root,
    env,
    stdout: "pipe",
    stderr: "pipe",
    stdin: input === undefined ? "ignore" : new Blob([input]),
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(command.stdout).text(),
    new Response(command.stderr).text(),
    command.exited,
  ]);
  return { exitCode, stdout, stderr };
}

interface Running {
  process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  url: string;
}

/**
 * Whether services of tests store in PostgreSQL instead (PARLEY_TEST_STORAGE=postgres, on the server of
 * PARLEY_TEST_POSTGRES_URL): what tests expect of a service over HTTP holds there too. Each data directory stands for a
 * database.
 */
const postgresServer =
  process.env.PARLEY_TEST_STORAGE === "postgres" ? process.env.PARLEY_TEST_POSTGRES_URL : undefined;

const databaseNameOf = (dataDir: string): string => `parley_${Bun.hash(dataDir).toString(36)}`;

function databaseOf(dataDir: string): { DATABASE_URL?: string } {
  if (postgresServer === undefined) return {};
  const url = new URL(postgresServer);
  url.pathname = `/${databaseNameOf(dataDir)}`;
  return { DATABASE_URL: url.href };
}

/** Makes the database of a data directory, once for all who ask. */
function makeDatabase(dataDir: string): Promise<void> {
  const making = databases.get(dataDir) ?? createDatabase(dataDir);
  databases.set(dataDir, making);
  return making;
}

const databases = new Map<string, Promise<void>>();

async function createDatabase(dataDir: string): Promise<void> {
  if (postgresServer === undefined) return;
  await using sql = new Bun.SQL(postgresServer, { max: 1 });
  const name = databaseNameOf(dataDir);
  const [known] = await sql`select from pg_database where datname = ${name}`;
  if (known === undefined) await sql.unsafe(`create database ${name}`);
}

async function startProcess(dataDir: string, options: ServiceOptions, logs: string[]): Promise<Running> {
  await makeDatabase(dataDir);
  const process_ = Bun.spawn(options.command ?? [process.execPath, "src/main.ts", "serve"], {
    cwd: options.cwd ?? root,
    env: serviceEnv(dataDir, options),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const listening = Promise.withResolvers<string>();
  const fail = (why: string): void =>
    listening.reject(new Error(`the service ${why}:\n${logs.slice(-20).join("\n")}`));
  const timer = setTimeout(() => fail("didn't listen in time"), startMsMax);
  const follow = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    for await (const line of lines(stream)) {
      logs.push(line);
      const url = /"event":"listening","url":"([^"]+)"/.exec(line)?.[1];
      if (url !== undefined) listening.resolve(url);
    }
  };
  const outputs = [follow(process_.stdout), follow(process_.stderr)];
  void Promise.all([...outputs, process_.exited]).then(([, , code]) => fail(`exited with ${code}`));
  try {
    return { process: process_, url: await listening.promise };
  } catch (error) {
    process_.kill("SIGKILL");
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
  if (rest !== "") yield rest;
}

/** Polls until a condition holds; rejects, with what was waited for, when it doesn't within the time. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  msMax = 20_000,
): Promise<void> {
  const giveUpAt = Date.now() + msMax;
  while (!(await condition())) {
    if (Date.now() > giveUpAt) throw new Error(`waited in vain until ${what}`);
    await Bun.sleep(10);
  }
}
