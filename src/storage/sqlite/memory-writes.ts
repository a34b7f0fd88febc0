/** Statements that write users, memories and summaries: see writes.ts for how they are run. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type {
  MemoryPatch,
  MemoryRecord,
  NewMemory,
  Profile,
  ProfileRecord,
  Summary,
  UserScope,
} from "../memory-store.ts";
import { createMemoryReads } from "./memory-reads.ts";

export function createMemoryWrites(db: Database) {
  const reads = createMemoryReads(db);
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);

  const insertUser = statement(`insert into users (workspace_id, user_id, created_at, updated_at)
    values ($workspace_id, $user_id, $now, $now) on conflict do nothing`);
  const findUser = statement("select n from users where workspace_id = $workspace_id and user_id = $user_id");
  const setProfile = statement(`update users set display_name = $display_name, language = $language,
    timezone = $timezone, instructions = $instructions, metadata = $metadata, updated_at = $now where n = $n`);
  const insertMemory = statement(`insert into memories
    (id, user_n, text, kind, slot, tokens, source_message_id, created_at, updated_at)
    values ($id, $user_n, $text, $kind, $slot, $tokens, $source_message_id, $now, $now)`);
  const supersede = statement(`update memories set superseded_by = $by, updated_at = $now
    where user_n = $user_n and (id = $id or slot = $slot) and id <> $by and superseded_by is null`);
  // What was superseded goes first; then what was of least use, which a month without use halves. What has just come
  // stays, or else nothing new would get in where everything else was of use once.
  const dropBeyond = statement(`delete from memories where n in (select n from memories where user_n = $user_n
    order by superseded_by is not null, n < $first_new,
      (uses + 1.0) / (1 + max(0, $now - coalesce(used_at, created_at)) / 2592000.0) desc, n desc
    limit -1 offset $max)`);
  const use = statement(`update memories set uses = uses + 1, used_at = $now
    where user_n = $user_n and id in (select value from json_each($ids))`);
  const remembered = statement(`update turns set to_remember = 0 where id = $turn_id and to_remember = 1
    and exists (select 1 from messages m join conversations c on c.n = m.conversation_n
      where m.n = turns.n and c.user_n = $user_n) returning n`);
  const patchMemory = statement(
    "update memories set text = $text, kind = $kind, tokens = $tokens, updated_at = $now where id = $id",
  );
  const dropMemory = statement("delete from memories where id = $id");
  const setSummary = statement(`update conversations set summary = $text, summary_tokens = $tokens,
    summary_through_seq = $through_seq where id = $id and workspace_id = $workspace_id and user_id = $user_id
    and summary_through_seq = $from returning n`);

  function ensureUser(workspace_id: string, user_id: string, now: number): number {
    const known = findUser.get({ workspace_id, user_id });
    if (known !== null) return known.n as number;
    return Number(insertUser.run({ workspace_id, user_id, now }).lastInsertRowid);
  }

  const operations = {
    updateProfile(user: UserScope, patch: Partial<Profile>, nowMs: number): ProfileRecord {
      const now = Math.floor(nowMs / 1000);
      const n = ensureUser(user.workspace_id, user.user_id, now);
      const { display_name, language, timezone, instructions, metadata } = {
        ...reads.profile(user)!,
        ...patch,
      };
      setProfile.run({
        n,
        display_name,
        language,
        timezone,
        instructions,
        metadata: JSON.stringify(metadata),
        now,
      });
      return reads.profile(user)!;
    },

    saveMemories(
      user: UserScope,
      memories: NewMemory[],
      turnId: string | null,
      memoriesMax: number,
      nowMs: number,
    ): MemoryRecord[] {
      if (turnId !== null) {
        // Who was cut off since isn't the user of this turn any more, though of the same name.
        const known = findUser.get({ ...user });
        if (known === null || remembered.get({ turn_id: turnId, user_n: known.n! }) === null) return [];
      }
      if (memories.length === 0) return [];
      const now = Math.floor(nowMs / 1000);
      const user_n = ensureUser(user.workspace_id, user.user_id, now);
      let first_new: number | null = null;
      for (const { id, text, kind, slot, tokens, source_message_id, supersedes } of memories) {
        const { lastInsertRowid } = insertMemory.run({
          id,
          user_n,
          text,
          kind,
          slot,
          tokens,
          source_message_id,
          now,
        });
        first_new ??= Number(lastInsertRowid);
        for (const old of supersedes) supersede.run({ user_n, id: old, slot: null, by: id, now });
        // Who draws memories from a turn has decided that by what they say.
        if (turnId === null) supersede.run({ user_n, id: null, slot, by: id, now });
      }
      dropBeyond.run({ user_n, max: memoriesMax, first_new, now });
      return memories.flatMap(({ id }) => reads.memory(user, id) ?? []);
    },

    updateMemory(user: UserScope, id: string, patch: MemoryPatch, nowMs: number): MemoryRecord | null {
      const found = reads.memory(user, id);
      if (found === null) return null;
      const { text, kind, tokens } = { ...found, ...patch };
      patchMemory.run({ id, text, kind, tokens, now: Math.floor(nowMs / 1000) });
      return reads.memory(user, id);
    },

    deleteMemory(user: UserScope, id: string): boolean {
      if (reads.memory(user, id) === null) return false;
      dropMemory.run({ id });
      return true;
    },

    replaceSummary(user: UserScope, conversationId: string, from: number, summary: Summary): boolean {
      return setSummary.get({ ...user, id: conversationId, from, ...summary }) !== null;
    },
  };

  /** Counts that memories were of use to a turn. */
  function useMemories(user_n: number, ids: readonly string[], now: number): void {
    if (ids.length > 0) use.run({ user_n, ids: JSON.stringify(ids), now });
  }

  return { operations, ensureUser, useMemories };
}
