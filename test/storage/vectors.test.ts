/** Vectors in SQLite and in PostgreSQL. */
import { Database } from "bun:sqlite";
import { setDefaultTimeout } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { openSqliteStore } from "../../src/storage/sqlite/store.ts";
import { describeVectorStore, type VectorsUnderTest } from "../contracts/vector-store.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { temporaryDirectory, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

async function openSqlite(): Promise<VectorsUnderTest> {
  const directory = temporaryDirectory();
  const open = () => openSqliteStore(directory, { vectors: true });
  let store = await open();
  return {
    store,
    async reopen() {
      await store.close();
      store = await open();
      return store;
    },
    async close() {
      await store.close();
      rmSync(directory, { recursive: true, force: true });
    },
    async rowsOf(table) {
      using db = new Database(join(directory, "parley.db"), { readonly: true });
      return db.query<{ count: number }, []>(`select count(*) as count from ${table}`).get()!.count;
    },
  };
}

const newDatabase = databasesOfFile();

async function openPostgres(): Promise<VectorsUnderTest> {
  const url = await newDatabase();
  let store = await openPostgresStore(url);
  return {
    store,
    async reopen() {
      await store.close();
      store = await openPostgresStore(url);
      return store;
    },
    close: () => store.close(),
    async rowsOf(table) {
      await using sql = new Bun.SQL(url, { max: 1 });
      const [row] = await sql.unsafe<{ count: number }[]>(`select count(*)::int4 as count from ${table}`);
      return row!.count;
    },
  };
}

describeVectorStore("SQLite", openSqlite);
describeVectorStore("PostgreSQL", openPostgres);
