/** The conversations of an archive, with their turns: see archive-writes.ts. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import { cutWords } from "../../search/words.ts";
import {
  answerToTurn,
  type ConversationGroup,
  faultOfEnd,
  messageTwice,
  otherTurn,
  unknownUser,
} from "../archive-rules.ts";
import type { ArchivedConversation, ArchivedTurn } from "../archive-store.ts";
import type { ArchiveContext, Keepers } from "./archive-context.ts";
import type { LedgerKeepers } from "./archive-ledger.ts";
import { indexedMessage } from "./indexed.ts";

/** @param turnEntry makes a turn's row of the ledger */
export function createConversationKeepers(
  db: Database,
  { found, userOf, index }: ArchiveContext,
  turnEntry: LedgerKeepers["turnEntry"],
) {
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);
  const findConversation = statement("select n from conversations where id = $id");
  const insertConversation = statement(`insert into conversations
    (id, workspace_id, user_id, user_n, title, metadata, summary, summary_tokens, summary_through_seq, created_at,
      updated_at, last_active_ms)
    values ($id, $workspace_id, $user_id, $user_n, $title, $metadata, $summary, $summary_tokens, $through_seq,
      $created_at, $updated_at, $last_active_ms) returning n`);
  const completeConversation =
    statement(`update conversations set message_count = $messages, tokens_used = $tokens,
    active_turn_id = $running where n = $n`);
  const insertMessage = statement(`insert into messages
    (id, conversation_n, turn_id, seq, role, content, status, model, sources, citations, tokens, created_at)
    values ($id, $conversation_n, $turn_id, $seq, $role, $content, $status, $model, $sources, $citations, $tokens,
      $created_at) returning n`);
  const findTurn = statement("select n from turns where id = $id");
  const insertTurn = statement(`insert into turns
    (n, id, user_message_n, status, model, finish_reason, memories_used, prompt_tokens, completion_tokens,
      total_tokens, usage_estimated, error_code, error_message, receipt, use_memory, to_remember, instance_id,
      lease_until, usage_n, created_at, ended_at)
    values ($n, $id, $user_message_n, $status, $model, $finish_reason, $memories_used, $prompt_tokens,
      $completion_tokens, $total_tokens, $estimated, $error_code, $error_message, $receipt, $use_memory, $to_remember,
      'imported', 0, $usage_n, $created_at, $ended_at)`);
  const indexMessage = statement(
    "insert into message_index (rowid, scope, words, terms) values ($n, $scope, $words, $terms)",
  );
  const indexTitle = statement("insert into title_words (rowid, words) values ($n, $words)");
  // Messages are found by nothing that would tell one that is there twice.
  db.run("create temp table imported_messages (id text primary key) strict, without rowid");
  const noteMessage = statement("insert into temp.imported_messages values ($id) on conflict do nothing");

  let group: ConversationGroup | null = null;

  const keepers: Keepers<"conversation" | "turn"> = {
    conversation({ type: _, title_given, metadata, summary, ...conversation }: ArchivedConversation) {
      const { id, workspace_id, user_id, title } = conversation;
      const known = found("conversations", findConversation.get({ id }));
      const begun = { id, workspace_id, messages: 0, tokens: 0, running: null };
      if (known === "known") group = { ...begun, isNew: false, n: 0, user_n: 0, covered: 0 };
      if (known !== null) return known;
      const user_n = userOf(workspace_id, user_id);
      if (user_n === null) return unknownUser;
      const { text, tokens, through_seq } = summary;
      const n = insertConversation.get({
        ...conversation,
        user_n,
        metadata: JSON.stringify(metadata),
        summary: text,
        summary_tokens: tokens,
        through_seq,
      })!.n as number;
      if (title_given && title !== null) index(() => indexTitle.run({ n, words: cutWords(title) }));
      group = { ...begun, isNew: true, n, user_n, covered: through_seq };
      return "kept";
    },

    turn(turn: ArchivedTurn) {
      const answer = answerToTurn(group, turn);
      if (answer !== null) return answer;
      if (findTurn.get({ id: turn.id }) !== null) return otherTurn;
      for (const { id } of [turn.message, turn.reply]) {
        if (noteMessage.run({ id }).changes === 0) return messageTwice;
      }
      keepTurn(group!, turn);
      return "kept";
    },
  };

  function keepTurn(conversation: ConversationGroup, turn: ArchivedTurn): void {
    const { id, model, status, finish_reason, message, reply, usage, error, receipt, created_at, ended_at } =
      turn;
    const { workspace_id, user_n } = conversation;
    const common = { conversation_n: conversation.n, turn_id: id, created_at };
    const question = insertMessage.get({
      ...common,
      ...message,
      seq: ++conversation.messages,
      role: "user",
      status: "completed",
      model: null,
      sources: "[]",
      citations: "[]",
    })!.n as number;
    const n = insertMessage.get({
      ...common,
      id: reply.id,
      content: reply.content,
      tokens: reply.tokens,
      seq: ++conversation.messages,
      role: "assistant",
      status,
      model,
      sources: JSON.stringify(reply.sources),
      citations: JSON.stringify(reply.citations),
    })!.n as number;
    const { prompt_tokens, completion_tokens, total_tokens, estimated } = usage;
    const usage_n = turnEntry({
      workspace_id,
      user_n,
      key_id: turn.key_id,
      conversation_id: conversation.id,
      model,
      status,
      ...usage,
      ...turn.spent,
      estimated: Number(estimated),
      created_at,
    });
    insertTurn.run({
      n,
      id,
      user_message_n: question,
      status,
      model,
      finish_reason,
      memories_used: JSON.stringify(turn.memories_used),
      prompt_tokens,
      completion_tokens,
      total_tokens,
      estimated: Number(estimated),
      error_code: error?.code ?? null,
      error_message: error?.message ?? null,
      receipt: receipt && JSON.stringify(receipt),
      use_memory: Number(turn.use_memory),
      to_remember: Number(turn.to_remember),
      usage_n,
      created_at,
      ended_at,
    });
    conversation.tokens += total_tokens;
    if (status === "running") {
      // It is indexed when it is ended.
      conversation.running = id;
      return;
    }
    const recalledBy = turn.use_memory ? user_n : null;
    addMessage(question, recalledBy, message.content);
    addMessage(n, reply.recallable ? recalledBy : null, reply.content);
  }

  function addMessage(n: number, user_n: number | null, content: string): void {
    index(() => indexMessage.run({ n, ...indexedMessage(user_n, content) }));
  }

  /** Completes the conversation that has come to its end; why that can't be done, or null. */
  function end(): string | null {
    const ended = group;
    group = null;
    if (ended === null || !ended.isNew) return null;
    const { n, messages, tokens, running } = ended;
    completeConversation.run({ n, messages, tokens, running });
    return faultOfEnd(ended);
  }

  return { keepers, end };
}
