/** Languages and time zones, as clients name them and as they are kept: in the one form that all of their spellings have. */

/** A language tag in its canonical form, `de-CH` for `DE-ch`; null where it is none of BCP 47. */
export function canonicalLanguage(tag: string): string | null {
  // The standard leaves room for longer codes, and none was ever registered: `english` is a mistake.
  if (!/^[a-z]{2,3}(-|$)/i.test(tag)) return null;
  try {
    return Intl.getCanonicalLocales(tag)[0] ?? null;
  } catch {
    return null;
  }
}

/** A time zone as the IANA database spells it, `Europe/Zurich` for `europe/zurich`; null where it has none of this name. */
export function canonicalTimeZone(name: string): string | null {
  // Offsets are taken by Intl too, but tell nothing of daylight saving time.
  if (/^[+-]/.test(name)) return null;
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone;
  } catch {
    return null;
  }
}
