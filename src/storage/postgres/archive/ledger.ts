/** The ledger and the budgets of an archive: see writes.ts. */
import { twice, unknownUser, unknownWorkspace } from "../../archive-rules.ts";
import type { ArchivedBudget, ArchivedCounter, ArchivedEntry } from "../../archive-store.ts";
import { type Queries, toJson } from "../database.ts";
import { type Keepers, type LastRows, userN } from "./context.ts";

/** All of a row but its number and what it has reserved, with what it is compared as. */
const columns = {
  kind: "text",
  workspace_id: "text",
  user_n: "int8",
  key_id: "text",
  conversation_id: "text",
  model: "text",
  status: "text",
  prompt_tokens: "int4",
  cached_tokens: "int4",
  completion_tokens: "int4",
  reasoning_tokens: "int4",
  total_tokens: "int4",
  estimated: "boolean",
  cost_nano_usd: "int8",
  first_token_ms: "int4",
  duration_ms: "int4",
  created_at: "int8",
} as const;

const names = Object.keys(columns) as (keyof typeof columns)[];

export type Entry = Record<keyof typeof columns, string | number | boolean | null>;

const parameters = names.map((name) => `$${name}::${columns[name]}`).join();
const equal = names.map((name) => `${name} is not distinct from $${name}::${columns[name]}`).join(" and ");

const hashOf = (value: unknown): string =>
  new Bun.CryptoHasher("sha256").update(JSON.stringify(value)).digest("base64url");

export type LedgerKeepers = ReturnType<typeof createLedgerKeepers>;

export function createLedgerKeepers({ rows, row }: Queries, before: LastRows) {
  /** Whether it is the first one of its name in the file. */
  async function isFirst(...name: string[]): Promise<boolean> {
    const noted = await rows(
      "insert into imported_budgets values ($name) on conflict do nothing returning 1",
      {
        name: hashOf(name),
      },
    );
    return noted.length > 0;
  }

  /** Finds a row that was there before the import, or makes it. */
  async function enter(entry: Entry): Promise<{ n: number; isNew: boolean }> {
    const known = before.usage === 0 ? null : await takeEqual(entry);
    if (known !== null) return { n: known, isNew: false };
    const made = await row<{ n: number }>(
      `insert into usage (${names.join()}) values (${parameters}) returning n::float8`,
      entry,
    );
    return { n: made!.n, isNew: true };
  }

  /** Rows have no ids: each row of the file that equals some takes the first of them that none before it has taken. */
  async function takeEqual(entry: Entry): Promise<number | null> {
    const taken = await row<{ n: number }>(
      `insert into taken_entries
       select $entry, n from usage
       where n > coalesce((select n from taken_entries where entry = $entry), 0) and n <= $last::int8 and ${equal}
       order by n limit 1
       on conflict (entry) do update set n = excluded.n returning n::float8`,
      { ...entry, entry: hashOf(names.map((name) => entry[name])), last: before.usage },
    );
    return taken?.n ?? null;
  }

  const keepers: Keepers<"ledger_entry" | "budget" | "budget_counter"> = {
    async ledger_entry({ type: _, user_id, ...entry }: ArchivedEntry) {
      const { workspace_id } = entry;
      const there = await row<{ known: boolean; user_n: number | null }>(
        `select exists (select from workspaces where id = $workspace_id) as known, ${userN}`,
        { workspace_id, user_id },
      );
      if (!there!.known) return unknownWorkspace;
      const { user_n } = there!;
      if (user_id !== null && user_n === null) return unknownUser;
      return (await enter({ ...entry, user_n })).isNew ? "kept" : "known";
    },

    async budget({ type: _, limits, ...budget }: ArchivedBudget) {
      const { workspace_id, scope, subject } = budget;
      const there = await row("select 1 from workspaces where id = $workspace_id", { workspace_id });
      if (there === null) return unknownWorkspace;
      if (!(await isFirst(workspace_id, scope, subject))) return twice;
      const made = await rows(
        `insert into budgets values ($workspace_id, $scope, $subject, $limits::text::json, $created_at::int8,
           $updated_at::int8) on conflict do nothing returning 1`,
        { ...budget, limits: toJson(limits) },
      );
      return made.length > 0 ? "kept" : "known";
    },

    async budget_counter({ type: _, ...counter }: ArchivedCounter) {
      if (!(await isFirst(counter.scope, counter.period))) return twice;
      const made = await rows(
        `insert into budget_counters values ($scope, $period, $used_tokens::int8, $used_nano_usd::int8, 0, 0)
         on conflict do nothing returning 1`,
        counter,
      );
      return made.length > 0 ? "kept" : "known";
    },
  };

  return {
    keepers,
    /** The row of a turn: one that a deleted conversation of its id left, or a new one. */
    turnEntry: async (entry: Omit<Entry, "kind">): Promise<number> =>
      (await enter({ ...entry, kind: "turn" } as Entry)).n,
  };
}
