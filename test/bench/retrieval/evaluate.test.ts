import { describe, expect, test } from "bun:test";
import { type Corpus, loadCorpus, type Question } from "../../../bench/retrieval/corpus.ts";
import { askDialogues, askDocuments, meanLength, scoresOf } from "../../../bench/retrieval/evaluate.ts";
import type { Retriever, System } from "../../../bench/retrieval/retriever.ts";

/** Answers each question from a list, and notes what it was given. */
function scripted<Source, Hit>(answers: Map<string, Hit[]>, events: unknown[] = []): Retriever<Source, Hit> {
  return {
    index: (sources) => void events.push(sources),
    search: (question) => answers.get(question) ?? [],
    close: () => void events.push("closed"),
  };
}

const question = <Answer>(id: string, kind: string, answers: Answer[]): Question<Answer> => ({
  id,
  language: "en",
  kind,
  question: id,
  answers,
});

const passage = (start: number, end: number) => ({ document: "a.md", start, end });
const away = passage(500, 600);

const message = (user: string, number: number) => ({
  id: `${user}-1-${number}`,
  user,
  conversation: `${user}-1`,
  at: number,
  role: "user" as const,
  content: "Hello",
});

const small: Corpus = {
  documents: [{ name: "a.md", text: "a".repeat(1000) }],
  documentQuestions: [
    question("first", "fact", [passage(0, 10)]),
    question("sixth", "fact", [passage(0, 10), passage(20, 30)]),
    question("never", "fact", [passage(0, 10)]),
    question("quiet", "none", []),
    question("loud", "none", []),
  ],
  dialogues: new Map([
    ["ada", [message("ada", 1), message("ada", 2)]],
    ["ben", [message("ben", 1)]],
  ]),
  dialogueQuestions: [
    { ...question("a", "fact", ["ada-1-2"]), user: "ada" },
    { ...question("b", "fact", ["ben-1-1"]), user: "ben" },
  ],
  unanswerable: [],
};

const unused = (): never => {
  throw new Error("not asked for");
};

describe("a system's scores", () => {
  test("are means over the questions with an answer; silence counts where there is none", async () => {
    const events: unknown[] = [];
    const answers = new Map([
      ["first", [passage(0, 50)]],
      ["sixth", [passage(0, 15), away, away, away, away, passage(18, 40)]],
      ["never", [away]],
      ["loud", [away]],
    ]);
    const outcomes = await askDocuments(
      { name: "it", documents: () => scripted(answers, events), messages: unused },
      small,
    );
    const scores = scoresOf(outcomes);
    expect(scores.recall5).toBeCloseTo((1 + 1 / 2 + 0) / 3, 12);
    expect(scores.recall10).toBeCloseTo((1 + 1 + 0) / 3, 12);
    // The second has its answers at the ranks 1 and 6: (1 + 1 / log2(7)) / (1 + 1 / log2(3)) = 0.83156.
    expect(scores.ndcg10).toBeCloseTo((1 + 0.83156 + 0) / 3, 4);
    expect(scores.mrr10).toBeCloseTo((1 + 1 + 0) / 3, 12);
    expect(scores.silent).toBe(1 / 2);
    // 50; 15, four times 100, 22; 100; 100
    expect(meanLength(outcomes)).toBeCloseTo(687 / 9, 12);
    expect(events).toEqual([small.documents, "closed"]);
  });

  test("come from a retriever for each user, which has that user's messages alone", async () => {
    const given: unknown[] = [];
    const answers = new Map([
      ["a", [{ message: "ada-1-1" }, { message: "ada-1-2" }]],
      ["b", [{ message: "ben-1-1" }]],
    ]);
    const outcomes = await askDialogues(
      { name: "it", documents: unused, messages: () => scripted(answers, given) },
      small,
    );
    expect(given).toEqual([small.dialogues.get("ada"), "closed", small.dialogues.get("ben"), "closed"]);
    expect(outcomes.map(({ relevant }) => relevant)).toEqual([[false, true], [true]]);
  });

  test("aren't given to one that answers with more than it was asked for, which is closed all the same", async () => {
    const events: unknown[] = [];
    const many = new Map([["first", Array(11).fill(away)]]);
    const system: System = { name: "it", documents: () => scripted(many, events), messages: unused };
    await expect(askDocuments(system, small)).rejects.toThrow("11 results where 10 were asked for");
    expect(events).toEqual([small.documents, "closed"]);
  });

  test("are perfect on the whole corpus for one that knows the answers", async () => {
    const corpus = loadCorpus();
    const known = new Map(corpus.documentQuestions.map(({ question, answers }) => [question, answers]));
    const ofUsers = corpus.dialogueQuestions.map(
      ({ question, answers }) => [question, answers.map((id) => ({ message: id }))] as const,
    );
    const oracle: System = {
      name: "oracle",
      documents: () => scripted(known),
      messages: () => scripted(new Map(ofUsers)),
    };
    for (const outcomes of [await askDocuments(oracle, corpus), await askDialogues(oracle, corpus)])
      expect(scoresOf(outcomes)).toEqual({ recall5: 1, recall10: 1, ndcg10: 1, mrr10: 1, silent: 1 });
  });
});
