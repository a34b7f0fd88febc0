/**
 * Fills a data directory with documents of so many passages, and with conversations of so many messages, each of a user
 * of its own who has had other conversations before.
 *
 * A process of its own: `bun fill-context.ts <data dir> <passages> <messages>…`. It prints the conversations' ids.
 */
import { newId } from "../../src/ids.ts";
import { makePrivateDirectory, openForWriting } from "../../src/storage/sqlite/database.ts";
import { createWrites } from "../../src/storage/sqlite/writes.ts";
import { userOf } from "./filled.ts";
import { sentence } from "./sentence.ts";

const [dataDir = "", passages = "0", ...messageCounts] = process.argv.slice(2);
const earlierMessages = 1_000;
const earlierPerConversation = 20;
const passagesPerDocument = 1_000;
const perTransaction = 5_000;

makePrivateDirectory(dataDir);
const db = openForWriting(dataDir);
// What is written here is thrown away if the machine goes down: the bench begins anew.
db.run("pragma synchronous = off");
db.run("pragma cache_size = -200000");
const { operations, complete } = createWrites(db);

function insertTurn(user_id: string, conversation_id: string | null, index: number): string {
  const turn_id = newId("turn");
  const message = `${sentence(index * 2, 12)}?`;
  const { turn } = operations.startTurn(
    { workspace_id: "default", user_id },
    {
      turn_id,
      user_message_id: newId("message"),
      message_id: newId("message"),
      conversation_id,
      new_conversation_id: newId("conversation"),
      user_id,
      message,
      message_tokens: 40,
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
      now_ms: Date.now(),
    },
  );
  operations.endTurn(
    turn_id,
    "bench",
    {
      message,
      status: "completed",
      response: `${sentence(index * 2 + 1, 40)}.`,
      finish_reason: "stop",
      model: "bench",
      sources: [],
      citations: [],
      memories_used: [],
      usage: { prompt_tokens: 20, completion_tokens: 20, total_tokens: 40, estimated: false },
      spent: {
        cached_tokens: 0,
        reasoning_tokens: 0,
        cost_nano_usd: null,
        first_token_ms: null,
        duration_ms: null,
      },
      response_tokens: 120,
      error: null,
      receipt: null,
      to_remember: false,
      reply_recallable: true,
    },
    Date.now(),
  );
  return turn.conversation_id;
}

function insertConversation(user_id: string, messages: number): string {
  const turns = messages / 2;
  let id: string | null = null;
  for (let from = 0; from < turns; from += perTransaction) {
    db.transaction(() => {
      for (let index = from; index < Math.min(from + perTransaction, turns); index++) {
        id = insertTurn(user_id, id, index);
      }
      complete();
    })();
  }
  return id ?? "";
}

function insertDocument(index: number, count: number): void {
  const revision_id = newId("revision");
  operations.beginRevision("default", {
    document_id: newId("document"),
    revision_id,
    collection: "bench",
    name: `document-${index}.md`,
    owner: null,
    media_type: "text/markdown",
    metadata: {},
    content_hash: String(index),
    bytes: 0,
    now_ms: Date.now(),
  });
  const some = Array.from({ length: count }, (_, at) => {
    const text = `${sentence(index * passagesPerDocument + at, 120)}.`;
    return { seq: at + 1, start: 0, end: text.length, heading: sentence(index, 3), text, tokens: 250 };
  });
  const attempt = operations.beginAttempt(revision_id)!;
  operations.addToRevision(attempt, [], some, 1);
  operations.finishRevision(attempt, "text/markdown", 0, Date.now());
}

const conversations = messageCounts.map((messages) => {
  const user_id = userOf(messages);
  for (let earlier = 0; earlier < earlierMessages; earlier += earlierPerConversation) {
    insertConversation(user_id, earlierPerConversation);
  }
  return insertConversation(user_id, Number(messages));
});
// As the background would have: all but the newest messages are summed up.
db.run(
  "update conversations set summary = 'user: hello', summary_tokens = 400, summary_through_seq = max(0, message_count - 20)",
);
for (let left = Number(passages), index = 0; left > 0; left -= passagesPerDocument, index++) {
  db.transaction(() => insertDocument(index, Math.min(left, passagesPerDocument)))();
}
db.run("pragma wal_checkpoint(truncate)");
db.close();
console.log(conversations.join(" "));
