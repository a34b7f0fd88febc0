/**
 * What goes into a prompt, within its budgets: who the user is, memories, recall, the summary, passages of documents,
 * the newest messages. The cost follows the budgets, not the length of the conversation or the number of documents.
 */
import type { Limits } from "../config.ts";
import type { Log } from "../log.ts";
import { digestOf } from "../memory/digest.ts";
import { type Urgency, unfoldedMax } from "../memory/folding.ts";
import { profileFacts, rankMemories } from "../memory/relevance.ts";
import type { Grounding, PromptMessage } from "../models/model.ts";
import { countTokens } from "../models/tokens.ts";
import type { FoundPassage } from "../storage/document-store.ts";
import type { ConversationContext, PromptSources, RecalledMessage } from "../storage/memory-store.ts";
import type { Citation, Receipt, ReceiptEntry, Store } from "../storage/store.ts";
import type { NearMemory } from "../storage/vector-store.ts";
import type { Questions } from "../vectors/questions.ts";
import {
  profileLines,
  renderPrompt,
  type SystemPrompt,
  type TextSection,
  tokensOfHeading,
  tokensPerLine,
  tokensPerMessage,
} from "./prompt.ts";
import { relevantMessages, relevantPassages } from "./relevance.ts";

/** Found beyond the budget's room, for the receipt to tell. */
export const recalledMax = 24;
export const passagesMax = 16;
/** Part of a window that may be filled before the conversation's beginning is folded into its summary. */
const foldShare = 0.75;
/** So many messages out of the window and in no summary are folded without waiting for a model. */
const betweenMax = 32;

export interface ContextServices {
  readonly store: Store;
  readonly log: Log;
  readonly systemPrompt: SystemPrompt;
  readonly limits: Limits;
  /** Null where search is by words alone. */
  readonly questions: Questions | null;
}

export interface TurnInput {
  workspace_id: string;
  user_id: string;
  conversation_id: string;
  /** The user message's place in the conversation. */
  seq: number;
  message: string;
  message_tokens: number;
  /** False: nothing is read of memories and earlier conversations. */
  use_memory: boolean;
  /** Collections of documents to answer from; null means all. */
  collections: string[] | null;
}

/** A prompt, and what of it is told to others. */
export interface TurnContext {
  messages: PromptMessage[];
  grounding: Grounding;
  /** Parley's own count, for turns whose provider reports none. */
  tokens: number;
  sources: string[];
  citations: Citation[];
  memories_used: string[];
  receipt: Receipt;
  /** Whether the conversation's beginning should be folded into its summary. */
  fold: Urgency | null;
}

/** Builds the context of a turn. What can't be searched right now is left out, and logged. */
export async function buildContext(turn: TurnInput, services: ContextServices): Promise<TurnContext> {
  const { systemPrompt, limits } = services;
  const now = Math.floor(Date.now() / 1000);
  const sources = await sourcesOf(turn, services);
  const { conversation, profile } = sources;
  const found = await findFor(turn, sources, now, services);

  const memories = fill(
    rankMemories(turn.message, sources.memories, found.near),
    limits.memoryTokens,
    ({ memory: { id, tokens }, score }) => ({ section: "memories", id, tokens, score }),
  );
  const recalled = fill(
    relevantMessages(found.recalled),
    limits.recallTokens,
    ({ message: { id, tokens }, score }) => ({ section: "recall", id, tokens, score }),
  );
  const passages = fill(
    relevantPassages(turn.message, found.passages, found.byWords),
    limits.passageTokens,
    ({ document_id: id, tokens, score }) => ({ section: "passages", id, tokens, score }),
  );

  const window = conversation.window.filter(({ content }) => content !== "");
  const summary = summaryOf(conversation, limits.summaryTokens);
  const profileText = profile === null ? "" : profileLines(profile).join("\n");
  const withHeading = (section: TextSection, tokens: number): number =>
    tokens === 0 ? 0 : tokens + tokensOfHeading(section);
  const tokens: Receipt["tokens"] = {
    system: systemPrompt.tokens,
    profile: withHeading("profile", profileText === "" ? 0 : countTokens(profileText)),
    memories: withHeading("memories", memories.tokens),
    recall: withHeading("recall", recalled.tokens),
    summary: withHeading("summary", summary.tokens),
    passages: withHeading("passages", passages.tokens),
    window: window.reduce((sum, { tokens }) => sum + tokens + tokensPerMessage, 0),
    message: turn.message_tokens + tokensPerMessage,
  };

  const grounding: Grounding = {
    profileFacts: profile === null ? [] : profileFacts(turn.message, profile),
    memories: memories.chosen.map(({ memory: { text, created_at }, coverage }) => ({
      text,
      created_at,
      coverage,
    })),
    recalled: recalled.chosen.map(({ message: { role, content, created_at }, coverage }) => ({
      role,
      content,
      created_at,
      coverage,
    })),
    passages: passages.chosen.map(({ name, heading, quote, coverage }, index) => ({
      number: index + 1,
      name,
      heading,
      quote,
      coverage,
    })),
  };
  return {
    messages: renderPrompt({
      ...grounding,
      system: systemPrompt.text,
      profile: profile,
      summary: summary.text,
      window: window.map(({ role, content }) => ({ role, content })),
      message: turn.message,
      now,
    }),
    grounding,
    tokens: Object.values(tokens).reduce((sum, part) => sum + part, 0),
    sources: [...new Set(passages.chosen.map(({ name }) => name))],
    citations: passages.chosen.map(
      ({ document_id, name, quote, start, end, score }): Citation => ({
        document_id,
        name,
        quote,
        start,
        end,
        score: rounded(score),
      }),
    ),
    memories_used: memories.chosen.map(({ memory }) => memory.id),
    receipt: {
      tokens,
      chosen: [
        ...memories.entries,
        ...recalled.entries,
        ...passages.entries,
        ...window.map(({ id, tokens }): ReceiptEntry => ({ section: "window", id, tokens, score: null })),
      ],
      dropped: [...memories.dropped, ...recalled.dropped, ...passages.dropped],
    },
    fold: urgencyOf(conversation, tokens.window, limits),
  };
}

function urgencyOf(
  { window, between }: ConversationContext,
  windowTokens: number,
  limits: Limits,
): Urgency | null {
  if (between.length > betweenMax) return "now";
  const isFull = windowTokens > limits.windowTokens * foldShare;
  const isLong = window.length + between.length > unfoldedMax(limits);
  return between.length > 0 || isFull || isLong ? "soon" : null;
}

const sourcesOf = (
  { workspace_id, user_id, conversation_id, seq, message_tokens, use_memory }: TurnInput,
  { store, limits }: ContextServices,
): Promise<PromptSources> =>
  store.promptSources({
    workspace_id,
    user_id,
    conversation_id,
    before_seq: seq,
    tokens_max: limits.windowTokens - message_tokens,
    use_memory,
  });

interface Found {
  /** Memories by the question's vector; null where it has none. */
  near: NearMemory[] | null;
  recalled: RecalledMessage[];
  passages: FoundPassage[];
  /** Whether the question had no vector. */
  byWords: boolean;
}

/**
 * Searches everything at once. Only what can hold something is searched, since most turns of a service find nothing; only
 * then does the question get a vector, one for all searches.
 */
async function findFor(
  turn: TurnInput,
  { conversation: { window, between }, memories, has_older, has_passages }: PromptSources,
  now: number,
  { store, log, questions }: ContextServices,
): Promise<Found> {
  const { workspace_id, user_id, conversation_id, message, collections } = turn;
  const user = { workspace_id, user_id };
  const searchesPassages = has_passages && collections?.length !== 0;
  const orElse = async <T>(what: string, otherwise: T, search: () => Promise<T>): Promise<T> => {
    try {
      return await search();
    } catch (error) {
      log.warn({ conversation_id, err: error }, `${what} left out of the prompt`);
      return otherwise;
    }
  };
  const searches = memories.length > 0 || has_older || searchesPassages;
  const vector = searches && questions !== null ? await questions.vectorOf(message) : null;
  const [near, recalled, passages] = await Promise.all([
    orElse("nearness of memories", null, async () =>
      vector === null || memories.length === 0 ? null : await store.nearMemories(user, vector),
    ),
    orElse("recall", [], async () =>
      has_older
        ? await store.recall({
            ...user,
            q: message,
            vector,
            conversation_id,
            shown_from_seq: (between[0] ?? window[0])?.seq ?? turn.seq,
            limit: recalledMax,
            now,
          })
        : [],
    ),
    orElse("passages", [], async () =>
      searchesPassages
        ? await store.searchPassages({
            ...user,
            q: message,
            vector,
            collections,
            filter: null,
            limit: passagesMax,
          })
        : [],
    ),
  ]);
  return { near, recalled, passages, byWords: vector === null };
}

/** The best that fit a budget; a smaller one may still fit where a larger one didn't. */
function fill<T>(candidates: readonly T[], tokensMax: number, entryOf: (candidate: T) => ReceiptEntry) {
  const filled = {
    chosen: [] as T[],
    entries: [] as ReceiptEntry[],
    dropped: [] as ReceiptEntry[],
    tokens: 0,
  };
  for (const candidate of candidates) {
    const { score, ...entry } = entryOf(candidate);
    const rated = { ...entry, score: score === null ? null : rounded(score) };
    const tokens = entry.tokens + tokensPerLine;
    if (filled.tokens + tokens > tokensMax) {
      filled.dropped.push(rated);
      continue;
    }
    filled.tokens += tokens;
    filled.chosen.push(candidate);
    filled.entries.push(rated);
  }
  return filled;
}

/** The summary, and a digest of what it doesn't cover yet though it is out of the window. */
function summaryOf(
  { summary, between }: ConversationContext,
  tokensMax: number,
): { text: string; tokens: number } {
  if (between.length === 0) return summary;
  const text = digestOf(summary.text, between, tokensMax);
  return { text, tokens: countTokens(text) };
}

const rounded = (score: number): number => Math.round(score * 1000) / 1000;
