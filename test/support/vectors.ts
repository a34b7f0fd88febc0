/** What the tests of search by vectors share. */
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { type Service, testMsMax, until } from "./service.ts";

export interface VectorRows {
  /** The model that the vectors are of. */
  model: string;
  messages: number;
  memories: number;
  passages: number;
}

/**
 * How many vectors of each model the database of a data directory holds, oldest model first.
 * @param user_id whose messages and memories are counted; all users' where it isn't given
 */
export function vectorsIn(dataDir: string, user_id: string | null = null): VectorRows[] {
  using db = new Database(join(dataDir, "parley.db"), { readonly: true, strict: true });
  db.run("pragma busy_timeout = 5000");
  const count = (from: string, where = "1"): string =>
    `(select count(*) from ${from} where v.space_n = s.n and v.vector is not null and ${where})`;
  const ofUser = (column: string): string =>
    `($user_id is null or ${column} in (select n from users where user_id = $user_id))`;
  return db
    .query<VectorRows, { user_id: string | null }>(
      `select s.model, ${count("message_vectors v", ofUser("v.user_n"))} as messages,
         ${count("memory_vectors v join memories m on m.n = v.n", ofUser("m.user_n"))} as memories,
         ${count("passage_vectors v")} as passages
       from vector_spaces s order by s.n`,
    )
    .all({ user_id });
}

/** Waits until there are as many vectors as said, of the newest model where none is named. */
export async function untilEmbedded(
  { dataDir, logs }: Pick<Service, "dataDir" | "logs">,
  expected: Partial<VectorRows>,
  user_id: string | null = null,
): Promise<void> {
  let rows: VectorRows[] = [];
  const isThere = (): boolean => {
    rows = vectorsIn(dataDir, user_id);
    const { model } = expected;
    const row = model === undefined ? rows.at(-1) : rows.find((row) => row.model === model);
    return row !== undefined && Bun.deepMatch(expected, row);
  };
  await until(`there are vectors: ${JSON.stringify(expected)}`, isThere, testMsMax).catch((error: Error) => {
    throw new Error(`${error.message}; there are ${JSON.stringify(rows)}\n${logs.slice(-10).join("\n")}`);
  });
}
