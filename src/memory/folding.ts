/**
 * Folds the beginning of conversations into their summaries, before it falls out of the window. What a summary covers
 * ends with a whole turn, and about half a window stays uncovered, so that prompts shrink in steps.
 *
 * A model that writes summaries may fail or be slow: then, and where there is none, the summary is a digest. So the
 * messages that neither summary nor window hold are few, and the prompt has room for a digest of them.
 */
import type { Claims } from "../claims.ts";
import type { Limits } from "../config.ts";
import type { Log } from "../log.ts";
import { ModelFailure } from "../models/model.ts";
import { countTokens } from "../models/tokens.ts";
import { Slots } from "../slots.ts";
import type { ConversationContext, Summary, UserScope } from "../storage/memory-store.ts";
import type { MessageRecord, Store } from "../storage/store.ts";
import { digestOf } from "./digest.ts";
import type { Summarising } from "./summary.ts";

/** Messages that are folded at once, at most: they bound the cost of a step. */
const stepMessagesMax = 64;
/** Summaries that a model writes at the same time, and conversations whose folding may wait for that. */
const writingMax = 2;
const foldsMax = 1_000;

/** How many messages a conversation may have outside of its summary before they are folded, however short they are. */
export const unfoldedMax = (limits: Pick<Limits, "windowTokens">): number =>
  Math.max(128, Math.floor(limits.windowTokens / 32));

/** `now`: so much has fallen out of the window already that no model is waited for. */
export type Urgency = "soon" | "now";

export interface FoldingServices {
  readonly store: Store;
  readonly claims: Claims;
  readonly log: Log;
  readonly limits: Limits;
  /** Null: summaries are digests. */
  readonly summarising: Summarising | null;
}

interface Fold {
  /** Aborted where no model is to be waited for. */
  readonly hurry: AbortController;
  readonly done: Promise<void>;
}

export class Folding {
  readonly #folds = new Map<string, Fold>();
  readonly #writing = new Slots(writingMax);
  readonly #closing = new AbortController();

  constructor(readonly services: FoldingServices) {}

  /**
   * Folds what is out of a conversation's reach; the one that is under way does where there is one, on any instance.
   * Never throws.
   */
  fold(user: UserScope, conversationId: string, urgency: Urgency): void {
    if (this.#closing.signal.aborted) return;
    const underWay = this.#folds.get(conversationId);
    if (underWay === undefined) {
      if (this.#folds.size >= foldsMax && urgency === "soon") return;
      const hurry = new AbortController();
      if (urgency === "now") hurry.abort();
      const done = this.#fold(user, conversationId, hurry.signal).finally(() =>
        this.#folds.delete(conversationId),
      );
      this.#folds.set(conversationId, { hurry, done });
    } else if (urgency === "now") {
      underWay.hurry.abort();
    }
  }

  /** Conversations whose beginning is being folded, or waits for that. */
  get waiting(): number {
    return this.#folds.size;
  }

  /** Whether nothing more is folded before it is urgent. */
  get isBehind(): boolean {
    return this.#folds.size >= foldsMax;
  }

  /** Ends what is under way; resolves when nothing is. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const { hurry } of this.#folds.values()) hurry.abort();
    await Promise.all(Array.from(this.#folds.values(), ({ done }) => done));
  }

  async #fold(user: UserScope, conversationId: string, hurry: AbortSignal): Promise<void> {
    const { claims, summarising, log } = this.services;
    const closing = this.#closing.signal;
    const steps = async (ending: AbortSignal): Promise<void> => {
      while (!ending.aborted && (await this.#step(user, conversationId, hurry, ending)));
    };
    try {
      // A digest costs nothing: where two are made, the one that is stored first counts.
      if (summarising === null || hurry.aborted) await steps(closing);
      else await claims.during(`summary ${conversationId}`, closing, steps);
    } catch (error) {
      log.warn({ conversation_id: conversationId, err: error }, "summary not written on");
    }
  }

  /** Folds some messages; false where nothing is left to fold, or somebody else was faster. */
  async #step(
    user: UserScope,
    conversationId: string,
    hurry: AbortSignal,
    ending: AbortSignal,
  ): Promise<boolean> {
    const { store, log, limits } = this.services;
    const context = await store.conversationContext(
      user,
      conversationId,
      Number.MAX_SAFE_INTEGER,
      limits.windowTokens / 2,
    );
    const { summary } = context;
    const keptFrom = firstKept(context, unfoldedMax(limits) / 2);
    if (keptFrom <= summary.through_seq + 1) return false;
    const oldest = await store.messagesAfter(user, conversationId, summary.through_seq, stepMessagesMax);
    const messages = wholeTurns(
      oldest.filter(({ seq }) => seq < keptFrom),
      limits.windowTokens,
    );
    if (messages.length === 0) return false;
    const { text, ...by } = await this.#summarise(conversationId, summary, messages, hurry);
    if (ending.aborted) return false;
    const through_seq = messages.at(-1)!.seq;
    const next: Summary = { text, tokens: countTokens(text), through_seq };
    const replaced = await store.replaceSummary(user, conversationId, summary.through_seq, next);
    if (replaced) {
      log.info(
        { event: "folded", conversation_id: conversationId, messages: messages.length, through_seq, ...by },
        "the conversation's beginning was folded into its summary",
      );
    }
    return replaced;
  }

  /** By the model, or extractively where that fails, takes too long or isn't waited for. */
  async #summarise(
    conversationId: string,
    { text: before }: Summary,
    messages: readonly MessageRecord[],
    hurry: AbortSignal,
  ): Promise<{ text: string; tokens_used: number }> {
    const { summarising, limits, log } = this.services;
    if (summarising !== null && !hurry.aborted) {
      try {
        return await this.#writing.use(hurry, () =>
          summarising(before, messages, limits.summaryTokens, hurry),
        );
      } catch (error) {
        if (!hurry.aborted) {
          const code = error instanceof ModelFailure ? error.code : undefined;
          log.warn(
            { conversation_id: conversationId, ...(code ? { code } : { err: error }) },
            "a digest stands in for a summary that was not written",
          );
        }
      }
    }
    return { text: digestOf(before, messages, limits.summaryTokens), tokens_used: 0 };
  }
}

/** The first message that stays out of the summary: never later than the newest reply, which may still be written. */
function firstKept({ window, between }: ConversationContext, messagesMax: number): number {
  const newest = (window.at(-1) ?? between.at(-1))?.seq ?? 0;
  return Math.max(window[0]?.seq ?? newest, newest - messagesMax + 1);
}

/** The beginning of some messages that ends with a reply: at least one turn, more while they have so many tokens. */
function wholeTurns(messages: readonly MessageRecord[], tokensMax: number): MessageRecord[] {
  let tokens = 0;
  let end = 0;
  for (const [index, { role, tokens: own }] of messages.entries()) {
    tokens += own;
    if (tokens > tokensMax && end > 0) break;
    if (role === "assistant") end = index + 1;
  }
  return messages.slice(0, end);
}
