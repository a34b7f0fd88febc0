/** The part of the storage port that remembers, and forgets: users and their profiles, memories, recall, summaries. */
import type { ConversationRecord, MessageRecord, Metadata } from "./store.ts";
import type { QuestionVector } from "./vector-store.ts";

/** One user of a workspace. */
export interface UserScope {
  workspace_id: string;
  user_id: string;
}

/** What a user, or their team, set about them. */
export interface Profile {
  display_name: string | null;
  /** BCP 47, such as `de-CH`. */
  language: string | null;
  /** IANA, such as `Europe/Zurich`. */
  timezone: string | null;
  /** How the user wants to be answered. */
  instructions: string | null;
  metadata: Metadata;
}

export interface ProfileRecord extends Profile {
  user_id: string;
  created_at: number;
  updated_at: number;
}

export type MemoryKind = "fact" | "preference" | "instruction" | "event";

/** A durable fact about a user. */
export interface MemoryRecord {
  id: string;
  text: string;
  kind: MemoryKind;
  /** What it is the one value of, such as `name` or `home`: a newer one of the same slot supersedes it. */
  slot: string | null;
  tokens: number;
  /** The user's message that it comes from; null where it was given through the API. */
  source_message_id: string | null;
  /** The memory that took its place; null while it holds. */
  superseded_by: string | null;
  /** How often it was part of a prompt, and when last. */
  uses: number;
  used_at: number | null;
  created_at: number;
  updated_at: number;
}

export interface NewMemory {
  id: string;
  text: string;
  kind: MemoryKind;
  slot: string | null;
  tokens: number;
  source_message_id: string | null;
  /** Memories that don't hold any more because of this one. */
  supersedes: string[];
}

export interface MemoryPatch {
  text?: string;
  kind?: MemoryKind;
  tokens?: number;
}

export interface MemoryQuery {
  limit: number;
  /** The id that the page before ended with; it may be gone by now. */
  after: string | null;
  /** Whether those that don't hold any more are among them. */
  superseded: boolean;
}

export interface MemoryPage {
  /** Newest first. */
  memories: MemoryRecord[];
  /** The id to go on after; null on the last page. */
  next: string | null;
}

export interface RecallQuery extends UserScope {
  q: string;
  /** The question as the embedding model has it; null where there is none. */
  vector: QuestionVector | null;
  /** Messages of this conversation from this seq on are before the model already. */
  conversation_id: string;
  shown_from_seq: number;
  limit: number;
  /** Unix seconds, against which messages are old. */
  now: number;
}

export interface RecalledMessage {
  message: MessageRecord;
  score: number;
  /** Which part of the question it holds, in words or in meaning, 0 to 1. */
  coverage: number;
}

/** The digest of a conversation's beginning. */
export interface Summary {
  text: string;
  tokens: number;
  /** It covers all messages up to this seq; 0 where there is none. */
  through_seq: number;
}

/**
 * Messages that fell between the summary and the window: normally none, or a few for a moment. More than a conversation
 * may have outside of its summary before that is written on.
 */
export const betweenMax = 1_024;

/** What of a conversation can go into a prompt. */
export interface ConversationContext {
  summary: Summary;
  /** The newest messages within the budget, oldest first. */
  window: MessageRecord[];
  /** Messages that neither the summary nor the window holds, oldest first: the newest `betweenMax` of them. */
  between: MessageRecord[];
}

/** A turn whose prompt is to be built. */
export interface PromptQuery extends UserScope {
  conversation_id: string;
  /** The seq of its message. */
  before_seq: number;
  /** Of the window. */
  tokens_max: number;
  /** False: nothing is read of memories and earlier conversations. */
  use_memory: boolean;
}

/** What is known for a prompt before anything is searched. */
export interface PromptSources {
  conversation: ConversationContext;
  /** Null for a user nobody has heard of. */
  profile: ProfileRecord | null;
  /** All that hold. */
  memories: MemoryRecord[];
  /** Whether recall could find anything beside what the conversation shows. */
  has_older: boolean;
  /** Whether a search of documents could find anything. */
  has_passages: boolean;
}

/** A conversation as it is kept: with the digest of its beginning. */
export interface KeptConversation extends ConversationRecord {
  summary: Summary;
}

export interface KeptConversationPage {
  /** In the order in which they were made, which doesn't change while they go on. */
  conversations: KeptConversation[];
  /** Where the next page starts; null on the last one. */
  next: number | null;
}

/** How much of a user was erased. */
export interface Erased {
  conversations: number;
  messages: number;
  turns: number;
  memories: number;
  documents: number;
  idempotency_keys: number;
}

/** A turn whose memories are still to be drawn. */
export interface TurnToRemember extends UserScope {
  turn_id: string;
  user_message_id: string;
  message: string;
  created_at: number;
}

/** How often an instance asks which turns are to be remembered: who doesn't is taken for dead. */
export const rememberEverySeconds = 15;

export interface MemoryStore {
  /** Null for a user nobody has heard of. */
  profile(user: UserScope): Promise<ProfileRecord | null>;
  updateProfile(user: UserScope, patch: Partial<Profile>, nowMs: number): Promise<ProfileRecord>;

  /** All memories of a user that hold, newest first: never more than the cap that they are saved under. */
  heldMemories(user: UserScope): Promise<MemoryRecord[]>;
  memories(user: UserScope, query: MemoryQuery): Promise<MemoryPage>;
  memory(user: UserScope, id: string): Promise<MemoryRecord | null>;
  /**
   * Saves memories, supersedes what they replace and, where they come through the API, what holds of the same slot,
   * drops the least useful ones beyond the cap (of which the new ones are none), and marks the turn that they come from
   * as remembered; gives those that were saved. Does nothing a second time for the same turn, nor where the turn's user
   * was cut off since.
   * @param turnId null where they come through the API
   * @param nowMs when they were said
   */
  saveMemories(
    user: UserScope,
    memories: NewMemory[],
    turnId: string | null,
    memoriesMax: number,
    nowMs: number,
  ): Promise<MemoryRecord[]>;
  updateMemory(user: UserScope, id: string, patch: MemoryPatch, nowMs: number): Promise<MemoryRecord | null>;
  deleteMemory(user: UserScope, id: string): Promise<boolean>;
  /**
   * Ended turns of any user whose memories are still to be drawn and that are this instance's to draw from, oldest first:
   * those that it ran, and those whose instance is dead, which are its own from now on. One that lives asks every
   * `rememberEverySeconds` or more often.
   */
  turnsToRemember(instanceId: string, limit: number): Promise<TurnToRemember[]>;

  /** Which of the user's messages bear on a question, best first. */
  recall(query: RecallQuery): Promise<RecalledMessage[]>;
  /** All that a prompt needs and no search, at once: every turn asks. */
  promptSources(query: PromptQuery): Promise<PromptSources>;

  conversationContext(
    user: UserScope,
    conversationId: string,
    beforeSeq: number,
    tokensMax: number,
  ): Promise<ConversationContext>;
  /** Replaces a summary, if it is still the one that covers up to `from`; else nothing happens and it is false. */
  replaceSummary(user: UserScope, conversationId: string, from: number, summary: Summary): Promise<boolean>;

  /** All conversations of a user, page by page: also of one whom nobody has heard of, who has none. */
  keptConversations(user: UserScope, limit: number, after: number | null): Promise<KeptConversationPage>;

  /**
   * Cuts a user off from all that is kept about them, in one step: from now on nobody has heard of them, their
   * conversations can't be gone on with, and what they do is a new user's, which draws on nothing of before.
   * Gives their turns that still run: what these store from now on is erased with the rest.
   */
  cutOffUser(user: UserScope): Promise<string[]>;
  /**
   * Erases what a user was cut off from, bit by bit, so that other writes needn't wait long. When it resolves, nothing of
   * the store holds any text of theirs, that of conversations and documents which were deleted before included. With
   * SQLite no file does either. PostgreSQL overwrites what rows leave in its files as it needs the room, and keeps its log
   * and backups for as long as it is told to: of those no client can tell. It may be repeated, also after a crash, and run
   * twice at once: each counts what it erased itself.
   */
  eraseUser(user: UserScope): Promise<Erased>;
  /** Finishes what instances that died had begun to erase. To be called every so often. */
  resumeErasures(): Promise<void>;
}
