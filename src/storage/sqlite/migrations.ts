/** Numbered, applied in order at start, never edited once released. A database's `user_version` counts them. */
import turns from "../migrations/sqlite/0001_turns.sql" with { type: "text" };
import memoryAndDocuments from "../migrations/sqlite/0002_memory_and_documents.sql" with { type: "text" };
import keys from "../migrations/sqlite/0003_keys.sql" with { type: "text" };
import usage from "../migrations/sqlite/0004_usage.sql" with { type: "text" };

export const migrations: readonly string[] = [turns, memoryAndDocuments, keys, usage];
