/** SQLite and PostgreSQL find the same for a question, in the same order. */
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Corpus, loadCorpus } from "../../bench/retrieval/corpus.ts";
import { type OpenedStore, parleyUndeciding, parleyWith } from "../../bench/retrieval/parley.ts";
import type { Retriever } from "../../bench/retrieval/retriever.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

/** Of the corpus, so that the test takes seconds. */
const usersMax = 3;
const documentsMax = 12;
const resultsMax = 10;

const newDatabase = databasesOfFile();

async function openPostgres(): Promise<OpenedStore> {
  const store = await openPostgresStore(await newDatabase());
  return { store, close: () => store.close() };
}

const onPostgres = parleyWith({ name: "PostgreSQL", open: openPostgres, decides: false });

let corpus: Corpus;
beforeAll(() => {
  corpus = loadCorpus();
});

/** What each finds for each question. @param batches what is indexed, one batch after the other */
async function foundBy<Source, Hit>(
  retriever: Retriever<Source, Hit>,
  batches: readonly (readonly Source[])[],
  questions: readonly string[],
): Promise<[question: string, hits: readonly Hit[]][]> {
  try {
    for (const batch of batches) await retriever.index(batch);
    const found: [string, readonly Hit[]][] = [];
    for (const question of questions) found.push([question, await retriever.search(question, resultsMax)]);
    return found;
  } finally {
    await retriever.close();
  }
}

describe("both adapters find the same", () => {
  test("passages", async () => {
    const documents = corpus.documents.slice(0, documentsMax);
    const questions = corpus.documentQuestions.map(({ question }) => question);
    const expected = await foundBy(await parleyUndeciding.documents(), [documents], questions);
    expect(expected.filter(([, hits]) => hits.length > 1).length).toBeGreaterThan(100);
    expect(await foundBy(await onPostgres.documents(), [documents], questions)).toEqual(expected);
  });

  test("messages", async () => {
    for (const [user, messages] of [...corpus.dialogues].slice(0, usersMax)) {
      // One after the other, so that their numbers are in the same order.
      const conversations = [...Map.groupBy(messages, ({ conversation }) => conversation).values()];
      const questions = corpus.dialogueQuestions
        .filter((asked) => asked.user === user)
        .map(({ question }) => question);
      const expected = await foundBy(await parleyUndeciding.messages(), conversations, questions);
      expect(expected.filter(([, hits]) => hits.length > 1).length).toBeGreaterThan(3);
      expect(await foundBy(await onPostgres.messages(), conversations, questions)).toEqual(expected);
    }
  });
});
