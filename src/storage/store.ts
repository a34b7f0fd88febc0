/**
 * The port to the storage.
 *
 * Every method rejects with an `AppError` or not at all: `storage_unavailable` when the disk or database fails (then
 * nothing was changed), `overloaded` when its queue is full, and what its own comment names. A promise of a write
 * resolves after the commit is durable. Records use the words and units of the API; times are unix seconds.
 * A `Scope` is part of every query: what lies outside of it does not exist.
 */
import type { ErrorCode } from "../errors.ts";
import type { RetentionStore } from "./archive-store.ts";
import type { BudgetState, BudgetStore, Reservation } from "./budget-store.ts";
import type { DocumentStore } from "./document-store.ts";
import type { KeyStore } from "./key-store.ts";
import type { MemoryStore } from "./memory-store.ts";
import type { Spent, UsageStore } from "./usage-store.ts";
import type { VectorStore } from "./vector-store.ts";

/** Whose data a call may touch; a null user_id means every user of the workspace. */
export interface Scope {
  workspace_id: string;
  user_id: string | null;
}

export type TurnEndStatus = "completed" | "truncated" | "filtered" | "stopped" | "failed" | "interrupted";
export type TurnStatus = "running" | TurnEndStatus;
export type FinishReason = "stop" | "length" | "content_filter";
export type Metadata = Record<string, string>;

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Whether the counts are Parley's own, because the provider gave none. */
  estimated: boolean;
}

export interface Citation {
  document_id: string;
  name: string;
  quote: string;
  start: number;
  end: number;
  score: number;
}

export interface TurnRecord {
  id: string;
  conversation_id: string;
  user_message_id: string;
  message_id: string;
  status: TurnStatus;
  /** The reply so far: while the turn runs, the text of the last checkpoint. */
  response: string;
  finish_reason: FinishReason | null;
  model: string;
  sources: string[];
  citations: Citation[];
  memories_used: string[];
  usage: Usage;
  error: { code: ErrorCode; message: string } | null;
  created_at: number;
  ended_at: number | null;
}

export interface ConversationRecord {
  id: string;
  user_id: string;
  title: string | null;
  metadata: Metadata;
  message_count: number;
  tokens_used: number;
  active_turn_id: string | null;
  created_at: number;
  updated_at: number;
  last_message_at: number;
}

export interface MessageRecord {
  id: string;
  conversation_id: string;
  turn_id: string;
  seq: number;
  role: "user" | "assistant";
  content: string;
  status: TurnStatus;
  model: string | null;
  sources: string[];
  citations: Citation[];
  tokens: number;
  created_at: number;
}

/** A retry of the same request by the same principal: same key, operation and body. */
export interface Idempotency {
  principal_id: string;
  operation: "turn" | "conversation";
  key: string;
  body_hash: string;
}

/** What so many turns may hold at once, each while it runs. */
export interface TurnSlot {
  what: "key" | "user" | "address";
  /** Whose it is: the same for all turns that share it. */
  name: string;
  quota: number;
}

export interface TurnStart {
  turn_id: string;
  user_message_id: string;
  message_id: string;
  /** Null starts a new conversation, under `new_conversation_id`. */
  conversation_id: string | null;
  new_conversation_id: string;
  user_id: string;
  message: string;
  message_tokens: number;
  model: string;
  /** Given to the conversation where it has none yet. */
  title: string;
  /** Replaces the conversation's metadata. */
  metadata: Metadata | null;
  instance_id: string;
  /** So long nobody else may end the turn; from then on its instance must have renewed its leases. */
  lease_seconds: number;
  /** Whether the turn may be found by recall, and memories drawn from it. */
  use_memory: boolean;
  idempotency: Idempotency | null;
  /** The principal that pays for it. */
  key_id: string;
  /** The most that it may take, where budgets may limit it. */
  reservation: Reservation | null;
  /** What it holds from its start to its end. */
  slots: TurnSlot[];
  now_ms: number;
}

export interface TurnStarted {
  turn: TurnRecord;
  /** True where an earlier request with the same idempotency key had started this turn: nothing was changed. */
  replayed: boolean;
  /** The user message's place in its conversation. */
  seq: number;
  /** How the budgets that limit it stand, its reservation included; empty where none does. */
  budgets: BudgetState[];
  /** How many turns hold each of its slots, itself included. */
  slots: number[];
}

export interface TurnEnd {
  status: TurnEndStatus;
  response: string;
  finish_reason: FinishReason | null;
  model: string;
  sources: string[];
  citations: Citation[];
  memories_used: string[];
  usage: Usage;
  spent: Spent;
  /** Tokens of the reply's text, for later prompts. */
  response_tokens: number;
  error: { code: ErrorCode; message: string } | null;
  /** What went into the prompt; null where the turn ended before there was one. */
  receipt: Receipt | null;
  /** Whether memories are to be drawn from what the user said. */
  to_remember: boolean;
  /** Whether recall may find the reply: quotations of what is stored anyway are left out. */
  reply_recallable: boolean;
  /** What the user said, which is found from now on too. */
  message: string;
}

/** The parts of a prompt. */
export const promptSections = [
  "system",
  "profile",
  "memories",
  "recall",
  "summary",
  "passages",
  "window",
  "message",
] as const;
export type PromptSection = (typeof promptSections)[number];

/** Something that was considered for a prompt. */
export interface ReceiptEntry {
  section: "memories" | "recall" | "passages" | "window";
  /** The memory, message or document. */
  id: string;
  tokens: number;
  /** How well it fits; null for messages of the window, which are there because they are new. */
  score: number | null;
}

/** What went into a prompt, in tokens by Parley's own count. */
export interface Receipt {
  tokens: Record<PromptSection, number>;
  chosen: ReceiptEntry[];
  /** What was found too and had no room. */
  dropped: ReceiptEntry[];
}

/** A running turn whose instance has died. */
export interface Orphan {
  turn: TurnRecord;
  instance_id: string;
  /** What the user said. */
  message: string;
}

/** How it stands with the turns of an instance that has renewed its leases. */
export interface Renewed {
  /** Whether the leases had run out before: others may have ended its turns. */
  lapsed: boolean;
  /** Turns that somebody has asked another instance to stop. */
  to_stop: string[];
}

/** What a reply draws on, and what went into its prompt. */
export type Drawn = Pick<TurnRecord, "sources" | "citations" | "memories_used"> & { receipt: Receipt };

/** The text of a running reply so far, and the model that writes it. */
export interface Checkpoint {
  turn_id: string;
  text: string;
  model: string;
  /** Where it is left out, what is stored of it stays. */
  drawn?: Drawn;
}

export interface NewConversation {
  id: string;
  user_id: string;
  title: string | null;
  metadata: Metadata;
  idempotency: Idempotency | null;
  now_ms: number;
}

export interface ConversationPatch {
  title?: string | null;
  metadata?: Metadata;
}

/** A position in the order of conversations: the last one a client has seen. */
export interface ConversationCursor {
  last_active_ms: number;
  id: string;
}

export interface ConversationQuery {
  user_id: string | null;
  limit: number;
  after: ConversationCursor | null;
  /** Words to look for; null is no filter. */
  q: string | null;
}

export interface ConversationPage {
  conversations: ConversationRecord[];
  /** Where the next page starts; null on the last one. */
  next: ConversationCursor | null;
}

export interface MessagePage {
  /** Oldest first. */
  messages: MessageRecord[];
  has_more: boolean;
}

export interface Store
  extends MemoryStore,
    DocumentStore,
    VectorStore,
    KeyStore,
    UsageStore,
    BudgetStore,
    RetentionStore {
  /**
   * Commits the user's message, the empty reply and the turn, or finds the turn that the idempotency key made.
   * @throws not_found, turn_in_progress (with turn_id), idempotency_key_reused; budget_exhausted, with the `state` that
   * has no room and what is `needed`; forbidden where dollars are limited and the reservation has none; rate_limited
   * where as many turns hold one of its slots as may
   */
  startTurn(scope: Scope, start: TurnStart): Promise<TurnStarted>;
  /**
   * Replaces the stored text and model of replies that still run, and never those of one that has ended. What starts and
   * ends turns goes first.
   */
  checkpointReplies(checkpoints: Checkpoint[]): Promise<void>;
  /** Keeps the running turns of an instance its own for so long, also after their leases had run out. */
  renewLeases(instanceId: string, seconds: number): Promise<Renewed>;
  /** Lets go of an instance; turns that it leaves running are orphans when their leases have run out. */
  dropLeases(instanceId: string): Promise<void>;
  /**
   * Ends a running turn of an instance; false where it isn't running any more, and then nothing was changed. Memories
   * that its receipt tells were chosen because they fit the message count as used.
   */
  endTurn(turnId: string, instanceId: string, end: TurnEnd, nowMs: number): Promise<boolean>;
  /** Some of the turns that other, dead instances left running. */
  orphans(instanceId: string): Promise<Orphan[]>;
  /**
   * Ends the turn of an instance that is dead, as `endTurn` does; false too where that instance is alive again. A receipt
   * that was checkpointed stays.
   */
  endOrphan(turnId: string, instanceId: string, end: TurnEnd, nowMs: number): Promise<boolean>;
  turn(scope: Scope, id: string): Promise<TurnRecord | null>;
  /** What went into the prompt of a turn that has ended; null where the scope has no such turn or it has none. */
  receipt(scope: Scope, turnId: string): Promise<Receipt | null>;

  /** @throws idempotency_key_reused */
  createConversation(
    scope: Scope,
    conversation: NewConversation,
  ): Promise<{ conversation: ConversationRecord; replayed: boolean }>;
  conversation(scope: Scope, id: string): Promise<ConversationRecord | null>;
  /** Last active first. */
  conversations(scope: Scope, query: ConversationQuery): Promise<ConversationPage>;
  updateConversation(
    scope: Scope,
    id: string,
    patch: ConversationPatch,
    nowMs: number,
  ): Promise<ConversationRecord | null>;
  /** Deletes a conversation and all that hangs on it; false where there is none. @throws turn_in_progress */
  deleteConversation(scope: Scope, id: string): Promise<boolean>;
  /** The newest messages before a `seq` (null: the newest of all). */
  messages(
    scope: Scope,
    conversationId: string,
    limit: number,
    beforeSeq: number | null,
  ): Promise<MessagePage>;
  /** Messages after a `seq`, oldest first: for going through a whole conversation. */
  messagesAfter(
    scope: Scope,
    conversationId: string,
    afterSeq: number,
    limit: number,
  ): Promise<MessageRecord[]>;

  /** The id of what an idempotency key made; null where it is new. @throws idempotency_key_reused */
  resourceOf(idempotency: Idempotency): Promise<string | null>;
  /** Forgets idempotency keys made before a time. */
  deleteIdempotencyKeys(before: number): Promise<void>;
  /** The secret that signs stream tickets, the same on every instance. */
  ticketSecret(): Promise<string>;
  /**
   * Takes on work in the background for so long, or goes on with what it has; false where another instance has it, so that
   * one does it at a time. Who dies lets go of it when its time is up.
   */
  claim(task: string, instanceId: string, seconds: number): Promise<boolean>;
  /** Lets go of work that is done. */
  release(task: string, instanceId: string): Promise<void>;

  /** How many calls wait for the storage or are under way there, by queue. */
  waiting(): Readonly<Record<string, number>>;
  /** Resolves when a write went through. */
  check(): Promise<void>;
  close(): Promise<void>;
}
