/** Moments in a query: unix seconds, or a day of UTC, which stands for its beginning. */

/** In unix seconds; null for what is neither. */
export function parseMoment(text: string): number | null {
  if (/^\d{1,12}$/.test(text)) return Number(text);
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return null;
  const ms = Date.parse(`${text}T00:00:00Z`);
  // Some engines take the 31st of February for a day of March.
  return Number.isNaN(ms) || !new Date(ms).toISOString().startsWith(text) ? null : ms / 1000;
}
