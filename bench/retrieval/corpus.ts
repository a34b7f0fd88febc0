/** Reads the corpus: documents and what is asked of them, users' dialogues and what they ask about those. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

export interface SourceDocument {
  /** The file's name. */
  name: string;
  text: string;
}

/** A piece of a document's text, in UTF-16 code units, `end` exclusive. */
export interface Range {
  document: string;
  start: number;
  end: number;
}

export interface Message {
  /** `<user>-<conversation>-<number>` */
  id: string;
  user: string;
  conversation: string;
  /** Unix seconds. */
  at: number;
  role: "user" | "assistant";
  content: string;
}

export interface Question<Answer> {
  id: string;
  language: string;
  /** What makes it hard, by its author's judgement; `none` has no answer in the corpus. See README.md. */
  kind: string;
  question: string;
  answers: Answer[];
}

/** Asked by one user of their own messages; an answer is a message's id. */
export interface DialogueQuestion extends Question<string> {
  user: string;
}

/** A question that nothing in the corpus answers; its `kind` says how much of it the corpus seems to be about. */
export interface UnanswerableQuestion extends Question<never> {
  /** Whose messages it is asked of; without, it is asked of the documents. */
  user?: string;
}

export interface Corpus {
  documents: SourceDocument[];
  documentQuestions: Question<Range>[];
  /** Each user's messages, oldest first. */
  dialogues: Map<string, Message[]>;
  dialogueQuestions: DialogueQuestion[];
  unanswerable: UnanswerableQuestion[];
}

interface Quote {
  document: string;
  quote: string;
}

/**
 * Where a quote is in a document.
 * @throws where it isn't there exactly once
 */
export function locate({ document, quote }: Quote, documents: readonly SourceDocument[]): Range {
  const text = documents.find(({ name }) => name === document)?.text;
  if (text === undefined) throw new Error(`there is no ${document}`);
  const start = text.indexOf(quote);
  if (start < 0) throw new Error(`${document} doesn't say: ${quote}`);
  if (text.indexOf(quote, start + 1) >= 0) throw new Error(`${document} says more than once: ${quote}`);
  return { document, start, end: start + quote.length };
}

/** @throws where a quote isn't in its document exactly once, or a message isn't there */
export function loadCorpus(directory = import.meta.dir): Corpus {
  const documents = filesIn(join(directory, "documents"), ".md").map((path) => ({
    name: basename(path),
    text: readFileSync(path, "utf8"),
  }));
  const documentQuestions = readLines<Question<Quote>>(join(directory, "questions/documents.jsonl")).map(
    (question) => ({ ...question, answers: question.answers.map((quote) => locate(quote, documents)) }),
  );

  const dialogues = new Map(
    filesIn(join(directory, "dialogues"), ".jsonl").map((path) => {
      const user = basename(path, ".jsonl");
      return [user, readLines<StoredMessage>(path).map((stored) => messageOf(user, stored))] as const;
    }),
  );
  const dialogueQuestions = readLines<DialogueQuestion>(join(directory, "questions/dialogues.jsonl"));
  for (const { user, answers } of dialogueQuestions) {
    const known = new Set(dialogues.get(user)?.map(({ id }) => id));
    const missing = answers.filter((id) => !known.has(id));
    if (missing.length > 0) throw new Error(`${user} has no message ${missing.join(", ")}`);
  }
  const unanswerable = readLines<Omit<UnanswerableQuestion, "answers">>(
    join(directory, "questions/unanswerable.jsonl"),
  ).map((question) => ({ ...question, answers: [] }));
  return { documents, documentQuestions, dialogues, dialogueQuestions, unanswerable };
}

interface StoredMessage extends Pick<Message, "id" | "role" | "content"> {
  /** ISO 8601. */
  at: string;
}

const messageOf = (user: string, { id, at, role, content }: StoredMessage): Message => ({
  id,
  user,
  conversation: id.slice(0, id.lastIndexOf("-")),
  at: Date.parse(at) / 1000,
  role,
  content,
});

const filesIn = (directory: string, extension: string): string[] =>
  readdirSync(directory)
    .filter((name) => name.endsWith(extension))
    .toSorted()
    .map((name) => join(directory, name));

const readLines = <Line>(path: string): Line[] =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
