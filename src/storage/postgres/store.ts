/** The PostgreSQL adapter of the storage port: many instances share one database. */
import type { Store } from "../store.ts";
import { createBudgets } from "./budgets.ts";
import { createClaims } from "./claims.ts";
import { createConversationSearch } from "./conversation-search.ts";
import { createConversations } from "./conversations.ts";
import { Database } from "./database.ts";
import { createDocuments } from "./documents.ts";
import { createErasure } from "./erasure.ts";
import { createKeys } from "./keys.ts";
import { createMemories } from "./memories.ts";
import type { Migrated } from "./migrate.ts";
import { openDatabase } from "./open.ts";
import { createPassages } from "./passages.ts";
import { createRecall } from "./recall.ts";
import { createTurns } from "./turns.ts";
import { createUsage } from "./usage.ts";
import { createVectors } from "./vectors.ts";

export interface PostgresStoreOptions {
  /** More starts of turns are refused as overloaded. What ends a turn isn't: the turns that may run bound it. */
  writesWaitingMax?: number;
  /** Half of them are for turns alone. */
  connectionsMax?: number;
  /** So long a query may take. */
  statementSecondsMax?: number;
  /** Hears of it where an older database was brought to the newest version. */
  onUpgrade?: (upgrade: Migrated) => void;
}

/** So long a query waits for a connection. */
const waitSecondsMax = 10;
/** Queries that wait for one, but for those of turns; more are refused as overloaded. */
const queriesWaitingMax = 10_000;

/**
 * Opens the store of a database, and brings that to the newest version.
 * @param url `postgres://user:password@host:port/database`
 * @throws StorageUnusableError, which doesn't tell the URL: there is a password in it
 */
export async function openPostgresStore(
  url: string,
  {
    writesWaitingMax = 10_000,
    connectionsMax = 10,
    statementSecondsMax = 30,
    onUpgrade,
  }: PostgresStoreOptions = {},
): Promise<Store> {
  const forTurns = Math.ceil(connectionsMax / 2);
  const bounds = { statementSecondsMax, waitSecondsMax };
  const database = await openDatabase(
    url,
    { ...bounds, connectionsMax: connectionsMax - forTurns, waitingMax: queriesWaitingMax },
    onUpgrade,
  );
  // No search and no list holds up a turn, and what is bounded by the turns that may run is never refused.
  const turnDatabase = new Database(url, {
    ...bounds,
    connectionsMax: forTurns,
    waitingMax: Number.POSITIVE_INFINITY,
  });
  const { waiting, ...turns } = createTurns(turnDatabase, writesWaitingMax);

  return {
    ...turns,
    ...createConversations(database),
    ...createConversationSearch(database),
    ...createMemories(database, turnDatabase),
    ...createErasure(database),
    ...createRecall(database),
    ...createDocuments(database),
    ...createPassages(database),
    ...createVectors(database),
    ...createKeys(database),
    ...createUsage(database),
    ...createBudgets(database),
    ...createClaims(database),

    async ticketSecret() {
      const row = await database.row<{ value: string }>(
        "select value from settings where name = 'ticket_secret'",
      );
      if (row === null) throw new Error("the setting ticket_secret is missing");
      return row.value;
    },
    waiting: () => ({ batches: waiting(), turns: turnDatabase.waiting, queries: database.waiting }),
    async check() {
      await database.rows(
        `insert into settings (name, value) values ('checked_at', $now)
         on conflict (name) do update set value = excluded.value`,
        { now: String(Date.now()) },
      );
    },
    async close() {
      await Promise.all([database.close(), turnDatabase.close()]);
    },
  };
}
