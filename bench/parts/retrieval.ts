/** How well what answers a question is found, in documents and in a user's past messages. */
import { loadCorpus } from "../retrieval/corpus.ts";
import {
  askDialogues,
  askDocuments,
  meanLength,
  type Outcome,
  type Scores,
  scoresOf,
} from "../retrieval/evaluate.ts";
import { parleyOffline, parleyUndeciding, parleyWithTestVectors } from "../retrieval/parley.ts";
import { plainBm25 } from "../retrieval/plain-bm25.ts";
import type { System } from "../retrieval/retriever.ts";
import { decide, decisionsOf, unanswerableKinds } from "../retrieval/unanswerable.ts";
import type { Bench, Part } from "../support/bench.ts";
import type { Row } from "../support/table.ts";

const measures = {
  "recall@5": "recall5",
  "recall@10": "recall10",
  "nDCG@10": "ndcg10",
  "MRR@10": "mrr10",
  "no result where nothing answers": "silent",
} as const satisfies Record<string, keyof Scores>;

interface Result {
  system: System;
  outcomes: readonly Outcome[];
}

export const retrieval = comparing("retrieval", [plainBm25, parleyOffline]);
export const fusedRetrieval = comparing("fused-retrieval", [parleyOffline, parleyWithTestVectors]);

/** Part of the retrieval benchmark: whether what answers nothing is left out, and what answers isn't. */
export const retrievalDecisions: Part = {
  name: "retrieval-decisions",
  async run(): Promise<Row[]> {
    const decided = await decide(parleyOffline, parleyUndeciding, loadCorpus());
    return Object.entries(decided).flatMap(([set, outcomes]) => {
      const heldOut = decisionsOf(outcomes, "held out");
      const tuned = decisionsOf(outcomes, "tuned");
      const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
      const row = (what: string, figure: string, beside: string): Row => ({
        name: `${set}: ${what}`,
        figure,
        beside: `${beside} of the half it was tuned by`,
      });
      return [
        ...unanswerableKinds.map((kind) =>
          row(
            `something for ${kind} questions`,
            percent(heldOut.returned[kind]),
            percent(tuned.returned[kind]),
          ),
        ),
        row("answers lost by the decision", percent(heldOut.lost), percent(tuned.lost)),
        row("results for an answerable question", heldOut.results.toFixed(1), tuned.results.toFixed(1)),
      ];
    });
  },
};

/** @param systems the first is what the others are compared with */
function comparing(name: string, systems: readonly [System, ...System[]]): Part {
  const run = async (bench: Bench): Promise<Row[]> => {
    const corpus = loadCorpus();
    const documents: Result[] = [];
    const dialogues: Result[] = [];
    for (const system of systems) {
      const outcomes = await askDocuments(system, corpus);
      documents.push({ system, outcomes });
      dialogues.push({ system, outcomes: await askDialogues(system, corpus) });
      bench.note(`${system.name}: passages of ${meanLength(outcomes).toFixed(0)} characters on average`);
    }
    return Object.entries({ documents, dialogues }).flatMap(([set, results]) => {
      for (const { system, outcomes } of results)
        for (const property of ["kind", "language"] as const)
          bench.note(`${system.name}: recall@5 in ${set}: ${recallBy(property, outcomes)}`);
      return rowsOf(set, results);
    });
  };
  return { name, run };
}

function rowsOf(set: string, results: readonly Result[]): Row[] {
  const [base, ...others] = results.map(({ system, outcomes }) => ({
    name: system.name,
    scores: scoresOf(outcomes),
  }));
  return Object.entries(measures).flatMap(([title, measure]): Row[] => {
    const name = `${set}: ${title}`;
    const reference = base!.scores[measure];
    const beside = `${reference.toFixed(3)} ${base!.name}`;
    if (others.length === 0) return [{ name, figure: "", beside }];
    return others.map((other) => ({
      name: `${name}, ${other.name}`,
      figure: other.scores[measure].toFixed(3),
      beside,
      ...(reference > 0 && { ratio: other.scores[measure] / reference }),
    }));
  });
}

function recallBy(property: "kind" | "language", outcomes: readonly Outcome[]): string {
  const answerable = outcomes.filter(({ total }) => total > 0);
  return Object.entries(Object.groupBy(answerable, ({ question }) => question[property]))
    .map(([name, group]) => `${name} ${scoresOf(group!).recall5.toFixed(2)} (${group!.length})`)
    .join(", ");
}
