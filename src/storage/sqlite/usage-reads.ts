/** Sums over the ledger: run in the reader worker, because they take as long as there are rows. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { Scope } from "../store.ts";
import type { UsageCursor, UsageGroup, UsagePage, UsageQuery, UsageSums } from "../usage-store.ts";

/** What rows are grouped and sorted by: never null, so that there is always a next one. */
const groupKeys: Record<UsageGroup, string> = {
  user: "coalesce(g.user_n, 0)",
  key: "coalesce(g.key_id, '')",
  model: "g.model",
  conversation: "coalesce(g.conversation_id, '')",
  day: "g.created_at / 86400",
};

type SumsRow = Omit<UsageSums, "group"> & { key: UsageCursor };

const ofTurns = (sql: string): string => `${sql} filter (where g.kind = 'turn')`;
const inBackground = (sql: string): string => `${sql} filter (where g.kind <> 'turn')`;
const sumOf = (column: string): string => `coalesce(${ofTurns(`sum(g.${column})`)}, 0) as ${column}`;

const sums = `${ofTurns("count(*)")} as turns, ${sumOf("prompt_tokens")}, ${sumOf("cached_tokens")},
  ${sumOf("completion_tokens")}, ${sumOf("reasoning_tokens")}, ${sumOf("total_tokens")},
  count(*) filter (where g.kind = 'turn' and g.estimated = 1 and g.status <> 'running') as estimated_turns,
  cast(coalesce(${ofTurns("sum(g.cost_nano_usd)")}, 0) as text) as cost_nano_usd,
  cast(round(${ofTurns("avg(g.first_token_ms)")}) as integer) as first_token_ms,
  cast(round(${ofTurns("avg(g.duration_ms)")}) as integer) as duration_ms,
  count(*) filter (where g.kind = 'turn' and g.cost_nano_usd is null and g.status <> 'running') as unpriced_turns,
  ${inBackground("count(*)")} as background_requests,
  coalesce(${inBackground("sum(g.total_tokens)")}, 0) as background_tokens,
  cast(coalesce(${inBackground("sum(g.cost_nano_usd)")}, 0) as text) as background_cost_nano_usd`;

export function createUsageReads(db: Database) {
  const userN = db.query<{ n: number }, SQLQueryBindings>(
    "select n from users where workspace_id = $workspace_id and user_id = $user_id",
  );
  const ownerOf = db.query<{ user_n: number }, SQLQueryBindings>(
    "select user_n from conversations where id = $id and workspace_id = $workspace_id",
  );
  const userId = db.query<{ user_id: string | null }, SQLQueryBindings>(
    "select user_id from users where n = $n",
  );

  /** The group's name; an erased user has none. */
  function nameOf(group: UsageGroup | null, key: UsageCursor): string | null {
    if (group === null || key === "") return null;
    if (group === "day") return new Date(Number(key) * 86_400_000).toISOString().slice(0, 10);
    if (group === "user") return userId.get({ n: key })?.user_id ?? null;
    return String(key);
  }

  return {
    usage(scope: Scope, query: UsageQuery): UsagePage {
      const { workspace_id } = scope;
      const { group_by, key_id, model, conversation_id, from, to, limit, after } = query;
      const user_id = scope.user_id ?? query.user_id;
      const key = group_by === null ? "0" : groupKeys[group_by];
      const bindings: Record<string, string | number> = { workspace_id, limit: limit + 1 };
      const user_n = user_id === null ? null : (userN.get({ workspace_id, user_id })?.n ?? 0);
      // Whose conversation it is tells where its rows are; of one that was deleted nobody knows.
      const owner = conversation_id && ownerOf.get({ id: conversation_id, workspace_id });
      const isOneUsers = user_n !== null || (owner ?? null) !== null;
      // With a plus it is no reason to walk all of the workspace.
      const where = [`${isOneUsers ? "+" : ""}g.workspace_id = $workspace_id`];
      const only = (condition: string, name: string, value: string | number | null): void => {
        if (value === null) return;
        where.push(condition);
        bindings[name] = value;
      };
      only("g.user_n = $user_n", "user_n", user_n);
      only("g.user_n = $owner_n", "owner_n", owner ? owner.user_n : null);
      only("g.key_id = $key_id", "key_id", key_id);
      only("g.model = $model", "model", model);
      only("g.conversation_id = $conversation_id", "conversation_id", conversation_id);
      only("g.created_at >= $from", "from", from);
      only("g.created_at < $to", "to", to);
      only(`${key} > $after`, "after", after);
      const grouping = group_by === null ? "" : `group by ${key} order by ${key} limit $limit`;
      if (group_by === null) delete bindings.limit;
      const rows = db
        .query<SumsRow, SQLQueryBindings>(
          `select ${key} as key, ${sums} from usage g where ${where.join(" and ")} ${grouping}`,
        )
        .all(bindings);
      const shown = rows.slice(0, limit);
      return {
        sums: shown.map(({ key, ...row }): UsageSums => ({ group: nameOf(group_by, key), ...row })),
        next: rows.length > limit ? shown.at(-1)!.key : null,
      };
    },
  };
}
