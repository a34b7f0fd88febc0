/** Documents in PostgreSQL: what the port leaves to it, because an answer may be lost on the way there. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { newId } from "../../src/ids.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import { scope } from "../contracts/records.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();

test("a revision may be finished again where nobody knows whether it was; another one that came since stays", async () => {
  const store = await openPostgresStore(await newDatabase());
  const name = "again.txt";
  const begin = (revision_id: string) =>
    store.beginRevision(
      "default",
      {
        document_id: newId("document"),
        revision_id,
        collection: "default",
        name,
        owner: null,
        media_type: "text/plain",
        metadata: {},
        content_hash: revision_id,
        bytes: 1,
        now_ms: 0,
      },
      Buffer.from("x"),
    );
  const [first, second] = [newId("revision"), newId("revision")];
  const { document } = await begin(first);
  const attempt = (await store.beginAttempt(first))!;
  await store.addToRevision(attempt, [{ start: 0, text: "first" }], [], 1);
  const finished = await store.finishRevision(attempt, "text/plain", 5, 1_000);
  expect(finished).toMatchObject({ status: "ready", updated_at: 1 });
  expect(await store.finishRevision(attempt, "text/plain", 5, 2_000)).toEqual(finished);

  await begin(second);
  const next = (await store.beginAttempt(second))!;
  await store.addToRevision(next, [{ start: 0, text: "second" }], [], 1);
  await store.finishRevision(next, "text/plain", 6, 3_000);
  expect(await store.finishRevision(attempt, "text/plain", 5, 4_000)).toBeNull();
  expect((await store.documentText(scope, document.id, 0))?.text).toBe("second");
  await store.close();
});
