/** Numbered, applied in order at start, never edited once released. `schema_version` counts them. */
import tables from "../migrations/postgres/0001_tables.sql" with { type: "text" };
import turns from "../migrations/postgres/0002_turns.sql" with { type: "text" };
import search from "../migrations/postgres/0003_search.sql" with { type: "text" };
import messageIndex from "../migrations/postgres/0004_message_index.sql" with { type: "text" };
import passageIndex from "../migrations/postgres/0005_passage_index.sql" with { type: "text" };
import vectors from "../migrations/postgres/0006_vectors.sql" with { type: "text" };
import searches from "../migrations/postgres/0007_searches.sql" with { type: "text" };
import memories from "../migrations/postgres/0008_memories.sql" with { type: "text" };
import documents from "../migrations/postgres/0009_documents.sql" with { type: "text" };
import erasure from "../migrations/postgres/0010_erasure.sql" with { type: "text" };
import rateLimits from "../migrations/postgres/0011_rate_limits.sql" with { type: "text" };

export const migrations: readonly string[] = [
  tables,
  turns,
  search,
  messageIndex,
  passageIndex,
  vectors,
  searches,
  memories,
  documents,
  erasure,
  rateLimits,
];
