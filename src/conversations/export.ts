/** A whole conversation as one file, written page by page. */
import type { ConversationRecord, MessageRecord, Scope, Store } from "../storage/store.ts";
import type { Conversation } from "./schema.ts";
import { toMessage } from "./views.ts";

const pageSize = 200;

async function* allMessages(
  store: Store,
  scope: Scope,
  conversationId: string,
): AsyncGenerator<MessageRecord, void, void> {
  for (let after = 0; ; ) {
    const page = await store.messagesAfter(scope, conversationId, after, pageSize);
    yield* page;
    if (page.length < pageSize) return;
    after = page.at(-1)!.seq;
  }
}

/** A conversation as JSON: its own members, as a client sees them, and `messages`, oldest first. */
export async function* exportJson(
  store: Store,
  scope: Scope,
  conversation: Conversation,
): AsyncGenerator<string, void, void> {
  yield `${JSON.stringify(conversation).slice(0, -1)},"messages":[`;
  let separator = "\n";
  for await (const message of allMessages(store, scope, conversation.id)) {
    yield separator + JSON.stringify(toMessage(message));
    separator = ",\n";
  }
  yield "\n]}\n";
}

/** The conversation as Markdown, for reading. */
export async function* exportMarkdown(
  store: Store,
  scope: Scope,
  conversation: ConversationRecord,
): AsyncGenerator<string, void, void> {
  yield `# ${conversation.title ?? "Conversation"}\n`;
  for await (const { role, created_at, status, model, content } of allMessages(
    store,
    scope,
    conversation.id,
  )) {
    const speaker = role === "user" ? "User" : `Assistant${model === null ? "" : ` (${model})`}`;
    const ending = status === "completed" ? "" : `, ${status}`;
    yield `\n## ${speaker}, ${new Date(created_at * 1000).toISOString()}${ending}\n\n${content}\n`;
  }
}
