import { describe, expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { loadCorpus, locate } from "../../../bench/retrieval/corpus.ts";
import { unanswerableKinds } from "../../../bench/retrieval/unanswerable.ts";

const directory = new URL("../../../bench/retrieval", import.meta.url).pathname;
const corpus = loadCorpus();
const { documents, documentQuestions, dialogues, dialogueQuestions, unanswerable } = corpus;
const questions = [...documentQuestions, ...dialogueQuestions];

const repeated = (values: string[]): string[] =>
  values.filter((value, index) => values.indexOf(value) !== index);

const segmenter = new Intl.Segmenter("en", { granularity: "word" });
const countWords = (text: string): number =>
  [...segmenter.segment(text)].filter(({ isWordLike }) => isWordLike).length;

describe("the corpus", () => {
  test("is as large as it says", () => {
    expect(documents.length).toBeGreaterThanOrEqual(60);
    expect(documentQuestions.length).toBeGreaterThanOrEqual(400);
    expect(documentQuestions.filter(({ answers }) => answers.length === 0).length).toBeGreaterThanOrEqual(30);
    expect(dialogues.size).toBeGreaterThanOrEqual(25);
    expect(dialogueQuestions.length).toBeGreaterThanOrEqual(250);
    expect(dialogueQuestions.filter(({ answers }) => answers.length === 0).length).toBeGreaterThanOrEqual(15);
    const bytes = readdirSync(directory, { recursive: true, encoding: "utf8" })
      .map((path) => statSync(join(directory, path)))
      .reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0);
    expect(bytes).toBeLessThan(1_200_000);
  });

  test("asks nothing twice", () => {
    expect(repeated(questions.map(({ id }) => id))).toEqual([]);
    expect(repeated(documentQuestions.map(({ question }) => question))).toEqual([]);
    expect(repeated(dialogueQuestions.map(({ user, question }) => `${user}: ${question}`))).toEqual([]);
  });

  test("has questions in six languages, and of each kind that README.md names", async () => {
    const readme = await Bun.file(join(directory, "README.md")).text();
    const kinds = [...readme.matchAll(/^\| `(\w+)` \|/gm)].map(([, kind]) => kind!);
    expect(new Set(questions.map(({ kind }) => kind))).toEqual(new Set(kinds));
    for (const language of ["en", "de", "fr", "es", "zh", "ja"])
      expect(questions.filter((question) => question.language === language).length).toBeGreaterThan(15);
  });

  test("calls those questions `none` that have no answer, and no others", () => {
    for (const { id, kind, answers } of questions)
      expect({ id, kind: kind === "none" }).toEqual({ id, kind: answers.length === 0 });
  });
});

describe("questions that nothing answers", () => {
  test("are many of each class, of documents and of dialogues", () => {
    for (const kind of unanswerableKinds) {
      const ofKind = unanswerable.filter((question) => question.kind === kind);
      expect(ofKind.filter(({ user }) => user === undefined).length, kind).toBeGreaterThanOrEqual(30);
      expect(ofKind.filter(({ user }) => user !== undefined).length, kind).toBeGreaterThanOrEqual(20);
    }
    const kinds = new Set<string>(unanswerableKinds);
    expect(unanswerable.filter(({ kind }) => !kinds.has(kind))).toEqual([]);
  });

  test("are asked once, of users that there are", () => {
    expect(repeated([...questions, ...unanswerable].map(({ id }) => id))).toEqual([]);
    const asked = [...documentQuestions, ...dialogueQuestions, ...unanswerable].map((each) => each.question);
    expect(repeated(asked).filter((each) => unanswerable.some(({ question }) => question === each))).toEqual(
      [],
    );
    for (const { id, user } of unanswerable) expect(user === undefined || dialogues.has(user), id).toBe(true);
  });
});

describe("documents", () => {
  test("have a title, headings, and 400 to 1,200 words", () => {
    for (const { name, text } of documents) {
      expect(text, name).toStartWith("# ");
      expect(text.match(/^##+ .+$|^\*\*.+\*\*/gm)?.length, name).toBeGreaterThanOrEqual(5);
      expect(countWords(text), name).toBeWithin(400, 1201);
    }
  });

  test("are all asked about", () => {
    const asked = new Set(documentQuestions.flatMap(({ answers }) => answers.map((it) => it.document)));
    expect(documents.map(({ name }) => name).filter((name) => !asked.has(name))).toEqual([]);
  });

  test("are quoted within one line, in words that are enough to find them", () => {
    for (const { id, answers } of documentQuestions) {
      for (const { document, start, end } of answers) {
        const quote = documents.find(({ name }) => name === document)!.text.slice(start, end);
        expect(quote.trim(), id).toBe(quote);
        expect(quote, id).not.toContain("\n");
        expect(quote.length, id).toBeGreaterThanOrEqual(10);
      }
    }
  });

  test("are quoted exactly once each time, or the corpus can't be read", () => {
    const said = [{ name: "a.md", text: "one two two" }];
    expect(locate({ document: "a.md", quote: "one two" }, said)).toEqual({
      document: "a.md",
      start: 0,
      end: 7,
    });
    expect(() => locate({ document: "a.md", quote: "three" }, said)).toThrow("doesn't say: three");
    expect(() => locate({ document: "a.md", quote: "two" }, said)).toThrow("more than once: two");
    expect(() => locate({ document: "b.md", quote: "one" }, said)).toThrow("there is no b.md");
  });
});

describe("dialogues", () => {
  test("are of 10 to 60 messages in several conversations, over months", () => {
    for (const [user, messages] of dialogues) {
      expect(messages.length, user).toBeWithin(10, 61);
      expect(new Set(messages.map(({ conversation }) => conversation)).size, user).toBeGreaterThanOrEqual(4);
      expect(messages.at(-1)!.at - messages[0]!.at, user).toBeGreaterThan(150 * 86_400);
    }
  });

  test("take turns in each conversation, one message after the other", () => {
    for (const [user, messages] of dialogues) {
      for (const [index, { id, conversation, at, role }] of messages.entries()) {
        const before = messages[index - 1];
        const first = before?.conversation !== conversation;
        const number = first ? 1 : Number(before.id.split("-").at(-1)) + 1;
        expect(id).toBe(`${conversation}-${number}`);
        expect(conversation).toStartWith(`${user}-`);
        expect({ id, role }).toEqual({ id, role: number % 2 === 1 ? "user" : "assistant" });
        expect(at, id).toBeGreaterThan(before?.at ?? 0);
      }
    }
  });

  test("are all asked about, by their own user alone", () => {
    for (const [user] of dialogues)
      expect(dialogueQuestions.filter((asked) => asked.user === user).length, user).toBeGreaterThanOrEqual(6);
    for (const { id, user, answers } of dialogueQuestions)
      expect(
        answers.every((answer) => answer.startsWith(`${user}-`)),
        id,
      ).toBe(true);
  });
});
