/**
 * What was drawn against what is known: what only repeats isn't kept, and what doesn't hold any more is superseded.
 * A fact that was said earlier than what it contradicts is too late, as where its turn had to wait.
 */
import { newId } from "../ids.ts";
import { countTokens } from "../models/tokens.ts";
import { stemOf } from "../search/terms.ts";
import { cutWords } from "../search/words.ts";
import type { MemoryRecord, NewMemory } from "../storage/memory-store.ts";
import { type Fact, factsMax } from "./fact.ts";

/** When the facts were said, in unix seconds, and in which message. */
export interface Source {
  message_id: string;
  said_at: number;
}

/** @param held the user's memories that hold */
export function reconcile(
  drawn: readonly Fact[],
  held: readonly MemoryRecord[],
  source: Source,
): NewMemory[] {
  const known = held.map((memory) => ({ memory, words: essence(memory.text) }));
  const kept: { words: string; memory: NewMemory }[] = [];
  for (const fact of lastOfEachSlot(drawn).slice(0, factsMax)) {
    const words = essence(fact.text);
    if ([...known, ...kept].some((other) => repeats(words, other.words))) continue;
    const inSlot = known.filter(({ memory }) => fact.slot !== null && memory.slot === fact.slot);
    if (inSlot.some(({ memory }) => memory.created_at > source.said_at)) continue;
    const denied = fact.denies === null ? null : ` ${cutWords(fact.denies)} `;
    const contradicted = inSlot.filter(
      ({ memory }) => denied === null || ` ${cutWords(memory.text)} `.includes(denied),
    );
    const refined = known.filter((other) => repeats(other.words, words));
    const named = known.filter(({ memory }) => fact.supersedes.includes(memory.id));
    const supersedes = [...contradicted, ...refined, ...named]
      .map(({ memory }) => memory)
      .filter(({ created_at }) => created_at <= source.said_at);
    kept.push({
      words,
      memory: {
        id: newId("memory"),
        text: fact.text,
        kind: fact.kind,
        slot: fact.slot,
        tokens: countTokens(fact.text),
        source_message_id: source.message_id,
        supersedes: [...new Set(supersedes.map(({ id }) => id))],
      },
    });
  }
  return kept.map(({ memory }) => memory);
}

/** Within one message the user's last word on a thing counts. */
const lastOfEachSlot = (facts: readonly Fact[]): Fact[] =>
  facts.filter(
    ({ slot }, index) => slot === null || !facts.slice(index + 1).some((later) => later.slot === slot),
  );

/** Whether a text says nothing that the other doesn't: it is the other's beginning, or all of it. */
const repeats = (words: string, other: string): boolean => `${other} `.startsWith(`${words} `);

/** Words that make no difference: "works for" is "works at", but "moved from" isn't "moved to". */
const fillers = new Set(
  "the a an is are be being in at on for as of and also currently now very really their der die das ein eine".split(
    " ",
  ),
);

/** The stems of a text's words without those that make no difference. */
const essence = (text: string): string =>
  cutWords(text)
    .split(" ")
    .filter((word) => !fillers.has(word))
    .map(stemOf)
    .join(" ");
