/** A turn waits for its database a few times, whatever it looks up. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";
import { queriesOfWholeTurn } from "../support/whole-turn.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();

test("a turn with an idempotency key, memories, recall and documents takes at most 6 round trips", async () => {
  const queries = await queriesOfWholeTurn(await newDatabase());
  // What it comes to is told by which they are.
  expect(queries.slice(6)).toEqual([]);
  // Fewer would mean that they aren't seen.
  expect(queries.length).toBeGreaterThanOrEqual(3);
});
