/** What the contracts of the storage port are tested with. */
import { expect } from "bun:test";
import { AppError, type ErrorCode } from "../../src/errors.ts";
import { newId } from "../../src/ids.ts";
import type { UserScope } from "../../src/storage/memory-store.ts";
import type { NewConversation, Scope, Store, TurnEnd, TurnStart } from "../../src/storage/store.ts";

export interface StoreUnderTest {
  store: Store;
  /** Closes the store and opens it again on the same data. */
  reopen(): Promise<Store>;
  close(): Promise<void>;
}

/** @param open opens the store on the same data each time */
export async function reopening(open: () => Promise<Store>): Promise<StoreUnderTest> {
  let store = await open();
  return {
    store,
    async reopen() {
      await store.close();
      store = await open();
      return store;
    },
    close: () => store.close(),
  };
}

export const scope: Scope = { workspace_id: "default", user_id: null };
/** Whom turns and conversations are of, unless a test says otherwise. */
export const ada: UserScope = { workspace_id: "default", user_id: "ada" };
export const instance = "inst_test";
export const noUsage = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true };

export const noSpending = {
  cached_tokens: 0,
  reasoning_tokens: 0,
  cost_nano_usd: null,
  first_token_ms: null,
  duration_ms: null,
};

export const turnStart = (changes: Partial<TurnStart> = {}): TurnStart => ({
  turn_id: newId("turn"),
  user_message_id: newId("message"),
  message_id: newId("message"),
  conversation_id: null,
  new_conversation_id: newId("conversation"),
  user_id: "ada",
  message: "Hello",
  message_tokens: 1,
  model: "test-model",
  title: "Hello",
  metadata: null,
  instance_id: instance,
  lease_seconds: 60,
  use_memory: true,
  idempotency: null,
  key_id: "key_test",
  reservation: null,
  slots: [],
  now_ms: 1_700_000_000_500,
  ...changes,
});

export const turnEnd = (changes: Partial<TurnEnd> = {}): TurnEnd => ({
  status: "completed",
  response: "Hi!",
  finish_reason: "stop",
  model: "test-model",
  sources: [],
  citations: [],
  memories_used: [],
  usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7, estimated: false },
  spent: noSpending,
  response_tokens: 2,
  error: null,
  receipt: null,
  to_remember: false,
  reply_recallable: true,
  message: "Hello",
  ...changes,
});

export const newConversation = (changes: Partial<NewConversation> = {}): NewConversation => ({
  id: newId("conversation"),
  user_id: "ada",
  title: null,
  metadata: {},
  idempotency: null,
  now_ms: 1_700_000_000_000,
  ...changes,
});

/** Stores a document as one part and one passage. @param owner null for the whole workspace */
export async function storeDocument(
  store: Store,
  owner: string | null,
  { name, text, metadata = {} }: { name: string; text: string; metadata?: Record<string, string> },
): Promise<string> {
  const revision_id = newId("revision");
  const upload = Buffer.from(text);
  const { document } = await store.beginRevision(
    "default",
    {
      document_id: newId("document"),
      revision_id,
      collection: "default",
      name,
      owner,
      media_type: "text/plain",
      metadata,
      content_hash: revision_id,
      bytes: upload.byteLength,
      now_ms: 1_700_000_000_000,
    },
    upload,
  );
  const attempt = (await store.beginAttempt(revision_id))!;
  const passage = { seq: 1, start: 0, end: text.length, heading: name, text, tokens: 5 };
  await store.addToRevision(attempt, [{ start: 0, text }], [passage], 0.5);
  await store.finishRevision(attempt, "text/plain", text.length, 1_700_000_000_000);
  return document.id;
}

export async function expectCode(promise: Promise<unknown>, code: ErrorCode): Promise<AppError> {
  const error = await promise.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(AppError);
  expect((error as AppError).code).toBe(code);
  return error as AppError;
}
