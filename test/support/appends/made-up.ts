/** A history in which all is well, to be spoilt. */
import { tellingOf } from "../telling-model.ts";
import type { Append, Stored } from "./history.ts";

/** Both as plain data whose members may be changed. */
export interface MadeUp {
  history: Mutable<Append>[];
  stored: Mutable<Stored>;
}

type Mutable<T> = T extends readonly (infer Each)[]
  ? Mutable<Each>[]
  : T extends object
    ? { -readonly [Name in keyof T]: Mutable<T[Name]> }
    : T;

/**
 * Two users with two turns each in a conversation, one after the other. The last turn of all was interrupted, and its
 * reader has seen two pieces more than is kept.
 */
export function madeUp(): MadeUp {
  const history: MadeUp["history"] = [];
  const stored: MadeUp["stored"] = { conversations: [], messages: [], turns: [], ledger: [], counters: [] };
  for (const user of ["ada", "bob"]) {
    const conversation_id = `conv_${user}`;
    for (const place of [1, 2]) {
      const isLast = user === "bob" && place === 2;
      appendTo({ history, stored }, { user, conversation_id, place, isLast });
    }
    const tokens_used = sumOf(stored.turns.filter(({ user_id }) => user_id === user));
    stored.conversations.push({ id: conversation_id, message_count: 4, tokens_used, active_turn_id: null });
    stored.counters.push({ used_tokens: tokens_used, reserved_tokens: 0, reserved_nano_usd: 0 });
  }
  const used_tokens = sumOf(stored.turns);
  // Of the key that both have, and of the workspace.
  for (const _ of [1, 2]) stored.counters.push({ used_tokens, reserved_tokens: 0, reserved_nano_usd: 0 });
  return { history, stored };
}

interface Place {
  user: string;
  conversation_id: string;
  place: number;
  isLast: boolean;
}

function appendTo({ history, stored }: MadeUp, { user, conversation_id, place, isLast }: Place): void {
  const turn_id = `turn_${user}_${place}`;
  const message = pacedMessage(`${user} ${place}`);
  const { text, pieces, usage } = tellingOf(message);
  const status = isLast ? "interrupted" : "completed";
  const error_code = isLast ? "turn_interrupted" : null;
  const content = isLast ? pieces.slice(0, 2).join("") : text;
  const seen = isLast ? pieces.slice(0, 4).join("") : text;
  const { total_tokens } = usage;
  const sentMs = 1_000 * place;
  history.push({
    message,
    user_id: user,
    conversation_id: place === 1 ? null : conversation_id,
    sentMs,
    told: [{ turn_id, conversation_id }],
    reads: [{ from: 0, text: seen, lastMs: sentMs + 500 }],
    ends: [{ status, error_code, length: content.length, total_tokens }],
    endedMs: sentMs + 500,
    stopped: false,
    outcome: "acknowledged",
  });
  const seq = 2 * place;
  stored.messages.push(
    { conversation_id, turn_id, seq: seq - 1, role: "user", content: message, status: "completed" },
    { conversation_id, turn_id, seq, role: "assistant", content, status },
  );
  const usage_n = stored.turns.length + 1;
  stored.turns.push({ id: turn_id, user_id: user, status, error_code, usage_n, total_tokens });
  stored.ledger.push({ n: usage_n, user, key: "key", workspace: "default", status, total_tokens });
}

/** A message that the model answers at a pace which lets no more than 50 pieces pass in a second. */
export function pacedMessage(start: string): string {
  for (let number = 0; ; number++) {
    const message = `${start}: ${number}`;
    const { pieces, delayMs } = tellingOf(message);
    if (delayMs >= 20 && pieces.length * delayMs > 1_500) return message;
  }
}

const sumOf = (turns: readonly { total_tokens: number }[]): number =>
  turns.reduce((sum, { total_tokens }) => sum + total_tokens, 0);
