/** What the tests of the ledger ask and compare. */
import { Database } from "bun:sqlite";
import { join } from "node:path";
import type { UsageSumsView } from "../../src/usage/schema.ts";
import type { Service } from "./service.ts";

export interface UsageAnswer {
  object: "usage";
  group_by: string | null;
  usage: UsageSumsView[];
  has_more: boolean;
  next_after: string | null;
}

export async function usageOf(service: Service, query = "", headers = {}): Promise<UsageAnswer> {
  const answer = await service.get<UsageAnswer>(`/v1/usage${query}`, headers);
  if (answer.status !== 200) throw new Error(`no usage: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** The one sum of all that fits a query. */
export const sumOf = async (service: Service, query = "", headers = {}): Promise<UsageSumsView> =>
  (await usageOf(service, query, headers)).usage[0]!;

export interface Totals {
  turns: number;
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** The same sums in the ledger, over the turns and over the conversations, as they lie in the database. */
export function totalsIn(dataDir: string): { ledger: Totals; turns: Totals; conversations: number } {
  using db = new Database(join(dataDir, "parley.db"), { readonly: true });
  const sums =
    "count(*) as turns, sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens, sum(total_tokens) as total_tokens";
  const totals = (from: string): Totals => db.query<Totals, []>(`select ${sums} from ${from}`).get()!;
  return {
    ledger: totals("usage where kind = 'turn'"),
    turns: totals("turns"),
    conversations: db.query<{ n: number }, []>("select sum(tokens_used) as n from conversations").get()!.n,
  };
}

/** What the budgets' counters of all days hold together: for each turn three, its user's, key's and workspace's. */
export function countedIn(dataDir: string) {
  using db = new Database(join(dataDir, "parley.db"), { readonly: true });
  return db
    .query<{ used_tokens: number; reserved_tokens: number; reserved_nano_usd: number }, []>(
      `select sum(used_tokens) as used_tokens, sum(reserved_tokens) as reserved_tokens,
         sum(reserved_nano_usd) as reserved_nano_usd from budget_counters where length(period) = 10`,
    )
    .get()!;
}

/** Writes a price table into a directory; its path. */
export async function writePrices(directory: string, table: unknown): Promise<string> {
  const path = join(directory, "prices.json");
  await Bun.write(path, typeof table === "string" ? table : JSON.stringify(table));
  return path;
}

/** Waits where the day of UTC ends too soon for what happens in it to stay in one. */
export async function awayFromMidnight(): Promise<void> {
  const leftMs = 86_400_000 - (Date.now() % 86_400_000);
  if (leftMs < 25_000) await Bun.sleep(leftMs);
}
