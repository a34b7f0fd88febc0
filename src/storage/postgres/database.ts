/**
 * The connections of an instance, and queries on them. Each query has a connection to itself: Bun would send further
 * ones down a connection that is busy, where a slow one holds up whatever comes behind it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ReservedSQL } from "bun";
import { AppError } from "../../errors.ts";
import { toNormalForm } from "../../normal-form.ts";
import { StorageUnusableError } from "../unusable.ts";
import { isConnectionLost, isContention, toAppError } from "./faults.ts";

/** A value for a `$name` of a query. Arrays become arrays, objects JSON. */
export type Binding = string | number | boolean | null | Uint8Array | readonly unknown[];
export type Bindings = Readonly<Record<string, Binding>>;

/** Runs queries, on any connection or within a transaction. */
export interface Queries {
  /** All rows. int8 and numeric come as strings: cast what is to be a number to float8 or int4. */
  rows<Row>(query: string, bindings?: Bindings): Promise<Row[]>;
  /** The first row; null where there is none. */
  row<Row>(query: string, bindings?: Bindings): Promise<Row | null>;
}

/** A transaction that lasts until it is closed; nothing of it is done again. */
export interface Session extends Queries {
  commit(): Promise<void>;
  /** Where it isn't committed, all is as it was. */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  /** What its sessions are called, if not as a service's are. */
  name?: string;
  connectionsMax: number;
  /** Queries that wait for a connection or are under way; more are refused as overloaded. */
  waitingMax: number;
  /** A query that takes longer is cancelled by the server. */
  statementSecondsMax: number;
  /** So long a query waits for a connection. */
  waitSecondsMax: number;
  /** Further settings of the sessions, or others than a service's. */
  settings?: Readonly<Record<string, string>>;
}

/** What the sessions of services are called. */
export const serviceName = "parley";

/** Tries in all, where a query is safe to be repeated. */
const triesMax = 4;
const retryMs = 50;

export class Database implements Queries {
  readonly sql: Bun.SQL;
  #waiting = 0;
  /** Connections that have a query under way. */
  #held = 0;

  constructor(
    readonly url: string,
    readonly options: DatabaseOptions,
  ) {
    this.sql = new Bun.SQL(url, {
      adapter: "postgres",
      max: options.connectionsMax,
      connectionTimeout: options.waitSecondsMax,
      connection: {
        application_name: options.name ?? serviceName,
        statement_timeout: options.statementSecondsMax * 1000,
        // A client that died in the middle of a transaction holds its locks no longer than this.
        idle_in_transaction_session_timeout: 10_000,
        // What dates and times look like is no matter of how the server is set up.
        timezone: "UTC",
        ...options.settings,
      },
    });
  }

  /** Queries that wait for a connection or are under way. */
  get waiting(): number {
    return this.#waiting;
  }

  /** For what may be repeated: reads, and writes that change nothing the second time. */
  rows<Row>(query: string, bindings: Bindings = {}): Promise<Row[]> {
    return this.#persist(true, (connection) => run(connection, query, bindings));
  }

  async row<Row>(query: string, bindings: Bindings = {}): Promise<Row | null> {
    return (await this.rows<Row>(query, bindings))[0] ?? null;
  }

  /** For writes that must not be repeated where nobody knows whether they were committed. */
  change<Row>(query: string, bindings: Bindings = {}): Promise<Row[]> {
    return this.#persist(false, (connection) => run(connection, query, bindings));
  }

  /**
   * Several queries that are committed at once, or not at all. The work is done again where it lost against others.
   * @param repeatable whether it may be done again too where nobody knows whether it was committed
   */
  transaction<T>(work: (queries: Queries) => Promise<T>, { repeatable = false } = {}): Promise<T> {
    return this.#persist(repeatable, async (connection) => {
      const queries: Queries = {
        rows: (query, bindings = {}) => run(connection, query, bindings),
        row: async <Row>(query: string, bindings: Bindings = {}) =>
          (await run<Row>(connection, query, bindings))[0] ?? null,
      };
      await connection.unsafe("begin");
      try {
        const result = await work(queries);
        await connection.unsafe("commit");
        return result;
      } catch (error) {
        // Where the connection was lost, so was the transaction.
        await connection.unsafe("rollback").catch(() => {});
        throw error;
      }
    });
  }

  /** Makes room of what deleted rows have left in the files. It takes its time, and leaves others theirs. */
  vacuum(): Promise<void> {
    return this.#persist(true, async (connection) => {
      const tables = await run<{ name: string }>(
        connection,
        "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = current_schema()",
        {},
      );
      await connection.unsafe("set statement_timeout = 0; set vacuum_cost_delay = 2");
      try {
        await connection.unsafe(`vacuum (skip_locked) ${tables.map(({ name }) => name).join(", ")}`);
      } finally {
        await connection.unsafe("reset statement_timeout; reset vacuum_cost_delay");
      }
    });
  }

  /** @param begin begins it: `begin isolation level repeatable read`. It may take as long as it takes. */
  async session(begin: string): Promise<Session> {
    const connection = await this.#connect(1);
    let isOpen = true;
    const rows = async <Row>(query: string, bindings: Bindings = {}): Promise<Row[]> => {
      try {
        return await run<Row>(connection, query, bindings);
      } catch (error) {
        throw toAppError(error);
      }
    };
    await rows(begin);
    await rows("set local statement_timeout = 0");
    await rows("set local idle_in_transaction_session_timeout = 0");
    return {
      rows,
      row: async <Row>(query: string, bindings: Bindings = {}) =>
        (await rows<Row>(query, bindings))[0] ?? null,
      async commit() {
        await rows("commit");
        isOpen = false;
      },
      async close() {
        // Where the connection was lost, so was the transaction.
        if (isOpen) await connection.unsafe("rollback").catch(() => {});
        await connection.release();
      },
    };
  }

  async close(): Promise<void> {
    await this.sql.close({ timeout: 5 });
  }

  async #persist<T>(repeatable: boolean, work: (connection: ReservedSQL) => Promise<T>): Promise<T> {
    if (this.#waiting >= this.options.waitingMax) throw new AppError("overloaded");
    this.#waiting++;
    try {
      for (let tries = 1; ; tries++) {
        const connection = await this.#connect(tries);
        this.#held++;
        try {
          const result = await work(connection);
          await connection.release();
          return result;
        } catch (error) {
          const isLost = isConnectionLost(error);
          // One that still leads to a server which is a standby by now isn't used again.
          await (isLost ? connection.close() : connection.release());
          const again = isContention(error) || (repeatable && isLost);
          if (!again || tries === triesMax) throw error;
        } finally {
          this.#held--;
        }
        await sleep(retryMs * 2 ** (tries - 1) * (0.5 + Math.random()));
      }
    } catch (error) {
      throw error instanceof StorageUnusableError ? error : toAppError(error);
    } finally {
      this.#waiting--;
    }
  }

  /** Nothing has been sent before there is a connection: trying again is always safe. */
  async #connect(tries: number): Promise<ReservedSQL> {
    const signal = AbortSignal.timeout(this.options.waitSecondsMax * 1000);
    for (; ; tries++) {
      try {
        return await this.sql.reserve({ signal });
      } catch (error) {
        if (signal.aborted) throw this.#noConnection(tries);
        if (!isConnectionLost(error) || tries >= triesMax) throw error;
      }
      await sleep(retryMs * 2 ** (tries - 1) * (0.5 + Math.random()));
    }
  }

  /** Others hold all connections, or there is none to be had; after a try that was lost, nobody knows what that did. */
  #noConnection(tries: number): AppError {
    return tries === 1 && this.#held >= this.options.connectionsMax
      ? new AppError("overloaded", { cause: "no connection became free" })
      : new AppError("storage_unavailable", { cause: "no connection could be made" });
  }
}

interface Compiled {
  text: string;
  names: string[];
}

const compiled = new Map<string, Compiled>();

/** A query with `$names` as PostgreSQL takes it, with numbers. Queries are constants: there are as many as in the code. */
function compile(query: string): Compiled {
  const known = compiled.get(query);
  if (known !== undefined) return known;
  const names: string[] = [];
  const text = query.replace(/\$([a-z][a-z0-9_]*)/g, (_, name: string) => {
    const index = names.indexOf(name);
    return `$${index < 0 ? names.push(name) : index + 1}`;
  });
  const made = { text, names };
  compiled.set(query, made);
  return made;
}

async function run<Row>(connection: ReservedSQL, query: string, bindings: Bindings): Promise<Row[]> {
  const { text, names } = compile(query);
  const values = names.map((name) => {
    const value = bindings[name];
    if (value === undefined) throw new Error(`the query has no value for $${name}`);
    return value;
  });
  // Without values several statements may come at once, as in migrations.
  const rows = await (values.length === 0
    ? connection.unsafe<Row[]>(text)
    : connection.unsafe<Row[]>(text, values));
  return Array.from(rows);
}

/** A value as JSON that PostgreSQL takes, for a parameter of type text: it refuses NUL and unpaired surrogates. */
export function toJson(value: unknown): string {
  const json = JSON.stringify(value);
  if (!/\\u(0000|d[89a-f])/.test(json)) return json;
  return JSON.stringify(value, (_, each: unknown) => (typeof each === "string" ? toNormalForm(each) : each));
}
