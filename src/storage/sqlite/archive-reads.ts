/** What an archive is made of: every kind of record, read in the order of its rows, so that it comes back in that order. */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { ErrorCode } from "../../errors.ts";
import { passagesPerRecord } from "../archive-rules.ts";
import type {
  ArchivedBudget,
  ArchivedConversation,
  ArchivedCounter,
  ArchivedDocument,
  ArchivedEntry,
  ArchivedMemory,
  ArchivedTurn,
  ArchivedUser,
  ArchivedWorkspace,
  ArchiveRecord,
} from "../archive-store.ts";
import type { MemoryRecord, ProfileRecord } from "../memory-store.ts";
import type { Spent } from "../usage-store.ts";
import { memoryColumns, profileColumns } from "./memory-reads.ts";
import { list, type TurnRow } from "./rows.ts";

interface ArchivedTurnRow
  extends Omit<TurnRow, "conversation_id" | "user_message_id" | "message_id" | "instance_id">,
    Spent {
  message_id: string;
  message_content: string;
  message_tokens: number;
  reply_id: string;
  reply_tokens: number;
  recallable: number;
  use_memory: number;
  to_remember: number;
  receipt: string | null;
  key_id: string | null;
}

interface DocumentRow extends Omit<ArchivedDocument, "type" | "revision"> {
  revision_n: number;
  revision_id: string;
  version: number;
  status: ArchivedDocument["revision"]["status"];
  media_type: string;
  metadata: string;
  content_hash: string;
  bytes: number;
  error_code: ErrorCode | null;
  error_message: string | null;
  begun_at: number;
  ended_at: number | null;
}

/** All records that a database holds, each after those that it names. Who is being erased isn't among them. */
export function* archiveRecords(db: Database): Generator<ArchiveRecord, void, void> {
  const reads = [workspaces, users, conversations, memories, documents, ledger, budgets, counters];
  for (const read of reads) yield* read(db);
}

/** How many documents have neither a text nor a failure yet. */
export const pendingDocuments = (db: Database): number =>
  db
    .query<{ count: number }, []>(
      `select count(*) as count from documents d where revision_n is null
       and (select status from document_revisions where document_n = d.n order by n desc limit 1) = 'processing'`,
    )
    .get()!.count;

const errorOf = (code: ErrorCode | null, message: string | null) =>
  code === null ? null : { code, message: message ?? "" };

function* workspaces(db: Database): Generator<ArchivedWorkspace> {
  const rows = db.query<Omit<ArchivedWorkspace, "type">, []>(
    "select id, name, created_at from workspaces order by id",
  );
  for (const row of rows.iterate()) yield { type: "workspace", ...row };
}

function* users(db: Database): Generator<ArchivedUser> {
  const rows = db.query<Omit<ProfileRecord, "metadata"> & { workspace_id: string; metadata: string }, []>(
    `select workspace_id, ${profileColumns} from users where user_id is not null order by n`,
  );
  for (const row of rows.iterate()) yield { type: "user", ...row, metadata: JSON.parse(row.metadata) };
}

function* conversations(db: Database): Generator<ArchivedConversation | ArchivedTurn> {
  const rows = db.query<
    Omit<ArchivedConversation, "type" | "metadata" | "title_given" | "summary"> & {
      n: number;
      metadata: string;
      title_given: number;
      summary: string;
      summary_tokens: number;
      summary_through_seq: number;
    },
    []
  >(`select c.n, c.id, c.workspace_id, c.user_id, c.title, c.metadata, c.summary, c.summary_tokens,
      c.summary_through_seq, c.created_at, c.updated_at, c.last_active_ms, coalesce(w.words, '') <> '' as title_given
    from conversations c join users u on u.n = c.user_n left join title_words w on w.rowid = c.n
    where c.deleted = 0 and u.user_id is not null order by c.n`);
  const turns = db.query<ArchivedTurnRow, SQLQueryBindings>(`select t.id, t.status, m.model, t.finish_reason,
      q.id as message_id, q.content as message_content, q.tokens as message_tokens,
      m.id as reply_id, m.content, m.tokens as reply_tokens, m.sources, m.citations,
      coalesce(i.scope, '') <> '' as recallable, t.memories_used, t.prompt_tokens, t.completion_tokens,
      t.total_tokens, t.usage_estimated, t.error_code, t.error_message, t.receipt, t.use_memory, t.to_remember,
      l.key_id, coalesce(l.cached_tokens, 0) as cached_tokens, coalesce(l.reasoning_tokens, 0) as reasoning_tokens,
      l.cost_nano_usd, l.first_token_ms, l.duration_ms, t.created_at, t.ended_at
    from messages m join turns t on t.n = m.n join messages q on q.n = t.user_message_n
      left join usage l on l.n = t.usage_n
      left join message_index i on i.rowid = m.n
    where m.conversation_n = $n and m.role = 'assistant' order by m.seq`);
  for (const row of rows.iterate()) {
    yield {
      type: "conversation",
      id: row.id,
      workspace_id: row.workspace_id,
      user_id: row.user_id,
      title: row.title,
      title_given: row.title_given === 1,
      metadata: JSON.parse(row.metadata),
      summary: { text: row.summary, tokens: row.summary_tokens, through_seq: row.summary_through_seq },
      created_at: row.created_at,
      updated_at: row.updated_at,
      last_active_ms: row.last_active_ms,
    };
    for (const turn of turns.iterate({ n: row.n })) yield toTurn(row.id, turn);
  }
}

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
    sources: list(row.sources),
    citations: list(row.citations),
    recallable: row.recallable === 1,
  },
  memories_used: list(row.memories_used),
  usage: {
    prompt_tokens: row.prompt_tokens,
    completion_tokens: row.completion_tokens,
    total_tokens: row.total_tokens,
    estimated: row.usage_estimated === 1,
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
  receipt: row.receipt === null ? null : JSON.parse(row.receipt),
  use_memory: row.use_memory === 1,
  to_remember: row.to_remember === 1,
  created_at: row.created_at,
  ended_at: row.ended_at,
});

function* memories(db: Database): Generator<ArchivedMemory> {
  const columns = memoryColumns.replace(/\w+/g, "m.$&");
  const rows = db.query<MemoryRecord & { workspace_id: string; user_id: string }, []>(
    `select u.workspace_id, u.user_id, ${columns} from memories m join users u on u.n = m.user_n
     where u.user_id is not null order by m.n`,
  );
  for (const row of rows.iterate()) yield { type: "memory", ...row };
}

function* documents(db: Database): Generator<ArchiveRecord> {
  const rows = db.query<
    DocumentRow,
    []
  >(`select d.id, d.workspace_id, u.user_id, d.collection, d.name, d.created_at,
      d.updated_at, r.n as revision_n, r.id as revision_id, r.version, r.status, r.media_type, r.metadata,
      r.content_hash, r.bytes, r.error_code, r.error_message, r.created_at as begun_at, r.ended_at
    from documents d left join users u on u.n = d.user_n join document_revisions r
      on r.n = coalesce(d.revision_n, (select max(n) from document_revisions where document_n = d.n))
    where r.status <> 'processing' and (d.user_n is null or u.user_id is not null) order by d.n`);
  const parts = db.query<{ start: number; text: string }, SQLQueryBindings>(
    "select start, text from document_parts where revision_n = $n order by start",
  );
  const passages = db.query<
    { start: number; end: number; heading: string; tokens: number },
    SQLQueryBindings
  >(
    "select start, end, heading, tokens from passages where revision_n = $n order by seq limit $limit offset $from",
  );
  for (const row of rows.iterate()) {
    yield toDocument(row);
    // What has failed may have left some of its text, which nobody has seen.
    if (row.status !== "ready") continue;
    const n = row.revision_n;
    for (const part of parts.iterate({ n })) yield { type: "document_text", document_id: row.id, ...part };
    for (let from = 0; ; from += passagesPerRecord) {
      const some = passages.all({ n, from, limit: passagesPerRecord });
      if (some.length > 0) yield { type: "document_passages", document_id: row.id, passages: some };
      if (some.length < passagesPerRecord) break;
    }
  }
}

const toDocument = (row: DocumentRow): ArchivedDocument => ({
  type: "document",
  id: row.id,
  workspace_id: row.workspace_id,
  user_id: row.user_id,
  collection: row.collection,
  name: row.name,
  created_at: row.created_at,
  updated_at: row.updated_at,
  revision: {
    id: row.revision_id,
    version: row.version,
    status: row.status,
    media_type: row.media_type,
    metadata: JSON.parse(row.metadata),
    content_hash: row.content_hash,
    bytes: row.bytes,
    error: errorOf(row.error_code, row.error_message),
    created_at: row.begun_at,
    ended_at: row.ended_at,
  },
});

/** What is no turn's that is in the archive. Of who is being erased it says as much as it will when they are. */
function* ledger(db: Database): Generator<ArchivedEntry> {
  const rows = db.query<Omit<ArchivedEntry, "type" | "estimated"> & { estimated: number }, []>(
    `select l.kind, l.workspace_id, u.user_id,
      case when u.user_id is null and l.key_id like 'token:%' then null else l.key_id end as key_id,
      case when u.user_id is null then null else l.conversation_id end as conversation_id, l.model,
      case l.status when 'running' then 'interrupted' else l.status end as status, l.prompt_tokens,
      l.completion_tokens, l.total_tokens, l.estimated, l.cached_tokens, l.reasoning_tokens, l.cost_nano_usd,
      l.first_token_ms, l.duration_ms, l.created_at
    from usage l left join users u on u.n = l.user_n
    where l.n not in (
      select t.usage_n from turns t join messages m on m.n = t.n join conversations c on c.n = m.conversation_n
        join users o on o.n = c.user_n
      where c.deleted = 0 and o.user_id is not null and t.usage_n is not null)
    order by l.n`,
  );
  for (const row of rows.iterate()) yield { type: "ledger_entry", ...row, estimated: row.estimated === 1 };
}

function* budgets(db: Database): Generator<ArchivedBudget> {
  const rows = db.query<Omit<ArchivedBudget, "type" | "limits"> & { limits: string }, []>(
    `select workspace_id, scope, subject, limits, created_at, updated_at from budgets
     order by workspace_id, scope, subject`,
  );
  for (const row of rows.iterate()) yield { type: "budget", ...row, limits: JSON.parse(row.limits) };
}

/** Without what running turns have reserved: where it is imported, none of them runs. */
function* counters(db: Database): Generator<ArchivedCounter> {
  const rows = db.query<Omit<ArchivedCounter, "type">, []>(
    `select scope, period, used_tokens, used_nano_usd from budget_counters
     where used_tokens > 0 or used_nano_usd > 0 order by scope, period`,
  );
  for (const row of rows.iterate()) yield { type: "budget_counter", ...row };
}
