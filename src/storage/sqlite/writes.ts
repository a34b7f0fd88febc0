/**
 * Every statement that writes, run by the writer worker, many calls to a transaction.
 * A write checks first and changes after, so that a refusal (an `AppError`) leaves nothing to undo.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { cutWords } from "../../search/words.ts";
import type {
  Checkpoint,
  ConversationPatch,
  ConversationRecord,
  Idempotency,
  NewConversation,
  Scope,
  TurnEnd,
  TurnStart,
  TurnStarted,
} from "../store.ts";
import { madeAndDeleted, newTurn, turnInProgress, unknownConversation } from "../turn-answers.ts";
import { createBudgetWrites } from "./budget-writes.ts";
import { createDocumentWrites } from "./document-writes.ts";
import { createEraseWrites } from "./erase-writes.ts";
import { indexedMessage } from "./indexed.ts";
import { createKeyWrites } from "./key-writes.ts";
import { createMemoryWrites } from "./memory-writes.ts";
import { createReads } from "./reads.ts";
import { createUsageWrites } from "./usage-writes.ts";

export type Writes = ReturnType<typeof createWrites>["operations"];

/**
 * The writes, and what completes a transaction of them: `complete` before the commit, `forget` after a rollback.
 */
export function createWrites(db: Database) {
  const reads = createReads(db);
  const memory = createMemoryWrites(db);
  const { ensureUser, useMemories } = memory;
  const budgets = createBudgetWrites(db);
  const ledger = createUsageWrites(db, budgets);
  const erase = createEraseWrites(db, complete, ledger.forgetUser, budgets.forgetUser);
  const documents = createDocumentWrites(db, ensureUser, erase.markUncleaned);
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);

  const insertKey = statement(`insert into idempotency_keys values
    ($principal_id, $operation, $key, $body_hash, $resource_id, $created_at)`);
  const insertConversation = statement(`insert into conversations
    (id, workspace_id, user_id, user_n, title, metadata, created_at, updated_at, last_active_ms)
    values ($id, $workspace_id, $user_id, $user_n, $title, $metadata, $now, $now, $now_ms) returning n`);
  // Not one that is being erased, whose user is another one or nobody any more.
  const findConversation =
    statement(`select n, user_n, title, message_count, active_turn_id from conversations
    where id = $id and deleted = 0
      and user_n = (select n from users where workspace_id = $workspace_id and user_id = $user_id)`);
  const beginTurn = statement(`update conversations set active_turn_id = $turn_id, title = $title,
    metadata = coalesce($metadata, metadata), message_count = message_count + 2, updated_at = $now,
    last_active_ms = $now_ms where n = $n`);
  const insertMessage = statement(`insert into messages
    (id, conversation_n, turn_id, seq, role, content, status, model, tokens, created_at)
    values ($id, $conversation_n, $turn_id, $seq, $role, $content, $status, $model, $tokens, $now)`);
  const insertTurn =
    statement(`insert into turns (n, id, user_message_n, status, model, use_memory, instance_id,
    lease_until, usage_n, created_at)
    values ($n, $id, $user_message_n, 'running', $model, $use_memory, $instance_id, $lease_until, $usage_n, $now)`);
  const indexMessage = statement(
    "insert into message_index (rowid, scope, words, terms) values ($n, $scope, $words, $terms)",
  );
  const replaceTitleWords = statement(
    "insert or replace into title_words (rowid, words) values ($n, $words)",
  );
  const checkpointReply = statement(`update messages set content = $text, model = $model,
    sources = coalesce($sources, sources), citations = coalesce($citations, citations)
    where n = (select n from turns where id = $turn_id and status = 'running')`);
  const checkpointDrawn = statement(`update turns set memories_used = $memories_used, receipt = $receipt
    where id = $turn_id and status = 'running'`);
  const renewLeases = statement(
    "update turns set lease_until = $lease_until where status = 'running' and instance_id = $instance_id",
  );
  const finishTurn =
    statement(`update turns set status = $status, finish_reason = $finish_reason, model = $model,
    memories_used = $memories_used, prompt_tokens = $prompt_tokens, completion_tokens = $completion_tokens,
    total_tokens = $total_tokens, usage_estimated = $estimated, error_code = $error_code,
    error_message = $error_message, receipt = coalesce($receipt, receipt), to_remember = $to_remember and use_memory, ended_at = $now
    where id = $id and instance_id = $instance_id and status = 'running'
    returning n, user_message_n, use_memory, usage_n`);
  const finishReply = statement(`update messages set content = $content, status = $status, model = $model,
    sources = $sources, citations = $citations, tokens = $tokens where n = $n returning conversation_n`);
  const finishConversation = statement(`update conversations set active_turn_id = null,
    tokens_used = tokens_used + $tokens, updated_at = $now where n = $n returning user_n`);
  const patchConversation = statement(`update conversations set title = $title, metadata = $metadata,
    updated_at = $now where id = $id returning n`);
  const markDeleted = statement("update conversations set deleted = 1 where id = $id");
  const dropKeys = statement("delete from idempotency_keys where created_at < $before");
  const touch = statement(`insert into settings (name, value) values ('checked_at', $now)
    on conflict (name) do update set value = excluded.value`);

  const rememberKey = (idempotency: Idempotency | null, resourceId: string, now: number): void => {
    if (idempotency) insertKey.run({ ...idempotency, resource_id: resourceId, created_at: now });
  };

  /** The conversation that a turn is to go on with. */
  function freeConversation({ workspace_id }: Scope, { conversation_id: id, user_id }: TurnStart) {
    const found = findConversation.get({ id, workspace_id, user_id });
    if (found === null) throw unknownConversation();
    if (found.active_turn_id !== null) throw turnInProgress(found.active_turn_id as string);
    return found;
  }

  /**
   * What is to be indexed, kept until the transaction's end: FTS5 writes out all that it holds at every statement that may
   * be undone by itself, which made each turn a third dearer.
   */
  let toIndex: { n: number; user_n: number | null; content: string }[] = [];

  const operations = {
    ...memory.operations,
    ...documents,
    ...erase.operations,
    ...createKeyWrites(db),
    ...ledger.operations,
    ...budgets.operations,

    startTurn(scope: Scope, start: TurnStart): Omit<TurnStarted, "slots"> {
      const known = start.idempotency && reads.resourceOf(start.idempotency);
      if (known !== null) {
        const turn = reads.turn(scope, known);
        if (turn === null) throw madeAndDeleted("turn that this Idempotency-Key started");
        return { turn, replayed: true, seq: 0, budgets: [] };
      }
      const now = Math.floor(start.now_ms / 1000);
      const conversation_id = start.conversation_id ?? start.new_conversation_id;
      const found = start.conversation_id === null ? null : freeConversation(scope, start);
      const payers = { workspace_id: scope.workspace_id, user_id: start.user_id, key_id: start.key_id };
      const booking = budgets.book(payers, start.reservation, start.now_ms);
      let n: number;
      let user_n: number;
      let title = start.title;
      let count = 0;
      if (found === null) {
        user_n = ensureUser(scope.workspace_id, start.user_id, now);
        n = insertConversation.get({
          id: conversation_id,
          workspace_id: scope.workspace_id,
          user_id: start.user_id,
          user_n,
          title,
          metadata: JSON.stringify(start.metadata ?? {}),
          now,
          now_ms: start.now_ms,
        })!.n as number;
      } else {
        n = found.n as number;
        user_n = found.user_n as number;
        count = found.message_count as number;
        if (found.title !== null) title = found.title as string;
      }
      beginTurn.run({
        n,
        turn_id: start.turn_id,
        title,
        metadata: start.metadata && JSON.stringify(start.metadata),
        now,
        now_ms: start.now_ms,
      });
      const common = { conversation_n: n, turn_id: start.turn_id, now };
      const userMessage = insertMessage.run({
        ...common,
        id: start.user_message_id,
        seq: count + 1,
        role: "user",
        content: start.message,
        status: "completed",
        model: null,
        tokens: start.message_tokens,
      });
      const reply = insertMessage.run({
        ...common,
        id: start.message_id,
        seq: count + 2,
        role: "assistant",
        content: "",
        status: "running",
        model: start.model,
        tokens: 0,
      });
      insertTurn.run({
        n: reply.lastInsertRowid,
        id: start.turn_id,
        user_message_n: userMessage.lastInsertRowid,
        model: start.model,
        use_memory: Number(start.use_memory),
        instance_id: start.instance_id,
        lease_until: now + start.lease_seconds,
        usage_n: ledger.openEntry({
          workspace_id: scope.workspace_id,
          user_n,
          key_id: start.key_id,
          conversation_id,
          model: start.model,
          reserved_tokens: booking.reserved_tokens,
          reserved_nano_usd: booking.reserved_nano_usd,
          now,
        }),
        now,
      });
      budgets.reserve(payers, booking, start.now_ms);
      rememberKey(start.idempotency, start.turn_id, now);
      const turn = newTurn(start, conversation_id);
      return { turn, replayed: false, seq: count + 1, budgets: booking.states };
    },

    checkpointReplies(checkpoints: Checkpoint[]): void {
      for (const { drawn, ...reply } of checkpoints) {
        checkpointReply.run({
          ...reply,
          sources: drawn ? JSON.stringify(drawn.sources) : null,
          citations: drawn ? JSON.stringify(drawn.citations) : null,
        });
        if (drawn === undefined) continue;
        checkpointDrawn.run({
          turn_id: reply.turn_id,
          memories_used: JSON.stringify(drawn.memories_used),
          receipt: JSON.stringify(drawn.receipt),
        });
      }
    },

    renewLeases(instanceId: string, leaseUntil: number): void {
      renewLeases.run({ instance_id: instanceId, lease_until: leaseUntil });
    },

    endTurn(turnId: string, instanceId: string, end: TurnEnd, nowMs: number): boolean {
      const now = Math.floor(nowMs / 1000);
      const { prompt_tokens, completion_tokens, total_tokens, estimated } = end.usage;
      const ended = finishTurn.get({
        id: turnId,
        instance_id: instanceId,
        status: end.status,
        finish_reason: end.finish_reason,
        model: end.model,
        memories_used: JSON.stringify(end.memories_used),
        prompt_tokens,
        completion_tokens,
        total_tokens,
        estimated: Number(estimated),
        error_code: end.error?.code ?? null,
        error_message: end.error?.message ?? null,
        receipt: end.receipt && JSON.stringify(end.receipt),
        to_remember: Number(end.to_remember),
        now,
      });
      if (ended === null) return false;
      ledger.settleEntry(ended.usage_n as number, end);
      const reply = finishReply.get({
        n: ended.n!,
        content: end.response,
        status: end.status,
        model: end.model,
        sources: JSON.stringify(end.sources),
        citations: JSON.stringify(end.citations),
        tokens: end.response_tokens,
      })!;
      const { user_n } = finishConversation.get({ n: reply.conversation_n!, tokens: total_tokens, now })!;
      const inPrompt = end.receipt?.chosen.filter(({ section }) => section === "memories") ?? [];
      const ofUse = inPrompt.filter(({ score }) => score !== null && score > 0);
      useMemories(
        user_n as number,
        ofUse.map(({ id }) => id),
        now,
      );
      const recalledBy = ended.use_memory === 1 ? (user_n as number) : null;
      toIndex.push({
        n: ended.user_message_n as number,
        user_n: recalledBy,
        content: end.message,
      });
      toIndex.push({
        n: ended.n as number,
        user_n: end.reply_recallable ? recalledBy : null,
        content: end.response,
      });
      return true;
    },

    createConversation(scope: Scope, conversation: NewConversation) {
      const known = conversation.idempotency && reads.resourceOf(conversation.idempotency);
      if (known !== null) {
        const found = reads.conversation(scope, known);
        if (found === null) throw madeAndDeleted("conversation that this Idempotency-Key created");
        return { conversation: found, replayed: true };
      }
      const { id, user_id, title, metadata, now_ms } = conversation;
      const now = Math.floor(now_ms / 1000);
      const n = insertConversation.get({
        id,
        workspace_id: scope.workspace_id,
        user_id,
        user_n: ensureUser(scope.workspace_id, user_id, now),
        title,
        metadata: JSON.stringify(metadata),
        now,
        now_ms,
      })!.n!;
      if (title !== null) replaceTitleWords.run({ n, words: cutWords(title) });
      rememberKey(conversation.idempotency, id, now);
      return { conversation: reads.conversation(scope, id)!, replayed: false };
    },

    updateConversation(
      scope: Scope,
      id: string,
      patch: ConversationPatch,
      nowMs: number,
    ): ConversationRecord | null {
      const found = reads.conversation(scope, id);
      if (found === null) return null;
      const { title, metadata } = { ...found, ...patch };
      const now = Math.floor(nowMs / 1000);
      const { n } = patchConversation.get({ id, title, metadata: JSON.stringify(metadata), now })!;
      if (title !== found.title) {
        replaceTitleWords.run({ n: n!, words: cutWords(title ?? "") });
        erase.markUncleaned("title_words");
      }
      return reads.conversation(scope, id);
    },

    /** From now on nothing goes on with a conversation; false where there is none. */
    cutOffConversation(scope: Scope, id: string): boolean {
      const found = reads.conversation(scope, id);
      if (found === null) return false;
      if (found.active_turn_id !== null) throw turnInProgress(found.active_turn_id);
      markDeleted.run({ id });
      return true;
    },

    deleteIdempotencyKeys(before: number): void {
      dropKeys.run({ before });
    },

    check(nowMs: number): void {
      touch.run({ now: String(nowMs) });
    },
  };

  function complete(): void {
    for (const { n, user_n, content } of toIndex) indexMessage.run({ n, ...indexedMessage(user_n, content) });
    toIndex = [];
  }

  function forget(): void {
    toIndex = [];
  }

  return { operations, complete, forget };
}
