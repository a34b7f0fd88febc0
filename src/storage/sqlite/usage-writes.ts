/** Statements that write the ledger: see writes.ts for how they are run. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { TurnEnd } from "../store.ts";
import type { BackgroundUsage } from "../usage-store.ts";
import type { createBudgetWrites } from "./budget-writes.ts";

/** Rows that one call takes a user's name out of. */
const erasedRowsMax = 256;

/** What a turn's row is opened with. */
export interface NewEntry {
  workspace_id: string;
  user_n: number;
  key_id: string;
  conversation_id: string;
  model: string;
  reserved_tokens: number;
  reserved_nano_usd: number;
  now: number;
}

/** What counting a row needs to know of it. */
interface Row {
  workspace_id: string;
  user_id: string | null;
  key_id: string | null;
  created_at: number;
  reserved_tokens: number;
  reserved_nano_usd: number;
}

/** @param budgets count what rows take */
export function createUsageWrites(db: Database, budgets: ReturnType<typeof createBudgetWrites>) {
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);

  const open =
    statement(`insert into usage (kind, workspace_id, user_n, key_id, conversation_id, model, status, reserved_tokens,
      reserved_nano_usd, created_at)
    values ('turn', $workspace_id, $user_n, $key_id, $conversation_id, $model, 'running', $reserved_tokens,
      $reserved_nano_usd, $now)`);
  // One who is being erased has only that name.
  const row = `returning workspace_id, key_id, created_at, reserved_tokens, reserved_nano_usd,
    (select coalesce(user_id, erased_user_id) from users where users.n = usage.user_n) as user_id`;
  const write = (sql: string) => db.query<Row, SQLQueryBindings>(`${sql} ${row}`);
  const tokens = `prompt_tokens = $prompt_tokens, cached_tokens = $cached_tokens,
    completion_tokens = $completion_tokens, reasoning_tokens = $reasoning_tokens, total_tokens = $total_tokens,
    estimated = $estimated, cost_nano_usd = $cost_nano_usd, first_token_ms = $first_token_ms, duration_ms = $duration_ms`;
  const settle = write(`update usage set status = $status, model = $model, ${tokens} where n = $n`);
  const insertBackground =
    write(`insert into usage (kind, workspace_id, user_n, key_id, conversation_id, model,
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
      const row = settle.get({ n, status, model, ...spent, ...usage, estimated: Number(usage.estimated) })!;
      const used = { tokens: usage.total_tokens, nano_usd: spent.cost_nano_usd };
      const { reserved_tokens: tokens, reserved_nano_usd: nano_usd } = row;
      budgets.settle(row, row.created_at, used, { tokens, nano_usd });
    },

    /** Takes the user's name out of some of their rows; false where there is none left. */
    forgetUser: (user_n: number): boolean => forgetUser.run({ user_n }).changes > 0,

    operations: {
      recordBackgroundUsage(usage: BackgroundUsage, now: number): void {
        const row = insertBackground.get({ ...usage, estimated: Number(usage.estimated), now });
        if (row === null) return;
        const used = { tokens: usage.total_tokens, nano_usd: usage.cost_nano_usd };
        budgets.settle(row, row.created_at, used, { tokens: 0, nano_usd: 0 });
      },
    },
  };
}
