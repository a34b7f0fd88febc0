/** What the tests of backups, exports and imports share. */
import { Database } from "bun:sqlite";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { runParley, type Service, serviceEnv } from "./service.ts";

/** Runs a command on a data directory. */
export const keep = (dataDir: string, args: string[], input?: string) =>
  runParley(args, serviceEnv(dataDir, {}), input);

/** All data of a directory as `parley export` writes it. */
export async function exported(dataDir: string): Promise<string> {
  const { exitCode, stdout, stderr } = await keep(dataDir, ["export"]);
  if (exitCode !== 0) throw new Error(`not exported: ${stderr}`);
  return stdout;
}

/** Opens a database file read-only, asks it, and closes it. */
export function ask<Row>(path: string, sql: string, ...values: string[]): Row[] {
  using db = new Database(path, { readonly: true });
  return db.query<Row, string[]>(sql).all(...values);
}

/** What is wrong with a database, or `ok`. */
export const integrityOf = (path: string): string =>
  ask<{ integrity_check: string }>(path, "pragma integrity_check")
    .map(({ integrity_check }) => integrity_check)
    .join("\n");

/** Files of a directory that are no part of a database at rest. */
export const leftIn = (directory: string): string[] =>
  readdirSync(directory).filter(
    (file) => /part|backup\.db|journal$/.test(file) && !file.startsWith("lock.db"),
  );

/** Clients that run one turn after the other, all at once, until they are stopped. */
export class Load {
  /** Turns whose end was acknowledged, in this order. */
  readonly acknowledged: string[] = [];
  #stopped = false;
  readonly #clients: Promise<void>[];

  constructor(
    readonly service: Service,
    clients: number,
  ) {
    this.#clients = Array.from({ length: clients }, (_, index) => this.#run(`user-${index}`));
    // `stop` tells of what went wrong.
    for (const client of this.#clients) client.catch(() => {});
  }

  async #run(user_id: string): Promise<void> {
    let conversation_id: string | undefined;
    while (!this.#stopped) {
      const message = `What about ${this.acknowledged.length}?`;
      const body = { user_id, message, ...(conversation_id && { conversation_id }) };
      const answer = await this.service.post<ChatResponse>("/v1/chat", body);
      if (answer.status !== 200) throw new Error(`a turn failed: ${JSON.stringify(answer.body)}`);
      conversation_id = answer.body.conversation_id;
      this.acknowledged.push(answer.body.turn_id);
    }
  }

  /** Stops the clients. @throws where one met anything but success */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await Promise.allSettled(this.#clients);
  }
}

/** Makes a stopped service's database larger, by rows that nobody reads. */
export function fatten(dataDir: string, mebibytes: number): void {
  using db = new Database(join(dataDir, "parley.db"));
  const insert = db.query("insert into settings (name, value) values (?, ?)");
  for (let row = 0; row < mebibytes; row++) insert.run(`ballast ${row}`, "x".repeat(2 ** 20));
}
