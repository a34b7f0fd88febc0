/** What goes into a prompt: the system prompt, the newest messages within the token budget, the user's message. */
import type { PromptMessage } from "../models/model.ts";
import { countTokens } from "../models/tokens.ts";
import type { Store } from "../storage/store.ts";

/** Tokens that the chat format adds to each message, by the rule of OpenAI's cookbook. */
const tokensPerMessage = 4;

/** The same in every prompt: counted once, and only when the first one is built, because counting loads much. */
export class SystemPrompt {
  #tokens: number | null = null;

  constructor(readonly text: string) {}

  get tokens(): number {
    this.#tokens ??= this.text === "" ? 0 : countTokens(this.text) + tokensPerMessage;
    return this.#tokens;
  }
}

export interface Prompt {
  messages: PromptMessage[];
  /** Parley's own count, for turns whose provider reports none. */
  tokens: number;
}

/** Builds the prompt of a turn. The cost follows the window, not the length of the conversation. */
export async function buildPrompt(
  store: Store,
  turn: { conversation_id: string; seq: number; message: string; message_tokens: number },
  settings: { systemPrompt: SystemPrompt; windowTokens: number },
): Promise<Prompt> {
  const { conversation_id, seq, message, message_tokens } = turn;
  const budget = settings.windowTokens - message_tokens;
  const window = seq > 1 ? await store.window(conversation_id, seq, budget) : [];
  const messages: PromptMessage[] = [];
  let tokens = message_tokens + tokensPerMessage + settings.systemPrompt.tokens;
  const { text: system } = settings.systemPrompt;
  if (system !== "") messages.push({ role: "system", content: system });
  for (const earlier of window) {
    if (earlier.content === "") continue;
    messages.push({ role: earlier.role, content: earlier.content });
    tokens += earlier.tokens + tokensPerMessage;
  }
  messages.push({ role: "user", content: message });
  return { messages, tokens };
}
