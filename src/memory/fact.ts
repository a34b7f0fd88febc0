/** A fact about a user as it was drawn from what they said, before it is compared with what is known. */
import { mayBeSeveral } from "../search/relations.ts";
import type { MemoryKind } from "../storage/memory-store.ts";

export interface Fact {
  /** By itself, in the third person or quoted. */
  text: string;
  kind: MemoryKind;
  /** What it is the one value of: see `isSingleValued`. */
  slot: string | null;
  /** The value of the slot that doesn't hold any more, where that is all that was said: "I no longer live in Bern". */
  denies: string | null;
  /** Memories that it replaces, by id. */
  supersedes: string[];
}

/** Facts that are kept of one message. */
export const factsMax = 5;
export const factCharsMax = 300;

/** What a user has one of. A slot beyond these would make one of several things replace the others. */
const singleValued =
  /^(?:name|home|origin|birthplace|birthday|age|employer|profession|diet|marital status|nationality|religion|native language|pronouns|time zone|address|email|phone number|(?:favorite |taste:)[\p{L}\p{N} -]{1,48}|[\p{L} -]{1,40}:name)$/u;

/** A slot in its normal form; null where it may have several values at once. */
export function slotOf(name: string): string | null {
  const slot = name
    .toLowerCase()
    .replace(/[\s_]+/g, " ")
    .replace(/ ?: ?/g, ":")
    .replace(/^favourite/, "favorite")
    .trim();
  const isOfSeveral = slot.endsWith(":name") && mayBeSeveral(slot.slice(0, -":name".length));
  return singleValued.test(slot) && !isOfSeveral ? slot : null;
}
