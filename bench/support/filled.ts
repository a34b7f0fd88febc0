/** What stands in the conversations that fill.ts writes, for those who look for it. */
export const userId = "reader";

/** In every third conversation. */
export const commonWord = "weather";
export const commonPrefix = "weat";

/** In one conversation of so many. */
export const rareWord = "quokka";
export const rareEvery = 500;

/** In the oldest conversations alone, this share of all. */
export const oldWord = "yesteryear";
export const oldShare = 0.02;

/** Whose conversation has so many messages, of those that fill-context.ts writes. */
export const userOf = (messages: number | string): string => `${userId}-${messages}`;
