/** The model that needs no network: it quotes what it can find, and says plainly where it finds nothing. */
import { setTimeout as sleep } from "node:timers/promises";
import { rank, TermCounter } from "../search/bm25f.ts";
import { aboutTheSame } from "../search/subject.ts";
import { stemOf, stemsOf, termsOf } from "../search/terms.ts";
import { cutWords } from "../search/words.ts";
import type { Grounding, Model, ModelPiece, ModelRequest, PromptMessage } from "./model.ts";
import { asksForQuestions, knownThatIsAsked, onlyAsks, smallTalk } from "./small-talk.ts";
import { countTokens } from "./tokens.ts";

const pieceMs = 5;
const quoteCharsMax = 600;
const findingsMax = 3;
/** Less of the question than this, and what was found is about something else. */
const coverageMin = 0.5;
/** The same of what the user said, counting words: it is about them, so that "Which food am I allergic to?" needs no food. */
const sharedMin = 0.4;
/** What accounts for less than this part of what the best finding does isn't quoted beside it. */
const shareOfBest = 0.7;
/** Of all that is known of the user so much is told, where that is the question. */
const knownMax = 10;

const noModel =
  "No language model is configured, so I can only look things up, in what was said and in documents. " +
  "Set OPENAI_API_KEY, or OPENAI_BASE_URL for a local or compatible server, to get written answers.";

/** Streams word by word; never fails. */
export function embedded(): Model {
  async function reply(
    request: ModelRequest,
    signal: AbortSignal,
    onPiece: (piece: ModelPiece) => void,
  ): Promise<void> {
    let left = request.max_tokens ?? Number.POSITIVE_INFINITY;
    for (const word of answer(request).match(/\s*\S+/g) ?? []) {
      left -= request.max_tokens === null ? 0 : countTokens(word);
      if (left < 0) {
        onPiece({ finish_reason: "length" });
        return;
      }
      await sleep(pieceMs, undefined, { signal }).catch(() => signal.throwIfAborted());
      onPiece({ text: word });
    }
    onPiece({ finish_reason: "stop" });
  }
  return { name: "embedded", writes: false, answersAs: () => "embedded", reply };
}

/** Something that was found: what it is, its text, and how much of the question it holds. */
interface Finding {
  source: "memory" | "passage" | PromptMessage["role"];
  introduction: string;
  text: string;
  coverage: number;
}

function answer({ messages, grounding }: ModelRequest): string {
  const spoken = messages.filter(({ role }) => role !== "system");
  const question = spoken.at(-1)?.content ?? "";
  const talk = smallTalk(question);
  if (talk !== null) return talk.reply + (talk.asks ? noModel : "");
  const isWanted = knownThatIsAsked(question);
  const findings =
    isWanted === null
      ? findingsFor(question, [...grounded(grounding), ...inConversation(question, spoken.slice(0, -1))])
      : known(grounding)
          .filter(({ text }) => isWanted(text))
          .slice(0, knownMax);
  if (findings.length === 0) {
    return `I found nothing about this. ${noModel}`;
  }
  return findings
    .map(({ introduction, text }, index) =>
      introduction === findings[index - 1]?.introduction ? quote(text) : `${introduction}\n\n${quote(text)}`,
    )
    .join("\n\n");
}

/** The best of what was found, best first. */
function findingsFor(question: string, found: Finding[]): Finding[] {
  const isAbout = aboutTheSame(question);
  const forQuestions = asksForQuestions(question);
  const shared = sharedBy(
    question,
    found.map(({ text }) => text),
  );
  const relevant = found
    .filter(({ source, text, coverage }, index) => {
      const isOfUser = source === "memory" || source === "user";
      if (coverage < coverageMin && !(isOfUser && coverage > 0 && shared[index]! >= sharedMin)) return false;
      return source === "user" ? isAbout(text) && onlyAsks(text) === forQuestions : !forQuestions;
    })
    // Equals stay in order: who the user is, documents, what was said.
    .sort((a, b) => b.coverage - a.coverage)
    .filter(saysMore(question));
  const best = relevant[0]?.coverage ?? 0;
  return relevant.filter(({ coverage }) => coverage >= best * shareOfBest).slice(0, findingsMax);
}

/** What a user said isn't quoted beside a memory that tells as much: it may be what the memory superseded. */
function saysMore(question: string): (finding: Finding, index: number, all: Finding[]) => boolean {
  const asked = termsOf(cutWords(question));
  const heldOf = (text: string): Set<string> => {
    const words = cutWords(text).split(" ");
    const held = new Set([...words, ...words.map(stemOf)]);
    return new Set(asked.flatMap(({ word, stem }) => (held.has(word) || held.has(stem) ? stem : [])));
  };
  return ({ source, text }, _, all) =>
    source !== "user" ||
    !all.some((other) => other.source === "memory" && heldOf(text).isSubsetOf(heldOf(other.text)));
}

const known = ({ profileFacts, memories }: Grounding): Finding[] =>
  [...profileFacts, ...memories].map(({ text, coverage }) => ({
    source: "memory",
    introduction: knownIntroduction,
    text,
    coverage,
  }));

function grounded(grounding: Grounding): Finding[] {
  const { passages, recalled } = grounding;
  return [
    ...known(grounding),
    ...passages.map(({ number, name, heading, quote, coverage }) => ({
      source: "passage" as const,
      introduction: `${heading === "" ? name : `${name}, ${heading}`} says [${number}]:`,
      text: quote,
      coverage,
    })),
    ...recalled.map(({ role, content, created_at, coverage }) => ({
      source: role,
      introduction: `${spokenBy(role)} on ${new Date(created_at * 1000).toISOString().slice(0, 10)}:`,
      text: content,
      coverage,
    })),
  ];
}

const knownIntroduction = "I know about you:";

const spokenBy = (role: PromptMessage["role"]): string => (role === "user" ? "You wrote" : "I answered");

function earlierBy(role: PromptMessage["role"]): string {
  return `${spokenBy(role)} earlier in this conversation:`;
}

/** Its own answers, which would otherwise be quoted in turn. */
const ownWords = [noModel, knownIntroduction, "You wrote on ", earlierBy("user"), earlierBy("assistant")];
const isOwn = ({ role, content }: PromptMessage): boolean =>
  role === "assistant" &&
  (ownWords.some((words) => content.includes(words)) || / says \[\d+\]:\n\n> /.test(content));

/** What was said earlier in this conversation, the latest of equals first. */
function inConversation(question: string, earlier: PromptMessage[]): Finding[] {
  const messages = earlier.filter((message) => !isOwn(message)).reverse();
  return sharedBy(
    question,
    messages.map(({ content }) => content),
  ).map((coverage, index) => ({
    source: messages[index]!.role,
    introduction: earlierBy(messages[index]!.role),
    text: messages[index]!.content,
    coverage,
  }));
}

/**
 * How much of a question's words each text holds, 0 to 1. What one user said is too little to tell which words are rare,
 * so each counts alike.
 */
function sharedBy(question: string, texts: readonly string[]): number[] {
  const terms = termsOf(cutWords(question)).map((term, _, all) => ({ ...term, idf: 1 / all.length }));
  const counter = new TermCounter(terms);
  const units = texts.map((text, index) => {
    const words = cutWords(text);
    return { index, ...counter.unitOf({ words, stems: stemsOf(words) }) };
  });
  const shared = texts.map(() => 0);
  for (const { candidate, coverage } of rank(terms, units, { heading: 0, context: 0 }))
    shared[candidate.index] = coverage;
  return shared;
}

/** The beginning of a text as a quotation, cut at a word. */
function quote(text: string): string {
  const whole = text.trim();
  if (whole.length <= quoteCharsMax) return quoted(whole);
  const cut = whole.slice(0, quoteCharsMax);
  const space = cut.search(/\s\S*$/);
  return quoted(`${space > 0 ? cut.slice(0, space) : cut.replace(/[\ud800-\udbff]$/, "")} …`);
}

const quoted = (text: string): string => text.replace(/^/gm, "> ");
