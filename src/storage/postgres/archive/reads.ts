/** What an archive is made of: every kind of record, in the order of its rows, as the SQLite adapter reads it. */
import type { ErrorCode } from "../../../errors.ts";
import { passagesPerRecord } from "../../archive-rules.ts";
import type {
  ArchivedBudget,
  ArchivedConversation,
  ArchivedCounter,
  ArchivedDocument,
  ArchivedEntry,
  ArchivedMemory,
  ArchivedPassages,
  ArchivedText,
  ArchivedTurn,
  ArchivedUser,
  ArchivedWorkspace,
  ArchiveRecord,
} from "../../archive-store.ts";
import type { Spent } from "../../usage-store.ts";
import type { Bindings, Queries } from "../database.ts";
import type { TurnRow } from "../rows.ts";

/** Rows that are fetched at once: small ones, and those that come with texts. */
const rowsAtOnce = 256;
const textsAtOnce = 32;
/** Conversations whose turns are looked for at once. */
const conversationsAtOnce = 64;

/** All records that a database holds, each after those that it names. Who is being erased isn't among them. */
export async function* archiveRecords(queries: Queries): AsyncGenerator<ArchiveRecord, void, void> {
  const reads = [workspaces, users, conversations, memories, documents, ledger, budgets, counters];
  for (const read of reads) yield* read(queries);
}

/** How many documents have neither a text nor a failure yet. */
export async function pendingDocuments(queries: Queries): Promise<number> {
  const row = await queries.row<{ count: number }>(
    `select count(*)::float8 as count from documents d where revision_n is null
     and (select status from document_revisions where document_n = d.n order by n desc limit 1) = 'processing'`,
  );
  return row!.count;
}

/** The rows of a query, so many at a time, by a cursor of this name. */
async function* cursor<Row>(
  queries: Queries,
  name: string,
  atOnce: number,
  query: string,
  bindings: Bindings = {},
): AsyncGenerator<Row, void, void> {
  for await (const rows of fetched<Row>(queries, name, atOnce, query, bindings)) yield* rows;
}

/** The same, as they are fetched. */
async function* fetched<Row>(
  queries: Queries,
  name: string,
  atOnce: number,
  query: string,
  bindings: Bindings = {},
): AsyncGenerator<Row[], void, void> {
  await queries.rows(`declare ${name} no scroll cursor for ${query}`, bindings);
  for (let count = atOnce; count === atOnce; ) {
    const rows = await queries.rows<Row>(`fetch ${atOnce} from ${name}`);
    count = rows.length;
    if (count > 0) yield rows;
  }
  await queries.rows(`close ${name}`);
}

const errorOf = (code: ErrorCode | null, message: string | null) =>
  code === null ? null : { code, message: message ?? "" };

async function* workspaces(queries: Queries): AsyncGenerator<ArchivedWorkspace> {
  const rows = cursor<Omit<ArchivedWorkspace, "type">>(
    queries,
    "workspace_rows",
    rowsAtOnce,
    "select id, name, created_at::float8 from workspaces order by id",
  );
  for await (const row of rows) yield { type: "workspace", ...row };
}

async function* users(queries: Queries): AsyncGenerator<ArchivedUser> {
  const rows = cursor<Omit<ArchivedUser, "type">>(
    queries,
    "user_rows",
    rowsAtOnce,
    `select workspace_id, user_id, display_name, language, timezone, instructions, metadata, created_at::float8,
       updated_at::float8 from users where user_id is not null order by n`,
  );
  for await (const row of rows) yield { type: "user", ...row };
}

interface ConversationRow extends Omit<ArchivedConversation, "type" | "summary"> {
  n: string;
  summary: string;
  summary_tokens: number;
  summary_through_seq: number;
}

interface ArchivedTurnRow
  extends Omit<TurnRow, "conversation_id" | "user_message_id" | "message_id" | "instance_id">,
    Spent {
  conversation_n: string;
  message_id: string;
  message_content: string;
  message_tokens: number;
  reply_id: string;
  reply_tokens: number;
  recallable: boolean;
  use_memory: boolean;
  to_remember: boolean;
  receipt: ArchivedTurn["receipt"];
  key_id: string | null;
}

async function* conversations(queries: Queries): AsyncGenerator<ArchivedConversation | ArchivedTurn> {
  const batches = fetched<ConversationRow>(
    queries,
    "conversation_rows",
    conversationsAtOnce,
    `select c.n::text, c.id, c.workspace_id, c.user_id, c.title, t.n is not null as title_given, c.metadata, c.summary,
       c.summary_tokens, c.summary_through_seq, c.created_at::float8, c.updated_at::float8, c.last_active_ms::float8
     from conversations c join users u on u.n = c.user_n left join title_index t on t.n = c.n
     where not c.deleted and u.user_id is not null order by c.n`,
  );
  for await (const batch of batches) {
    // In the same order: those of each conversation come after it.
    const turns = turnsOf(
      queries,
      batch.map(({ n }) => n),
    );
    let next = await turns.next();
    for (const row of batch) {
      yield toConversation(row);
      for (; !next.done && next.value.conversation_n === row.n; next = await turns.next()) {
        yield toTurn(row.id, next.value);
      }
    }
  }
}

const toConversation = ({
  n: _,
  summary,
  summary_tokens,
  summary_through_seq,
  created_at,
  updated_at,
  last_active_ms,
  ...row
}: ConversationRow): ArchivedConversation => ({
  type: "conversation",
  ...row,
  summary: { text: summary, tokens: summary_tokens, through_seq: summary_through_seq },
  created_at,
  updated_at,
  last_active_ms,
});

const turnsOf = (queries: Queries, conversations: string[]) =>
  cursor<ArchivedTurnRow>(
    queries,
    "turn_rows",
    textsAtOnce,
    `select m.conversation_n::text, t.id, t.status, m.model, t.finish_reason,
       q.id as message_id, q.content as message_content, q.tokens as message_tokens,
       m.id as reply_id, m.content, m.tokens as reply_tokens, m.sources, m.citations,
       i.user_n is not null as recallable, t.memories_used, t.prompt_tokens, t.completion_tokens,
       t.total_tokens, t.usage_estimated, t.error_code, t.error_message, t.receipt, t.use_memory, t.to_remember,
       l.key_id, coalesce(l.cached_tokens, 0) as cached_tokens, coalesce(l.reasoning_tokens, 0) as reasoning_tokens,
       l.cost_nano_usd::float8, l.first_token_ms, l.duration_ms, t.created_at::float8, t.ended_at::float8
     from messages m join turns t on t.n = m.n join messages q on q.n = t.user_message_n
       left join usage l on l.n = t.usage_n
       left join message_index i on i.n = m.n
     where m.conversation_n = any($conversations::text[]::int8[]) and m.role = 'assistant'
     order by m.conversation_n, m.seq`,
    { conversations },
  );

const toTurn = (conversation_id: string, row: ArchivedTurnRow): ArchivedTurn => ({
  type: "turn",
  id: row.id,
  conversation_id,
  status: row.status,
  model: row.model,
  finish_reason: row.finish_reason,
  message: { id: row.message_id, content: row.message_content, tokens: row.message_tokens },
  reply: {
    id: row.reply_id,
    content: row.content,
    tokens: row.reply_tokens,
    sources: row.sources,
    citations: row.citations,
    recallable: row.recallable,
  },
  memories_used: row.memories_used,
  usage: {
    prompt_tokens: row.prompt_tokens,
    completion_tokens: row.completion_tokens,
    total_tokens: row.total_tokens,
    estimated: row.usage_estimated,
  },
  spent: {
    cached_tokens: row.cached_tokens,
    reasoning_tokens: row.reasoning_tokens,
    cost_nano_usd: row.cost_nano_usd,
    first_token_ms: row.first_token_ms,
    duration_ms: row.duration_ms,
  },
  key_id: row.key_id,
  error: errorOf(row.error_code, row.error_message),
  receipt: row.receipt,
  use_memory: row.use_memory,
  to_remember: row.to_remember,
  created_at: row.created_at,
  ended_at: row.ended_at,
});

async function* memories(queries: Queries): AsyncGenerator<ArchivedMemory> {
  const rows = cursor<Omit<ArchivedMemory, "type">>(
    queries,
    "memory_rows",
    rowsAtOnce,
    `select u.workspace_id, u.user_id, m.id, m.text, m.kind, m.slot, m.tokens, m.source_message_id, m.superseded_by,
       m.uses, m.used_at::float8, m.created_at::float8, m.updated_at::float8
     from memories m join users u on u.n = m.user_n where u.user_id is not null order by m.n`,
  );
  for await (const row of rows) yield { type: "memory", ...row };
}

interface DocumentRow extends Omit<ArchivedDocument, "type" | "revision"> {
  n: string;
  revision: Omit<ArchivedDocument["revision"], "error"> & {
    error_code: ErrorCode | null;
    error_message: string | null;
  };
}

async function* documents(
  queries: Queries,
): AsyncGenerator<ArchivedDocument | ArchivedText | ArchivedPassages> {
  const rows = cursor<DocumentRow>(
    queries,
    "document_rows",
    rowsAtOnce,
    `select r.n::text, d.id, d.workspace_id, u.user_id, d.collection, d.name, d.created_at::float8,
       d.updated_at::float8, json_build_object('id', r.id, 'version', r.version, 'status', r.status,
         'media_type', r.media_type, 'metadata', r.metadata, 'content_hash', r.content_hash, 'bytes', r.bytes,
         'error_code', r.error_code, 'error_message', r.error_message, 'created_at', r.created_at,
         'ended_at', r.ended_at) as revision
     from documents d left join users u on u.n = d.user_n join document_revisions r
       on r.n = coalesce(d.revision_n, (select max(n) from document_revisions where document_n = d.n))
     where r.status <> 'processing' and (d.user_n is null or u.user_id is not null) order by d.n`,
  );
  for await (const { n, revision, ...document } of rows) {
    const { error_code, error_message, created_at, ended_at, ...first } = revision;
    const error = errorOf(error_code, error_message);
    yield { type: "document", ...document, revision: { ...first, error, created_at, ended_at } };
    // What has failed may have left some of its text, which nobody has seen.
    if (revision.status === "ready") yield* textOf(queries, document.id, n);
  }
}

async function* textOf(
  queries: Queries,
  document_id: string,
  n: string,
): AsyncGenerator<ArchivedText | ArchivedPassages> {
  const parts = cursor<{ start: number; text: string }>(
    queries,
    "part_rows",
    textsAtOnce,
    "select start, text from document_parts where revision_n = $n::int8 order by start",
    { n },
  );
  for await (const part of parts) yield { type: "document_text", document_id, ...part };
  const passages = cursor<ArchivedPassages["passages"][number]>(
    queries,
    "passage_rows",
    passagesPerRecord,
    `select start, "end", heading, tokens from passages where revision_n = $n::int8 order by seq`,
    { n },
  );
  let some: ArchivedPassages["passages"] = [];
  for await (const passage of passages) {
    some.push(passage);
    if (some.length < passagesPerRecord) continue;
    yield { type: "document_passages", document_id, passages: some };
    some = [];
  }
  if (some.length > 0) yield { type: "document_passages", document_id, passages: some };
}

/** What is no turn's that is in the archive. Of who is being erased it says as much as it will when they are. */
async function* ledger(queries: Queries): AsyncGenerator<ArchivedEntry> {
  const rows = cursor<Omit<ArchivedEntry, "type">>(
    queries,
    "ledger_rows",
    rowsAtOnce,
    `select l.kind, l.workspace_id, u.user_id,
       case when u.user_id is null and l.key_id like 'token:%' then null else l.key_id end as key_id,
       case when u.user_id is null then null else l.conversation_id end as conversation_id, l.model,
       case l.status when 'running' then 'interrupted' else l.status end as status, l.prompt_tokens,
       l.completion_tokens, l.total_tokens, l.estimated, l.cached_tokens, l.reasoning_tokens, l.cost_nano_usd::float8,
       l.first_token_ms, l.duration_ms, l.created_at::float8
     from usage l left join users u on u.n = l.user_n
     where not exists (
       select from turns t join messages m on m.n = t.n join conversations c on c.n = m.conversation_n
         join users o on o.n = c.user_n
       where t.usage_n = l.n and not c.deleted and o.user_id is not null)
     order by l.n`,
  );
  for await (const row of rows) yield { type: "ledger_entry", ...row };
}

async function* budgets(queries: Queries): AsyncGenerator<ArchivedBudget> {
  const rows = cursor<Omit<ArchivedBudget, "type">>(
    queries,
    "budget_rows",
    rowsAtOnce,
    `select workspace_id, scope, subject, limits, created_at::float8, updated_at::float8 from budgets
     order by workspace_id, scope, subject`,
  );
  for await (const row of rows) yield { type: "budget", ...row };
}

/** Without what running turns have reserved: where it is imported, none of them runs. */
async function* counters(queries: Queries): AsyncGenerator<ArchivedCounter> {
  const rows = cursor<Omit<ArchivedCounter, "type">>(
    queries,
    "counter_rows",
    rowsAtOnce,
    `select scope, period, used_tokens::float8, used_nano_usd::float8 from budget_counters
     where used_tokens > 0 or used_nano_usd > 0 order by scope, period`,
  );
  for await (const row of rows) yield { type: "budget_counter", ...row };
}
