/** Vectors in SQLite and in PostgreSQL. */
import { Database } from "bun:sqlite";
import { setDefaultTimeout } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { openSqliteStore } from "../../src/storage/sqlite/store.ts";
import { reopening } from "../contracts/records.ts";
import { describeVectorStore, type VectorsUnderTest } from "../contracts/vector-store.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { temporaryDirectory, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

async function openSqlite(): Promise<VectorsUnderTest> {
  const directory = temporaryDirectory();
  const under = await reopening(() => openSqliteStore(directory, { vectors: true }));
  return {
    ...under,
    async close() {
      await under.close();
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
  return {
    ...(await reopening(() => openPostgresStore(url))),
    async rowsOf(table) {
      await using sql = new Bun.SQL(url, { max: 1 });
      const [row] = await sql.unsafe<{ count: number }[]>(`select count(*)::int4 as count from ${table}`);
      return row!.count;
    },
  };
}

describeVectorStore("SQLite", openSqlite);
describeVectorStore("PostgreSQL", openPostgres);
