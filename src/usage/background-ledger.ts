/** Enters in the ledger what models do in the background. */
import type { Log } from "../log.ts";
import type { EnterUsage } from "../memory/writing.ts";
import type { Store } from "../storage/store.ts";
import type { BackgroundUsage } from "../storage/usage-store.ts";
import type { Prices } from "./prices.ts";

export interface BackgroundLedgerServices {
  readonly store: Store;
  readonly prices: Prices;
  readonly log: Log;
}

/** Enters requests of a kind; what can't be stored is told in the log alone, because nothing waits for it. */
export function enterAs(
  kind: BackgroundUsage["kind"],
  { store, prices, log }: BackgroundLedgerServices,
): EnterUsage {
  return (turn_id, usage) => {
    const cost_nano_usd = prices.costOf(usage.model, usage);
    store.recordBackgroundUsage({ kind, turn_id, ...usage, cost_nano_usd }).catch((err: unknown) => {
      log.error({ turn_id, kind, tokens: usage.total_tokens, err }, "usage not entered in the ledger");
    });
  };
}
