/** Money as whole numbers: nano-dollars, of which sums are exact. */

const nanoDecimals = 9;
const nanoPerUsd = 10n ** BigInt(nanoDecimals);

/**
 * A decimal number as a whole number of its last decimal place: "1.5" with 3 decimals is 1500. Null for what is no plain
 * decimal number from 0, has more decimals or is beyond what a number holds exactly.
 */
export function parseDecimal(text: string, decimals: number): number | null {
  const [, whole, fraction = ""] = /^(\d{1,15})(?:\.(\d{1,15}))?$/.exec(text) ?? [];
  if (whole === undefined || fraction.length > decimals) return null;
  const value = Number(whole + fraction.padEnd(decimals, "0"));
  return Number.isSafeInteger(value) ? value : null;
}

/** Dollars such as "0.25" in nano-dollars; null for what is no amount. */
export const parseUsd = (text: string): number | null => parseDecimal(text, nanoDecimals);

/** Nano-dollars as dollars, exactly and without trailing zeros: "0.25". */
export function formatUsd(nanoUsd: number | string): string {
  const nano = BigInt(nanoUsd);
  const fraction = (nano % nanoPerUsd).toString().padStart(nanoDecimals, "0").replace(/0+$/, "");
  return `${nano / nanoPerUsd}${fraction === "" ? "" : `.${fraction}`}`;
}
