/** Conversations and messages as clients see them. */
import type { Message } from "../chat/schema.ts";
import type { ConversationRecord, MessageRecord } from "../storage/store.ts";
import type { Conversation } from "./schema.ts";

export const toConversation = (record: ConversationRecord): Conversation => ({
  object: "conversation",
  ...record,
});

export const toMessage = (record: MessageRecord): Message => ({ object: "message", ...record });
