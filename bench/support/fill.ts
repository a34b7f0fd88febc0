/**
 * Fills a data directory with conversations, two messages each and all of one user, as the longest list there can be:
 * by the project's own writes, but past its queues and many to a transaction.
 *
 * A process of its own: `bun fill.ts <data dir> <conversations>`.
 */
import { newId } from "../../src/ids.ts";
import { makePrivateDirectory, openForWriting } from "../../src/storage/sqlite/database.ts";
import { createWrites } from "../../src/storage/sqlite/writes.ts";
import { commonWord, oldShare, oldWord, rareEvery, rareWord, userId } from "./filled.ts";
import { sentence } from "./sentence.ts";

const dataDir = process.argv[2]!;
const conversations = Number(process.argv[3]);
const perTransaction = 10_000;
const scope = { workspace_id: "default", user_id: userId };
const firstMs = Date.now() - conversations * 1000;

makePrivateDirectory(dataDir);
const db = openForWriting(dataDir);
// What is written here is thrown away if the machine goes down: the bench begins anew.
db.run("pragma synchronous = off");
db.run("pragma cache_size = -200000");
const { operations, complete } = createWrites(db);

function insert(index: number): void {
  const now_ms = firstMs + index * 1000;
  const turn_id = newId("turn");
  const extra = [
    index % 3 === 0 ? commonWord : "",
    index % rareEvery === 0 ? rareWord : "",
    index < conversations * oldShare ? oldWord : "",
  ].join(" ");
  const message = `${sentence(index * 2, 8)} ${extra}?`;
  operations.startTurn(scope, {
    turn_id,
    user_message_id: newId("message"),
    message_id: newId("message"),
    conversation_id: null,
    new_conversation_id: newId("conversation"),
    user_id: userId,
    message,
    message_tokens: 10,
    model: "bench",
    title: message.slice(0, 40),
    metadata: null,
    instance_id: "bench",
    lease_seconds: 60,
    use_memory: true,
    idempotency: null,
    key_id: "bench",
    reservation: null,
    slots: [],
    now_ms,
  });
  operations.endTurn(
    turn_id,
    "bench",
    {
      message,
      status: "completed",
      response: `${sentence(index * 2 + 1, 16)}.`,
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
      response_tokens: 20,
      error: null,
      receipt: null,
      to_remember: false,
      reply_recallable: true,
    },
    now_ms,
  );
}

for (let from = 0; from < conversations; from += perTransaction) {
  db.transaction(() => {
    for (let index = from; index < Math.min(from + perTransaction, conversations); index += 1) insert(index);
    complete();
  })();
}
db.run("pragma wal_checkpoint(truncate)");
db.close();
