/** Which of a user's memories bear on what they say. There are few enough of them to look at each. */
import { enclosed, idf, rank } from "../search/bm25f.ts";
import { stemsOf, termsOf } from "../search/terms.ts";
import { cutWords } from "../search/words.ts";
import type { MemoryKind, MemoryRecord } from "../storage/memory-store.ts";

export interface ScoredMemory {
  memory: MemoryRecord;
  /** How well it fits the message; 0 where it shares no word with it. */
  score: number;
  /** Which part of the message's words it holds, 0 to 1. */
  coverage: number;
}

/** Of those that fit equally well: how the user wants things counts for whatever they ask. */
const kindOrder: Record<MemoryKind, number> = { instruction: 0, preference: 1, fact: 2, event: 3 };

/** All memories, best first. @param memories newest first */
export function rankMemories(message: string, memories: readonly MemoryRecord[]): ScoredMemory[] {
  if (memories.length === 0) return [];
  const units = memories.map((memory) => {
    const words = cutWords(memory.text);
    return { memory, words: enclosed(words), stems: enclosed(stemsOf(words)) };
  });
  const terms = termsOf(cutWords(message)).map((term) => {
    const holding = units.filter(
      ({ words, stems }) =>
        words.includes(` ${term.word} `) ||
        words.includes(` ${term.stem} `) ||
        stems.includes(` ${term.stem} `),
    ).length;
    return { ...term, idf: idf(holding, units.length) };
  });
  const ranked = new Map(
    rank(terms, units, { heading: 0, context: 0 }).map(({ candidate: { memory }, score, coverage }) => [
      memory,
      { memory, score, coverage },
    ]),
  );
  return memories
    .map((memory): ScoredMemory => ranked.get(memory) ?? { memory, score: 0, coverage: 0 })
    .sort((a, b) => b.score - a.score || kindOrder[a.memory.kind] - kindOrder[b.memory.kind]);
}
