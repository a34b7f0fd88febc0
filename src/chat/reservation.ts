/** The most that a turn may take, worked out before its prompt is built: what budgets reserve for it. */
import type { Limits } from "../config.ts";
import { hasLimits } from "../limits/settings.ts";
import { unfoldedMax } from "../memory/folding.ts";
import { countTokens } from "../models/tokens.ts";
import type { DefaultBudgets, Reservation } from "../storage/budget-store.ts";
import type { UserScope } from "../storage/memory-store.ts";
import type { Store } from "../storage/store.ts";
import type { Prices } from "../usage/prices.ts";
import { profileLines, type SystemPrompt, tokensOfHeading, tokensPerMessage } from "./prompt.ts";
import type { NewTurn } from "./running-turns.ts";

/** The line that tells the date. */
const dateTokens = 24;

export interface ReservationServices {
  readonly store: Store;
  readonly systemPrompt: SystemPrompt;
  readonly limits: Limits;
  readonly prices: Prices;
  readonly budgets: DefaultBudgets;
  /** The models that answer where the first can't. */
  readonly fallbacks: readonly string[];
}

/**
 * The reservation of a turn; null where no budget can limit it. The prompt is as large as its budgets allow, by Parley's
 * own count, which a provider's may differ from; the reply as long as it may be.
 * @param model the one that is to answer
 */
export async function reservationOf(
  user: UserScope,
  turn: NewTurn & { message_tokens: number },
  model: string,
  { store, systemPrompt, limits, prices, budgets, fallbacks }: ReservationServices,
): Promise<Reservation | null> {
  if (!hasLimits(budgets) && !(await store.hasBudgets(user.workspace_id))) return null;
  const profile = await store.profile(user);
  const lines = profile === null ? [] : profileLines(profile);
  const parts = [
    systemPrompt.tokens + dateTokens,
    turn.message_tokens + tokensPerMessage,
    ...(lines.length === 0 ? [] : [tokensOfHeading("profile") + countTokens(lines.join("\n"))]),
    ...(turn.use_memory
      ? [tokensOfHeading("memories") + limits.memoryTokens, tokensOfHeading("recall") + limits.recallTokens]
      : []),
    ...(turn.collections?.length === 0 ? [] : [tokensOfHeading("passages") + limits.passageTokens]),
    ...(turn.conversation_id === null
      ? []
      : [
          tokensOfHeading("summary") + limits.summaryTokens,
          limits.windowTokens + unfoldedMax(limits) * tokensPerMessage,
        ]),
  ];
  const prompt = parts.reduce((sum, part) => sum + part, 0);
  const reply = replyTokensMax(turn, limits);
  return {
    tokens: prompt + reply,
    nano_usd: prices.worstOf([model, ...fallbacks], prompt, reply),
    defaults: budgets,
  };
}

/** How long the reply of a turn may be that a budget limits: what is reserved is also what the model is told. */
export const replyTokensMax = ({ max_tokens }: Pick<NewTurn, "max_tokens">, limits: Limits): number =>
  max_tokens ?? limits.budgetReplyTokens;
