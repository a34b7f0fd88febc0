/**
 * Whether a system knows when it has found nothing. Its thresholds were chosen by one half of the questions, so that the
 * other half tells how good they are.
 */
import type { Corpus, DialogueQuestion, Question } from "./corpus.ts";
import { askDialogues, askDocuments, type Outcome } from "./evaluate.ts";
import type { System } from "./retriever.ts";

/** How much a question seems to be about the corpus that doesn't answer it; see README.md. */
export const unanswerableKinds = ["off-topic", "shared-word", "other-entity", "absent-attribute"] as const;

export type Half = "tuned" | "held out";

export interface Decisions {
  /** Of the unanswerable questions of each kind, the share for which something was returned. */
  returned: Record<(typeof unanswerableKinds)[number], number>;
  /** Of the answerable questions whose answer the search found, the share that lost it by the decision. */
  lost: number;
  /** What was returned for an answerable question, on average; a list is of ten at most. */
  results: number;
}

/** What a system returned, and what it would have returned without deciding what is relevant. */
export interface Decided {
  deciding: readonly Outcome[];
  all: readonly Outcome[];
}

/** @param undeciding the same search, which returns whatever it finds */
export async function decide(
  deciding: System,
  undeciding: System,
  corpus: Corpus,
): Promise<{ documents: Decided; dialogues: Decided }> {
  const asked: Corpus = {
    ...corpus,
    documentQuestions: [
      ...corpus.documentQuestions,
      ...corpus.unanswerable.filter(({ user }) => user === undefined),
    ],
    dialogueQuestions: [
      ...corpus.dialogueQuestions,
      ...corpus.unanswerable.filter((question): question is Question<never> & DialogueQuestion =>
        Object.hasOwn(question, "user"),
      ),
    ],
  };
  return {
    documents: { deciding: await askDocuments(deciding, asked), all: await askDocuments(undeciding, asked) },
    dialogues: { deciding: await askDialogues(deciding, asked), all: await askDialogues(undeciding, asked) },
  };
}

/** Every other question of each kind belongs to the same half. */
export function decisionsOf({ deciding, all }: Decided, half: Half): Decisions {
  const inHalf = <Item>(items: readonly Item[]): Item[] =>
    items.filter((_, index) => index % 2 === (half === "tuned" ? 0 : 1));
  const answered = (outcome: Outcome): boolean => outcome.relevant.includes(true);
  const answerable = inHalf(deciding.filter(({ total }) => total > 0));
  const found = new Set(all.filter(answered).map(({ question }) => question.id));
  const findable = answerable.filter(({ question }) => found.has(question.id));
  const shareReturned = (kind: string): number => {
    const asked = inHalf(deciding.filter(({ question }) => question.kind === kind));
    return asked.filter(({ hits }) => hits.length > 0).length / asked.length;
  };
  return {
    returned: Object.fromEntries(
      unanswerableKinds.map((kind) => [kind, shareReturned(kind)]),
    ) as Decisions["returned"],
    lost: findable.filter((outcome) => !answered(outcome)).length / findable.length,
    results: answerable.reduce((sum, { hits }) => sum + hits.length, 0) / answerable.length,
  };
}
