/** Statements that write the ledger: see writes.ts for how they are run. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { TurnEnd } from "../store.ts";
import type { BackgroundUsage } from "../usage-store.ts";

/** Rows that one call takes a user's name out of. */
const erasedRowsMax = 256;

/** What a turn's row is opened with. */
export interface NewEntry {
  workspace_id: string;
  user_n: number;
  key_id: string;
  conversation_id: string;
  model: string;
  now: number;
}

export function createUsageWrites(db: Database) {
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);

  const open =
    statement(`insert into usage (kind, workspace_id, user_n, key_id, conversation_id, model, status, created_at)
    values ('turn', $workspace_id, $user_n, $key_id, $conversation_id, $model, 'running', $now)`);
  const tokens = `prompt_tokens = $prompt_tokens, cached_tokens = $cached_tokens,
    completion_tokens = $completion_tokens, reasoning_tokens = $reasoning_tokens, total_tokens = $total_tokens,
    estimated = $estimated, cost_nano_usd = $cost_nano_usd, first_token_ms = $first_token_ms, duration_ms = $duration_ms`;
  const settle = statement(`update usage set status = $status, model = $model, ${tokens} where n = $n`);
  const insertBackground =
    statement(`insert into usage (kind, workspace_id, user_n, key_id, conversation_id, model,
      status, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, total_tokens, estimated, cost_nano_usd,
      duration_ms, created_at)
    select $kind, u.workspace_id, u.user_n, u.key_id, u.conversation_id, $model, 'completed', $prompt_tokens, $cached_tokens,
      $completion_tokens, $reasoning_tokens, $total_tokens, $estimated, $cost_nano_usd, $duration_ms, $now
    from usage u where u.n = (select usage_n from turns where id = $turn_id)`);
  const forgetUser = statement(`update usage set user_n = null, conversation_id = null,
      key_id = case when key_id like 'token:%' then null else key_id end
    where n in (select n from usage where user_n = $user_n limit ${erasedRowsMax})`);

  return {
    /** Opens a turn's row. */
    openEntry: (entry: NewEntry): number => Number(open.run({ ...entry }).lastInsertRowid),

    /** Settles a turn's row, once it has ended. */
    settleEntry(n: number, { status, model, usage, spent }: TurnEnd): void {
      settle.run({ n, status, model, ...spent, ...usage, estimated: Number(usage.estimated) });
    },

    /** Takes the user's name out of some of their rows; false where there is none left. */
    forgetUser: (user_n: number): boolean => forgetUser.run({ user_n }).changes > 0,

    operations: {
      recordBackgroundUsage(usage: BackgroundUsage, now: number): void {
        insertBackground.run({ ...usage, estimated: Number(usage.estimated), now });
      },
    },
  };
}
