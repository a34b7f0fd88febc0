/** Which of a user's memories bear on what they say. There are few enough of them to look at each. */
import { idf, rank, TermCounter } from "../search/bm25f.ts";
import { fuseHits } from "../search/fusion.ts";
import { aboutTheSame } from "../search/subject.ts";
import { stemsOf, termsOf } from "../search/terms.ts";
import { cutWords } from "../search/words.ts";
import type { MemoryKind, MemoryRecord, Profile } from "../storage/memory-store.ts";
import type { NearMemory } from "../storage/vector-store.ts";

export interface ScoredMemory {
  memory: MemoryRecord;
  /** How well it fits the message; 0 where it neither shares a word with it nor means the like. */
  score: number;
  /** Which part of the message it holds, in words or in meaning, 0 to 1. */
  coverage: number;
}

/** Of those that fit equally well: how the user wants things counts for whatever they ask. */
const kindOrder: Record<MemoryKind, number> = { instruction: 0, preference: 1, fact: 2, event: 3 };

/**
 * All memories, best first.
 * @param memories newest first
 * @param near those that lie near the message, best first; null where the message has no vector
 */
export function rankMemories(
  message: string,
  memories: readonly MemoryRecord[],
  near: readonly NearMemory[] | null = null,
): ScoredMemory[] {
  if (memories.length === 0) return [];
  const byWords = rankTexts(message, memories).map(({ candidate: { item }, score, coverage }) => ({
    key: item.id,
    score,
    coverage,
  }));
  const hits =
    near === null
      ? byWords
      : fuseHits(
          byWords,
          near.map(({ id, z }) => ({ key: id, z })),
        );
  const ranked = new Map(hits.map(({ key, ...hit }) => [key, hit]));
  const isAbout = aboutTheSame(message);
  return memories
    .map((memory): ScoredMemory => {
      const { score, coverage } = ranked.get(memory.id) ?? { score: 0, coverage: 0 };
      return { memory, score, coverage: isAbout(memory.text) ? coverage : 0 };
    })
    .sort((a, b) => b.score - a.score || kindOrder[a.memory.kind] - kindOrder[b.memory.kind]);
}

/** What a profile says of its user, as memories say it, with which part of the message it accounts for. */
export function profileFacts(
  message: string,
  { display_name, language, timezone }: Profile,
): { text: string; coverage: number }[] {
  const facts = [
    ...(display_name === null ? [] : [`The user's name is ${display_name}.`]),
    ...(language === null ? [] : [`The user's language is ${language}.`]),
    ...(timezone === null ? [] : [`The user's time zone is ${timezone}.`]),
  ];
  if (facts.length === 0) return [];
  const isAbout = aboutTheSame(message);
  const items = facts.map((text) => ({ text }));
  const ranked = new Map(rankTexts(message, items).map((each) => [each.candidate.item, each.coverage]));
  return items.map((item) => ({ ...item, coverage: isAbout(item.text) ? (ranked.get(item) ?? 0) : 0 }));
}

/** Ranks texts by the words that they share with a message. */
function rankTexts<Item extends { text: string }>(message: string, items: readonly Item[]) {
  const asked = termsOf(cutWords(message));
  const counter = new TermCounter(asked);
  const units = items.map((item) => {
    const words = cutWords(item.text);
    return { item, ...counter.unitOf({ words, stems: stemsOf(words) }) };
  });
  const terms = asked.map((term, index) => {
    const holding = units.filter(({ own }) => own[index]! > 0).length;
    return { ...term, idf: idf(holding, units.length) };
  });
  return rank(terms, units, { heading: 0, context: 0 });
}
