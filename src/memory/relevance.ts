/** Which of a user's memories bear on what they say. There are few enough of them to look at each. */
import { idf, rank, TermCounter } from "../search/bm25f.ts";
import { fuseHits } from "../search/fusion.ts";
import { stemsOf, termsOf } from "../search/terms.ts";
import { cutWords } from "../search/words.ts";
import type { MemoryKind, MemoryRecord } from "../storage/memory-store.ts";
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
  const asked = termsOf(cutWords(message));
  const counter = new TermCounter(asked);
  const units = memories.map((memory) => {
    const words = cutWords(memory.text);
    return { memory, length: words.length, own: counter.count(words, stemsOf(words)) };
  });
  const terms = asked.map((term, index) => {
    const holding = units.filter(({ own }) => own[index]! > 0).length;
    return { ...term, idf: idf(holding, units.length) };
  });
  const byWords = rank(terms, units, { heading: 0, context: 0 }).map(
    ({ candidate: { memory }, score, coverage }) => ({ key: memory.id, score, coverage }),
  );
  const hits =
    near === null
      ? byWords
      : fuseHits(
          byWords,
          near.map(({ id, z }) => ({ key: id, z })),
        );
  const ranked = new Map(hits.map(({ key, ...hit }) => [key, hit]));
  return memories
    .map((memory): ScoredMemory => ({ memory, score: 0, coverage: 0, ...ranked.get(memory.id) }))
    .sort((a, b) => b.score - a.score || kindOrder[a.memory.kind] - kindOrder[b.memory.kind]);
}
