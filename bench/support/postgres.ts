/** The tests' PostgreSQL, here with what it writes on the disk. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PostgresServer } from "../../test/support/postgres.ts";
import { cpuSecondsOfFamily } from "./accounting.ts";

export interface Postgres {
  /** Makes a new, empty database; gives its URL. */
  database(): Promise<string>;
  /** CPU time of all its processes so far. */
  cpuSeconds(): number;
  stop(): Promise<void>;
}

export async function startPostgres(): Promise<Postgres> {
  const server = await PostgresServer.start("-c", "fsync=on");
  const pid = Number(readFileSync(join(server.directory, "data/postmaster.pid"), "utf8").split("\n", 1)[0]);
  return {
    database: () => server.database(),
    cpuSeconds: () => cpuSecondsOfFamily(pid),
    stop: () => server[Symbol.asyncDispose](),
  };
}
