/** Parley's own search: the real store in a directory of its own, asked as a turn asks it. */
import { rmSync } from "node:fs";
import { passagesMax, recalledMax } from "../../src/chat/context.ts";
import { relevantMessages, relevantPassages } from "../../src/chat/relevance.ts";
import { Claims } from "../../src/claims.ts";
import { extract } from "../../src/documents/extract.ts";
import { passageTokensMax, toPassages } from "../../src/documents/passages.ts";
import { newId } from "../../src/ids.ts";
import type { EmbeddingModel } from "../../src/models/embeddings.ts";
import { countTokens } from "../../src/models/tokens.ts";
import { openSqliteStore } from "../../src/storage/sqlite/store.ts";
import type { Store, TurnEnd } from "../../src/storage/store.ts";
import type { QuestionVector } from "../../src/storage/vector-store.ts";
import { Questions } from "../../src/vectors/questions.ts";
import { VectorUpkeep } from "../../src/vectors/upkeep.ts";
import { vectorDimensions, vectorOf } from "../../test/support/embedding-vectors.ts";
import { temporaryDirectory } from "../../test/support/service.ts";
import type { Message, Range, SourceDocument } from "./corpus.ts";
import type { DocumentRetriever, MessageHit, MessageRetriever, System } from "./retriever.ts";

const workspace_id = "default";
const user = { workspace_id, user_id: "asker" };
const scope = { workspace_id, user_id: null };

/** A store of its own, which `close` closes and leaves nothing of. */
export interface OpenedStore {
  store: Store;
  close(): Promise<void>;
}

async function openSqlite(vectors: boolean): Promise<OpenedStore> {
  const directory = temporaryDirectory();
  const store = await openSqliteStore(directory, { vectors });
  return {
    store,
    async close() {
      await store.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

interface Variant {
  name: string;
  open?: (vectors: boolean) => Promise<OpenedStore>;
  vectors?: boolean;
  /** Whether what a turn wouldn't take for relevant is left out. */
  decides?: boolean;
}

export const parleyWith = ({
  name,
  open = openSqlite,
  vectors = false,
  decides = true,
}: Variant): System => ({
  name,
  documents: async () => new ParleyDocuments(open, vectors, decides),
  messages: async () => new ParleyMessages(open, vectors, decides),
});

export const parleyOffline = parleyWith({ name: "Parley, offline" });

/** With the vectors of test/support/embedding-vectors.ts, which know spelling and a few synonyms: no real model's. */
export const parleyWithTestVectors = parleyWith({ name: "Parley, test vectors", vectors: true });

/** Returns what the search finds, whether a turn would take it for relevant or not. */
export const parleyUndeciding = parleyWith({ name: "Parley, whatever it finds", decides: false });

const testModel: EmbeddingModel = {
  name: "test-vectors",
  dimensions: vectorDimensions,
  embed: async (texts) => texts.map((text) => Float32Array.from(vectorOf(text))),
};

/** A store that is opened when it is needed and leaves nothing behind. */
class Opened {
  #opened: Promise<OpenedStore> | null = null;
  #questions: Promise<Questions> | null = null;

  constructor(
    readonly open: (vectors: boolean) => Promise<OpenedStore>,
    readonly vectors: boolean,
    readonly decides: boolean,
  ) {}

  async store(): Promise<Store> {
    this.#opened ??= this.open(this.vectors);
    return (await this.#opened).store;
  }

  /** A question's vector, once all that is stored has one; null without vectors. */
  async vectorOf(question: string): Promise<QuestionVector | null> {
    if (!this.vectors) return null;
    this.#questions ??= this.#embedAll();
    return await (await this.#questions).vectorOf(question);
  }

  async #embedAll(): Promise<Questions> {
    const done = Promise.withResolvers<void>();
    const log = {
      info: (entry: { event?: string }) => entry.event === "embedded" && done.resolve(),
      warn: console.warn,
      error: console.error,
    };
    const questions = new Questions(testModel, log);
    const store = await this.store();
    const claims = new Claims(store, "inst_bench", log);
    const upkeep = new VectorUpkeep({ store, claims, questions, log });
    await done.promise;
    await upkeep.stop();
    return questions;
  }

  async close(): Promise<void> {
    await (await this.#opened)?.close();
  }
}

class ParleyDocuments extends Opened implements DocumentRetriever {
  async index(documents: readonly SourceDocument[]): Promise<void> {
    const store = await this.store();
    for (const { name, text } of documents) {
      const bytes = new TextEncoder().encode(text);
      const revision_id = newId("revision");
      await store.beginRevision(
        workspace_id,
        {
          document_id: newId("document"),
          revision_id,
          collection: "bench",
          name,
          owner: null,
          media_type: "text/markdown",
          metadata: {},
          content_hash: name,
          bytes: bytes.length,
          now_ms: Date.now(),
        },
        bytes,
      );
      const read = await extract({ bytes, name, media_type: null }, text.length);
      const passages = toPassages(read, { tokensMax: passageTokensMax });
      const attempt = (await store.beginAttempt(revision_id))!;
      await store.addToRevision(
        attempt,
        [],
        passages.map(({ start, end, heading, tokens }, index) => ({
          seq: index + 1,
          start,
          end,
          heading,
          tokens,
          text: read.text.slice(start, end),
        })),
        1,
      );
      await store.finishRevision(attempt, read.media_type, text.length, Date.now());
    }
  }

  async search(question: string, k: number): Promise<Range[]> {
    const found = await (await this.store()).searchPassages({
      ...user,
      q: question,
      vector: await this.vectorOf(question),
      collections: null,
      filter: null,
      limit: passagesMax,
    });
    return (this.decides ? relevantPassages(question, found, !this.vectors) : found)
      .slice(0, k)
      .map(({ name, start, end }) => ({ document: name, start, end }));
  }
}

class ParleyMessages extends Opened implements MessageRetriever {
  readonly #ids = new Map<string, string>();
  #now = 0;

  async index(messages: readonly Message[]): Promise<void> {
    this.#now = Math.max(this.#now, ...messages.map(({ at }) => at));
    const conversations = Map.groupBy(messages, ({ conversation }) => conversation).values();
    await Promise.all([...conversations].map((spoken) => this.#converse(spoken)));
  }

  /** A conversation, turn by turn. */
  async #converse(messages: readonly Message[]): Promise<void> {
    const store = await this.store();
    let conversation_id: string | null = null;
    for (const [index, asked] of messages.entries()) {
      if (asked.role !== "user") continue;
      const following = messages[index + 1];
      const reply = following?.role === "assistant" ? following : undefined;
      const started = await store.startTurn(scope, {
        turn_id: newId("turn"),
        user_message_id: newId("message"),
        message_id: newId("message"),
        conversation_id,
        new_conversation_id: newId("conversation"),
        user_id: user.user_id,
        message: asked.content,
        message_tokens: countTokens(asked.content),
        model: "bench",
        title: "bench",
        metadata: null,
        instance_id: "bench",
        lease_seconds: 60,
        use_memory: true,
        idempotency: null,
        key_id: "bench",
        reservation: null,
        slots: [],
        now_ms: asked.at * 1000,
      });
      const { turn } = started;
      conversation_id = turn.conversation_id;
      this.#ids.set(turn.user_message_id, asked.id);
      if (reply) this.#ids.set(turn.message_id, reply.id);
      await store.endTurn(turn.id, "bench", endOf(asked, reply), asked.at * 1000);
    }
  }

  async search(question: string, k: number): Promise<MessageHit[]> {
    const found = await (await this.store()).recall({
      ...user,
      q: question,
      vector: await this.vectorOf(question),
      conversation_id: "",
      shown_from_seq: 1,
      limit: recalledMax,
      now: this.#now,
    });
    return (this.decides ? relevantMessages(found) : found)
      .slice(0, k)
      .map(({ message }) => ({ message: this.#ids.get(message.id)! }));
  }
}

const endOf = (asked: Message, reply: Message | undefined): TurnEnd => ({
  message: asked.content,
  status: "completed",
  response: reply?.content ?? "",
  finish_reason: "stop",
  model: "bench",
  sources: [],
  citations: [],
  memories_used: [],
  usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true },
  spent: {
    cached_tokens: 0,
    reasoning_tokens: 0,
    cost_nano_usd: null,
    first_token_ms: null,
    duration_ms: null,
  },
  response_tokens: countTokens(reply?.content ?? ""),
  error: null,
  receipt: null,
  to_remember: false,
  reply_recallable: true,
});
