/** How often a turn waits for PostgreSQL. */
import { queriesOfWholeTurn } from "../../test/support/whole-turn.ts";
import type { Bench, Part } from "../support/bench.ts";
import type { Row } from "../support/table.ts";

export const postgresQueries: Part = {
  name: "postgres-queries",
  async run(bench: Bench): Promise<Row[]> {
    const postgres = await bench.postgres();
    const queries = await queriesOfWholeTurn(await postgres.database());
    for (const query of queries) bench.note(query.replaceAll(/\s+/g, " ").slice(0, 100));
    return [
      {
        name: "a turn with idempotency key, memories, recall and documents: round trips to PostgreSQL",
        figure: String(queries.length),
        beside: "6 aimed at",
        ratio: queries.length / 6,
        ratioMax: 1,
      },
    ];
  },
};
