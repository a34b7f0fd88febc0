/** Profiles and memories as clients see them. */
import type { MemoryRecord, ProfileRecord, UserScope } from "../storage/memory-store.ts";
import type { Memory, ProfileView } from "./schema.ts";

/** @param record null for a user nobody has heard of, of whom nothing is set */
export const toProfile = ({ user_id }: UserScope, record: ProfileRecord | null): ProfileView => ({
  object: "profile",
  ...(record ?? {
    user_id,
    display_name: null,
    language: null,
    timezone: null,
    instructions: null,
    metadata: {},
    created_at: null,
    updated_at: null,
  }),
});

export const toMemory = ({ user_id }: UserScope, record: MemoryRecord): Memory => ({
  object: "memory",
  user_id,
  ...record,
});
