/** Asks a system every question and scores what it finds. */
import type { Corpus, Question, Range } from "./corpus.ts";
import { covers, isMessage, type Judged, judge } from "./judge.ts";
import { ndcgAt, recallAt, reciprocalRank } from "./metrics.ts";
import type { MessageHit, Retriever, System } from "./retriever.ts";

/** The longest list that is looked at. */
const kMax = 10;

export interface Outcome<Hit = unknown> extends Judged {
  question: Pick<Question<unknown>, "id" | "language" | "kind">;
  hits: readonly Hit[];
}

/** Means over questions that have an answer; `silent` is the share of those without one that brought no result. */
export interface Scores {
  recall5: number;
  recall10: number;
  ndcg10: number;
  mrr10: number;
  silent: number;
}

export async function askDocuments(system: System, corpus: Corpus): Promise<Outcome<Range>[]> {
  return ask(await system.documents(), corpus.documents, corpus.documentQuestions, covers);
}

/** Each user's messages are searched apart from all others'. */
export async function askDialogues(system: System, corpus: Corpus): Promise<Outcome<MessageHit>[]> {
  const outcomes: Outcome<MessageHit>[] = [];
  for (const [user, messages] of corpus.dialogues) {
    const questions = corpus.dialogueQuestions.filter((question) => question.user === user);
    outcomes.push(...(await ask(await system.messages(), messages, questions, isMessage)));
  }
  return outcomes;
}

async function ask<Source, Hit, Answer>(
  retriever: Retriever<Source, Hit>,
  sources: readonly Source[],
  questions: readonly Question<Answer>[],
  brings: (hit: Hit, answer: Answer) => boolean,
): Promise<Outcome<Hit>[]> {
  try {
    await retriever.index(sources);
    const outcomes: Outcome<Hit>[] = [];
    for (const question of questions) {
      const hits = await retriever.search(question.question, kMax);
      if (hits.length > kMax) throw new Error(`${hits.length} results where ${kMax} were asked for`);
      outcomes.push({ question, hits, ...judge(hits, question.answers, brings) });
    }
    return outcomes;
  } finally {
    await retriever.close();
  }
}

export function scoresOf(outcomes: readonly Outcome[]): Scores {
  const answerable = outcomes.filter(({ total }) => total > 0);
  const others = outcomes.filter(({ total }) => total === 0);
  const mean = (score: (outcome: Outcome) => number): number =>
    answerable.reduce((sum, outcome) => sum + score(outcome), 0) / answerable.length;
  return {
    recall5: mean(({ relevant, total }) => recallAt(5, relevant, total)),
    recall10: mean(({ relevant, total }) => recallAt(10, relevant, total)),
    ndcg10: mean(({ relevant, total }) => ndcgAt(10, relevant, total)),
    mrr10: mean(({ relevant }) => reciprocalRank(relevant)),
    silent: others.filter(({ relevant }) => relevant.length === 0).length / others.length,
  };
}

/** Mean length of the passages in UTF-16 code units: longer ones hold more answers, whatever is searched. */
export function meanLength(outcomes: readonly Outcome<Range>[]): number {
  const passages = outcomes.flatMap(({ hits }) => hits);
  return passages.reduce((sum, { start, end }) => sum + end - start, 0) / passages.length;
}
