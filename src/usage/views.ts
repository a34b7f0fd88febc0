/** Usage as clients see it: money in dollars. */
import type { UsageSums } from "../storage/usage-store.ts";
import { formatUsd } from "./money.ts";
import type { UsageSumsView } from "./schema.ts";

export function toUsageSums(sums: UsageSums): UsageSumsView {
  const { cost_nano_usd, background_cost_nano_usd, ...counts } = sums;
  return {
    ...counts,
    cost_usd: formatUsd(cost_nano_usd),
    background_cost_usd: formatUsd(background_cost_nano_usd),
  };
}
