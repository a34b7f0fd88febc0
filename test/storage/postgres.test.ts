/** The PostgreSQL adapter: the port's contract. */
import { setDefaultTimeout } from "bun:test";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { describeBudgetStore } from "../contracts/budget-store.ts";
import { describeDocumentStore } from "../contracts/document-store.ts";
import { describeKeyStore } from "../contracts/key-store.ts";
import { describeMemories } from "../contracts/memories.ts";
import { describeMemoryStore } from "../contracts/memory-store.ts";
import { reopening, type StoreUnderTest } from "../contracts/records.ts";
import { describeRetention } from "../contracts/retention.ts";
import { describeStore } from "../contracts/store.ts";
import { describeTurnSlots } from "../contracts/turn-slots.ts";
import { describeUsageStore } from "../contracts/usage-store.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();

async function openUnderTest(): Promise<StoreUnderTest> {
  const url = await newDatabase();
  return await reopening(() => openPostgresStore(url));
}

describeStore("PostgreSQL", openUnderTest);
describeMemoryStore("PostgreSQL", openUnderTest);
describeMemories("PostgreSQL", openUnderTest);
describeDocumentStore("PostgreSQL", openUnderTest);
describeKeyStore("PostgreSQL", openUnderTest);
describeUsageStore("PostgreSQL", openUnderTest);
describeBudgetStore("PostgreSQL", openUnderTest);
describeTurnSlots("PostgreSQL", openUnderTest);
describeRetention("PostgreSQL", openUnderTest);
