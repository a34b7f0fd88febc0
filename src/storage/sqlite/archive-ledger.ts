/** The ledger and the budgets of an archive: see archive-writes.ts. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { twice, unknownUser, unknownWorkspace } from "../archive-rules.ts";
import type { ArchivedBudget, ArchivedCounter, ArchivedEntry } from "../archive-store.ts";
import type { ArchiveContext, Keepers } from "./archive-context.ts";

const columns = [
  "kind",
  "workspace_id",
  "user_n",
  "key_id",
  "conversation_id",
  "model",
  "status",
  "prompt_tokens",
  "cached_tokens",
  "completion_tokens",
  "reasoning_tokens",
  "total_tokens",
  "estimated",
  "cost_nano_usd",
  "first_token_ms",
  "duration_ms",
  "created_at",
] as const;

/** All of a row but its number and what it has reserved. */
type Entry = Record<(typeof columns)[number], string | number | null>;

export type LedgerKeepers = ReturnType<typeof createLedgerKeepers>;

export function createLedgerKeepers(db: Database, { userOf, hasWorkspace }: ArchiveContext) {
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);
  const before = statement("select coalesce(max(n), 0) as n from usage").get({})!.n as number;
  const insert =
    statement(`insert into usage (${columns.join()}) values (${columns.map((name) => `$${name}`).join()})
    returning n`);
  // Rows have no ids: each row of the file that equals some takes the first of them that none before it has taken.
  db.run(
    "create temp table taken_entries (entry text primary key, n integer not null) strict, without rowid",
  );
  const lastTaken = statement("select n from temp.taken_entries where entry = $entry");
  const equal = ["kind", ...columns.slice(2, -1)].map((name) => `${name} is $${name}`);
  const findEqual =
    statement(`select n from usage where workspace_id = $workspace_id and created_at = $created_at
    and n > $after and n <= ${before} and ${equal.join(" and ")} order by n limit 1`);
  const take = statement(`insert into temp.taken_entries values ($entry, $n)
    on conflict do update set n = excluded.n`);
  const insertBudget = statement(`insert into budgets
    values ($workspace_id, $scope, $subject, $limits, $created_at, $updated_at) on conflict do nothing`);
  const insertCounter = statement(
    "insert into budget_counters values ($scope, $period, $used_tokens, $used_nano_usd, 0, 0) on conflict do nothing",
  );
  db.run("create temp table imported_budgets (name text primary key) strict, without rowid");
  const noteBudget = statement("insert into temp.imported_budgets values ($name) on conflict do nothing");

  /** Whether it is the first one of its name in the file. */
  const isFirst = (...name: string[]): boolean => noteBudget.run({ name: JSON.stringify(name) }).changes > 0;

  /** Finds a row that was there before the import, or makes it. */
  function enter(row: Entry): { n: number; isNew: boolean } {
    const known = before === 0 ? null : takeEqual(row);
    if (known !== null) return { n: known, isNew: false };
    return { n: insert.get({ ...row })!.n as number, isNew: true };
  }

  function takeEqual(row: Entry): number | null {
    const entry = JSON.stringify(columns.map((name) => row[name]));
    const after = lastTaken.get({ entry })?.n ?? 0;
    const found = findEqual.get({ ...row, after });
    if (found === null) return null;
    take.run({ entry, n: found.n! });
    return found.n as number;
  }

  const keepers: Keepers<"ledger_entry" | "budget" | "budget_counter"> = {
    ledger_entry({ type: _, user_id, estimated, ...entry }: ArchivedEntry) {
      const { workspace_id } = entry;
      if (!hasWorkspace(workspace_id)) return unknownWorkspace;
      const user_n = user_id === null ? null : userOf(workspace_id, user_id);
      if (user_id !== null && user_n === null) return unknownUser;
      const { isNew } = enter({ ...entry, user_n, estimated: Number(estimated) });
      return isNew ? "kept" : "known";
    },

    budget({ type: _, limits, ...budget }: ArchivedBudget) {
      const { workspace_id, scope, subject } = budget;
      if (!hasWorkspace(workspace_id)) return unknownWorkspace;
      if (!isFirst(workspace_id, scope, subject)) return twice;
      const { changes } = insertBudget.run({ ...budget, limits: JSON.stringify(limits) });
      return changes > 0 ? "kept" : "known";
    },

    budget_counter({ type: _, ...counter }: ArchivedCounter) {
      if (!isFirst(counter.scope, counter.period)) return twice;
      return insertCounter.run(counter).changes > 0 ? "kept" : "known";
    },
  };

  return {
    keepers,
    /** The row of a turn: one that a deleted conversation of its id left, or a new one. */
    turnEntry: (row: Omit<Entry, "kind">): number => enter({ ...row, kind: "turn" } as Entry).n,
  };
}
