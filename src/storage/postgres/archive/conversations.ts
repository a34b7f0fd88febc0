/** The conversations of an archive, with their turns: see writes.ts. */
import {
  answerToTurn,
  type ConversationGroup,
  faultOfEnd,
  foundAs,
  messageTwice,
  otherTurn,
  unknownUser,
} from "../../archive-rules.ts";
import type { ArchivedConversation, ArchivedTurn } from "../../archive-store.ts";
import { type Queries, toJson } from "../database.ts";
import { messageLexemes, titleLexemes } from "../indexed.ts";
import { type Keepers, type LastRows, userN } from "./context.ts";
import type { LedgerKeepers } from "./ledger.ts";

/** Messages that are indexed at once, and about how many characters of them. */
const indexedAtOnce = 128;
const indexedCharsMax = 500_000;

interface Indexed {
  n: number;
  recallable: boolean;
  words: string;
  terms: string;
}

/** @param turnEntry makes a turn's row of the ledger */
export function createConversationKeepers(
  { rows, row }: Queries,
  before: LastRows,
  turnEntry: LedgerKeepers["turnEntry"],
) {
  let group: ConversationGroup | null = null;
  let toIndex: Indexed[] = [];
  let charsToIndex = 0;

  const keepers: Keepers<"conversation" | "turn"> = {
    async conversation({ type: _, title_given, metadata, summary, ...conversation }: ArchivedConversation) {
      const { id, workspace_id, user_id, title } = conversation;
      const there = await row<{ n: number | null; user_n: number | null }>(
        `select (select n::float8 from conversations where id = $id) as n, ${userN}`,
        { id, workspace_id, user_id },
      );
      const known = foundAs(there!.n, before.conversations);
      const begun = { id, workspace_id, messages: 0, tokens: 0, running: null };
      if (known === "known") group = { ...begun, isNew: false, n: 0, user_n: 0, covered: 0 };
      if (known !== null) return known;
      const { user_n } = there!;
      if (user_n === null) return unknownUser;
      const made = await row<{ n: number }>(
        `insert into conversations (id, workspace_id, user_id, user_n, title, metadata, summary, summary_tokens,
           summary_through_seq, created_at, updated_at, last_active_ms)
         values ($id, $workspace_id, $user_id, $user_n::int8, $title, $metadata::text::json, $summary,
           $summary_tokens::int4, $through_seq::int4, $created_at::int8, $updated_at::int8, $last_active_ms::int8)
         returning n::float8`,
        {
          ...conversation,
          user_n,
          metadata: toJson(metadata),
          summary: summary.text,
          summary_tokens: summary.tokens,
          through_seq: summary.through_seq,
        },
      );
      const { n } = made!;
      if (title_given && title !== null) {
        await rows("select index_title($n::int8, $words)", { n, words: titleLexemes(title) });
      }
      group = { ...begun, isNew: true, n, user_n, covered: summary.through_seq };
      return "kept";
    },

    async turn(turn: ArchivedTurn) {
      const answer = answerToTurn(group, turn);
      if (answer !== null) return answer;
      const there = await row<{ known: boolean; noted: number }>(
        `with noted as (
           insert into imported_messages values ($message_id), ($reply_id) on conflict do nothing returning 1)
         select exists (select from turns where id = $id) as known, (select count(*)::int4 from noted) as noted`,
        { id: turn.id, message_id: turn.message.id, reply_id: turn.reply.id },
      );
      if (there!.known) return otherTurn;
      if (there!.noted < 2) return messageTwice;
      await keepTurn(group!, turn);
      return "kept";
    },
  };

  async function keepTurn(conversation: ConversationGroup, turn: ArchivedTurn): Promise<void> {
    const { id, model, status, finish_reason, message, reply, usage, error, receipt, created_at, ended_at } =
      turn;
    const { workspace_id, user_n } = conversation;
    const usage_n = await turnEntry({
      workspace_id,
      user_n,
      key_id: turn.key_id,
      conversation_id: conversation.id,
      model,
      status,
      ...usage,
      ...turn.spent,
      created_at,
    });
    const made = await row<{ question: number; n: number }>(
      `with kept as (
         insert into messages (id, conversation_n, turn_id, seq, role, content, status, model, sources, citations, tokens,
           created_at)
         values ($message_id, $conversation_n::int8, $id, $seq::int4, 'user', $message, 'completed', null, '[]', '[]',
             $message_tokens::int4, $created_at::int8),
           ($reply_id, $conversation_n::int8, $id, $seq::int4 + 1, 'assistant', $reply, $status, $model,
             $sources::text::json, $citations::text::json, $reply_tokens::int4, $created_at::int8)
         returning n, role),
       both_rows as (
         select max(n) filter (where role = 'user') as question, max(n) filter (where role = 'assistant') as n from kept)
       insert into turns (n, id, user_message_n, status, model, finish_reason, memories_used, prompt_tokens,
         completion_tokens, total_tokens, usage_estimated, error_code, error_message, receipt, use_memory, to_remember,
         instance_id, lease_until, usage_n, created_at, ended_at)
       select n, $id, question, $status, $model, $finish_reason, $memories_used::text::json, $prompt_tokens::int4,
         $completion_tokens::int4, $total_tokens::int4, $estimated::boolean, $error_code, $error_message,
         $receipt::text::json, $use_memory::boolean, $to_remember::boolean, 'imported', to_timestamp(0), $usage_n::int8,
         $created_at::int8, $ended_at::int8 from both_rows
       returning user_message_n::float8 as question, n::float8`,
      {
        id,
        conversation_n: conversation.n,
        seq: conversation.messages + 1,
        message_id: message.id,
        message: message.content,
        message_tokens: message.tokens,
        reply_id: reply.id,
        reply: reply.content,
        reply_tokens: reply.tokens,
        sources: toJson(reply.sources),
        citations: toJson(reply.citations),
        status,
        model,
        finish_reason,
        memories_used: toJson(turn.memories_used),
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.total_tokens,
        estimated: usage.estimated,
        error_code: error?.code ?? null,
        error_message: error?.message ?? null,
        receipt: receipt && toJson(receipt),
        use_memory: turn.use_memory,
        to_remember: turn.to_remember,
        usage_n,
        created_at,
        ended_at,
      },
    );
    conversation.messages += 2;
    conversation.tokens += usage.total_tokens;
    if (status === "running") {
      // It is indexed when it is ended, which an instance does that finds its owner dead.
      conversation.running = id;
      await rows("insert into instances values ('imported', to_timestamp(0)) on conflict do nothing");
      return;
    }
    const { question, n } = made!;
    await index(question, turn.use_memory, message.content);
    await index(n, turn.use_memory && reply.recallable, reply.content);
  }

  async function index(n: number, recallable: boolean, content: string): Promise<void> {
    toIndex.push({ n, recallable, ...messageLexemes(content) });
    charsToIndex += content.length;
    if (toIndex.length >= indexedAtOnce || charsToIndex >= indexedCharsMax) await writeIndex();
  }

  async function writeIndex(): Promise<void> {
    if (toIndex.length === 0) return;
    await rows(
      `select index_message(m.n, m.recallable, m.words, m.terms)
       from json_to_recordset($messages::text::json) m (n bigint, recallable boolean, words text, terms text)`,
      { messages: toJson(toIndex) },
    );
    toIndex = [];
    charsToIndex = 0;
  }

  /** Completes the conversation that has come to its end; why that can't be done, or null. */
  async function end(): Promise<string | null> {
    const ended = group;
    group = null;
    if (ended === null || !ended.isNew) return null;
    const { n, messages, tokens, running } = ended;
    await rows(
      `update conversations set message_count = $messages::int4, tokens_used = $tokens::int8, active_turn_id = $running
       where n = $n::int8`,
      { n, messages, tokens, running },
    );
    return faultOfEnd(ended);
  }

  return { keepers, end, writeIndex };
}
