/** The ledger. */
import type { UsageCursor, UsageGroup, UsageStore, UsageSums } from "../usage-store.ts";
import { type Bindings, type Database, toJson } from "./database.ts";

/** What rows are grouped and sorted by: never null, so that there is always a next one. */
const groupKeys: Record<UsageGroup, string> = {
  user: "coalesce(g.user_n, 0)::float8",
  key: "coalesce(g.key_id, '')",
  model: "g.model",
  conversation: "coalesce(g.conversation_id, '')",
  day: "(g.created_at / 86400)::float8",
};

type SumsRow = Omit<UsageSums, "group"> & { key: UsageCursor; user_id: string | null };

const ofTurns = (sql: string): string => `${sql} filter (where g.kind = 'turn')`;
const inBackground = (sql: string): string => `${sql} filter (where g.kind <> 'turn')`;
const sumOf = (column: string): string => `coalesce(${ofTurns(`sum(g.${column})`)}, 0)::float8 as ${column}`;

const sums = `${ofTurns("count(*)")}::float8 as turns, ${sumOf("prompt_tokens")}, ${sumOf("cached_tokens")},
  ${sumOf("completion_tokens")}, ${sumOf("reasoning_tokens")}, ${sumOf("total_tokens")},
  count(*) filter (where g.kind = 'turn' and g.estimated and g.status <> 'running')::float8 as estimated_turns,
  coalesce(${ofTurns("sum(g.cost_nano_usd)")}, 0)::text as cost_nano_usd,
  round(${ofTurns("avg(g.first_token_ms)")})::float8 as first_token_ms,
  round(${ofTurns("avg(g.duration_ms)")})::float8 as duration_ms,
  count(*) filter (where g.kind = 'turn' and g.cost_nano_usd is null and g.status <> 'running')::float8 as unpriced_turns,
  ${inBackground("count(*)")}::float8 as background_requests,
  coalesce(${inBackground("sum(g.total_tokens)")}, 0)::float8 as background_tokens,
  coalesce(${inBackground("sum(g.cost_nano_usd)")}, 0)::text as background_cost_nano_usd`;

const userN = `coalesce((select n from users where workspace_id = $workspace_id and user_id = $user_id), 0)`;

/** The group's name; an erased user has none. */
function nameOf(group: UsageGroup | null, { key, user_id }: SumsRow): string | null {
  if (group === null || key === "") return null;
  if (group === "day") return new Date(Number(key) * 86_400_000).toISOString().slice(0, 10);
  return group === "user" ? user_id : String(key);
}

export const createUsage = (database: Database): UsageStore => ({
  async usage(scope, query) {
    const { workspace_id } = scope;
    const { group_by, key_id, model, conversation_id, from, to, limit, after } = query;
    const user_id = scope.user_id ?? query.user_id;
    const key = group_by === null ? "0" : groupKeys[group_by];
    const where = ["g.workspace_id = $workspace_id"];
    const bindings: Record<string, Bindings[string]> = { workspace_id };
    const only = (condition: string, name: string, value: string | number | null): void => {
      if (value === null) return;
      where.push(condition);
      bindings[name] = value;
    };
    only(`g.user_n = ${userN}`, "user_id", user_id);
    only("g.key_id = $key_id", "key_id", key_id);
    only("g.model = $model", "model", model);
    if (conversation_id !== null) {
      // Whose conversation it is tells where its rows are; of one that was deleted nobody knows.
      const owner = await database.row<{ user_n: number }>(
        "select user_n::float8 from conversations where id = $conversation_id and workspace_id = $workspace_id",
        { conversation_id, workspace_id },
      );
      only("g.conversation_id = $conversation_id", "conversation_id", conversation_id);
      only("g.user_n = $owner_n::int8", "owner_n", owner?.user_n ?? null);
    }
    only("g.created_at >= $from::int8", "from", from);
    only("g.created_at < $to::int8", "to", to);
    only(`${key} > $after`, "after", after);
    if (group_by !== null) bindings.limit = limit + 1;
    const grouping = group_by === null ? "" : `group by ${key} order by ${key} limit $limit::int4`;
    const rows = await database.rows<SumsRow>(
      `select s.*, ${group_by === "user" ? "(select u.user_id from users u where u.n = s.key)" : "null"} as user_id
       from (select ${key} as key, ${sums} from usage g where ${where.join(" and ")} ${grouping}) s
       ${group_by === null ? "" : "order by key"}`,
      bindings,
    );
    const shown = rows.slice(0, limit);
    return {
      sums: shown.map((row): UsageSums => {
        const { key: _, user_id: __, ...told } = row;
        return { group: nameOf(group_by, row), ...told };
      }),
      next: rows.length > limit ? shown.at(-1)!.key : null,
    };
  },

  async recordBackgroundUsage(usage) {
    await database.change(
      `with entry as (
         insert into usage (kind, workspace_id, user_n, key_id, conversation_id, model, status, prompt_tokens,
           cached_tokens, completion_tokens, reasoning_tokens, total_tokens, estimated, cost_nano_usd, duration_ms,
           created_at)
         select b.kind, u.workspace_id, u.user_n, u.key_id, u.conversation_id, b.model, 'completed', b.prompt_tokens,
           b.cached_tokens, b.completion_tokens, b.reasoning_tokens, b.total_tokens, b.estimated, b.cost_nano_usd,
           b.duration_ms, unix_now()
         from json_populate_record(null::usage, $usage::text::json) b
           join turns t on t.id = $turn_id join usage u on u.n = t.usage_n
         returning *)
       select count_taken(array_agg((e.workspace_id,
         -- One who is being erased has only that name.
         (select coalesce(user_id, erased_user_id) from users where users.n = e.user_n), e.key_id, e.created_at,
         e.total_tokens, coalesce(e.cost_nano_usd, 0), 0, 0)::taken)) from entry e`,
      { usage: toJson(usage), turn_id: usage.turn_id },
    );
  },
});
