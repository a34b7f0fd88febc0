/** Users, their profiles and memories, and what of a conversation goes into a prompt. */
import type { MemoryStore } from "../memory-store.ts";
import type { Database } from "./database.ts";

export function createMemories(
  _database: Database,
): Pick<
  MemoryStore,
  | "profile"
  | "updateProfile"
  | "heldMemories"
  | "memories"
  | "memory"
  | "saveMemories"
  | "updateMemory"
  | "deleteMemory"
  | "turnsToRemember"
  | "promptSources"
  | "conversationContext"
  | "replaceSummary"
  | "keptConversations"
> {
  return {} as never;
}
