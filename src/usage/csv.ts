/** Sums as CSV (RFC 4180), which spreadsheets open without running anything. */
import type { UsageSumsView } from "./schema.ts";

/** What a spreadsheet would take for a formula: https://owasp.org/www-community/attacks/CSV_Injection */
const formula = /^[=+\-@\t\r\n]/;

const columns = [
  "turns",
  "prompt_tokens",
  "cached_tokens",
  "completion_tokens",
  "reasoning_tokens",
  "total_tokens",
  "estimated_turns",
  "cost_usd",
  "unpriced_turns",
  "first_token_ms",
  "duration_ms",
  "background_requests",
  "background_tokens",
  "background_cost_usd",
] as const satisfies (keyof UsageSumsView)[];

/** @param name what the groups are, null where there is one sum of all */
export const csvHeader = (name: string | null): string =>
  line([...(name === null ? [] : [name]), ...columns]);

/** @param named whether the group has a column */
export const csvLine = (sums: UsageSumsView, named: boolean): string =>
  line([...(named ? [sums.group ?? ""] : []), ...columns.map((column) => String(sums[column] ?? ""))]);

const line = (cells: string[]): string => `${cells.map(cell).join(",")}\r\n`;

function cell(value: string): string {
  const harmless = formula.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
