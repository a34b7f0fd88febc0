/** All that is kept about a user as one JSON document, written page by page. */
import { exportJson } from "../conversations/export.ts";
import { toConversation } from "../conversations/views.ts";
import { textOf, toDocument } from "../documents/views.ts";
import type { DocumentCursor } from "../storage/document-store.ts";
import type { UserScope } from "../storage/memory-store.ts";
import type { Store } from "../storage/store.ts";
import { toMemory, toProfile } from "./views.ts";

const memoriesPerPage = 100;
const conversationsPerPage = 50;
const documentsPerPage = 50;

/** The document, in pieces. What changes while it is written is in it as it was or as it is. */
export async function* exportUser(
  store: Store,
  user: UserScope,
  exported_at: number,
): AsyncGenerator<string, void, void> {
  const profile = toProfile(user, await store.profile(user));
  const head = { object: "user.export", user_id: user.user_id, exported_at, profile };
  yield `${JSON.stringify(head).slice(0, -1)},"memories":[`;
  yield* separated(memoriesOf(store, user));
  yield `],"conversations":[`;
  yield* separated(conversationsOf(store, user));
  yield `],"documents":[`;
  yield* separated(documentsOf(store, user));
  yield "]}\n";
}

async function* memoriesOf(store: Store, user: UserScope): AsyncGenerator<Iterable<string>> {
  let after: string | null = null;
  do {
    const page = await store.memories(user, { limit: memoriesPerPage, after, superseded: true });
    for (const memory of page.memories) yield [JSON.stringify(toMemory(user, memory))];
    after = page.next;
  } while (after !== null);
}

async function* conversationsOf(store: Store, user: UserScope): AsyncGenerator<AsyncIterable<string>> {
  let after: number | null = null;
  do {
    const page = await store.keptConversations(user, conversationsPerPage, after);
    for (const { summary, ...record } of page.conversations) {
      const { text, through_seq } = summary;
      const conversation = { ...toConversation(record), summary: { text, through_seq } };
      yield exportJson(store, user, conversation);
    }
    after = page.next;
  } while (after !== null);
}

async function* documentsOf(store: Store, user: UserScope): AsyncGenerator<AsyncIterable<string>> {
  const { workspace_id, user_id } = user;
  const query = { collection: null, user_id, limit: documentsPerPage };
  let after: DocumentCursor | null = null;
  do {
    const page = await store.documents({ workspace_id, user_id: null }, { ...query, after });
    for (const document of page.documents) {
      const head = JSON.stringify(toDocument(document)).slice(0, -1);
      yield withText(head, textOf(store, user, document.id));
    }
    after = page.next;
  } while (after !== null);
}

/** A JSON object with a last member, `text`. A part never ends within a surrogate pair, nor would that matter. */
async function* withText(head: string, parts: AsyncIterable<string>): AsyncGenerator<string> {
  yield `${head},"text":"`;
  for await (const part of parts) yield JSON.stringify(part).slice(1, -1);
  yield `"}`;
}

/** Items of a JSON array, each in pieces. */
async function* separated(
  items: AsyncIterable<Iterable<string> | AsyncIterable<string>>,
): AsyncGenerator<string, void, void> {
  let separator = "\n";
  for await (const item of items) {
    yield separator;
    yield* item;
    separator = ",\n";
  }
}
