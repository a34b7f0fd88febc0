/** How prompts tell days, and what others said. */

const formats = new Map<string, Intl.DateTimeFormat>();

/** A day as `2026-05-02`, where the user is. @param at unix seconds */
export function dateIn(timeZone: string, at: number): string {
  let format = formats.get(timeZone);
  if (format === undefined) {
    // Swedish dates are ISO 8601's.
    format = new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short" });
    formats.set(timeZone, format);
  }
  return format.format(at * 1000);
}

/** Text as somebody else's: each line is marked, so that nothing in it can end the quotation. */
export const quoted = (text: string): string => text.replace(/^/gm, "> ");
