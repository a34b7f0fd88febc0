/**
 * What clients were told while they appended turns to conversations, and what is stored afterwards. Both are plain data,
 * so that whoever compares them can be given made-up ones.
 */

/** A message that a client sent, whatever became of it. No two are the same text. */
export interface Append {
  readonly message: string;
  readonly user_id: string;
  /** The conversation that was asked for; null for a new one. */
  readonly conversation_id: string | null;
  /** When it was sent first. Times are those of one clock, in milliseconds. */
  readonly sentMs: number;
  /** Every turn and conversation that an answer to it named. */
  readonly told: { turn_id: string; conversation_id: string | null }[];
  readonly reads: Read[];
  readonly ends: End[];
  /** When its end was first told; null where it never was. */
  endedMs: number | null;
  /** Whether somebody asked for its turn to be stopped. */
  stopped: boolean;
  /** What came of sending it: every try was refused without a turn, or nobody knows of some, or it has a turn. */
  outcome: "refused" | "unknown" | "acknowledged";
}

/** Text that a stream or an answer brought, from an offset on. */
export interface Read {
  readonly from: number;
  text: string;
  /** When the last of it came. */
  lastMs: number;
}

/** An end as it was told. A member that is left out wasn't told. */
export interface End {
  readonly status?: string;
  readonly error_code?: string | null;
  readonly length?: number;
  readonly text?: string;
  readonly total_tokens?: number;
}

/** All that is stored, once everything has come to rest. */
export interface Stored {
  readonly conversations: readonly StoredConversation[];
  readonly messages: readonly StoredMessage[];
  readonly turns: readonly StoredTurn[];
  readonly ledger: readonly LedgerEntry[];
  readonly counters: readonly Counter[];
}

export interface StoredConversation {
  readonly id: string;
  readonly message_count: number;
  readonly tokens_used: number;
  readonly active_turn_id: string | null;
}

export interface StoredMessage {
  readonly conversation_id: string;
  readonly turn_id: string;
  readonly seq: number;
  readonly role: string;
  readonly content: string;
  readonly status: string;
}

export interface StoredTurn {
  readonly id: string;
  readonly user_id: string;
  readonly status: string;
  readonly error_code: string | null;
  readonly usage_n: number;
  readonly total_tokens: number;
}

export interface LedgerEntry {
  readonly n: number;
  /** Who pays: each has a counter. Null where nobody is known. */
  readonly user: string | null;
  readonly key: string | null;
  readonly workspace: string;
  readonly status: string;
  readonly total_tokens: number;
}

/** A counter of budgets, over all days. Whose it is isn't told. */
export interface Counter {
  readonly used_tokens: number;
  readonly reserved_tokens: number;
  readonly reserved_nano_usd: number;
}
