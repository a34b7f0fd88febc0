/** The lines of an export: what each kind of record is made of. What ids and counts refer to is checked where it is kept. */
import type { TSchema } from "@sinclair/typebox";
import { t } from "elysia";
import { type ErrorCode, errorCodes } from "../errors.ts";
import { id, integer, metadata, nullable, oneOf, strictObject, text } from "../http/strict.ts";
import type { ArchiveRecord, ArchiveRecordType } from "../storage/archive-store.ts";
import { budgetScopes } from "../storage/budget-store.ts";
import { type PromptSection, promptSections } from "../storage/store.ts";

/** No store holds more, as a whole number that JavaScript reads. */
const count = () => integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** Unix seconds. */
const time = count;
const name = () => text({ minLength: 1 });

const error = () =>
  nullable(strictObject({ code: oneOf(errorCodes as [ErrorCode, ...ErrorCode[]]), message: text() }));

const citation = strictObject({
  document_id: text(),
  name: text(),
  quote: text(),
  start: count(),
  end: count(),
  score: t.Number(),
});

const receiptEntry = strictObject({
  section: oneOf(["memories", "recall", "passages", "window"]),
  id: text(),
  tokens: count(),
  score: nullable(t.Number()),
});

const receipt = strictObject({
  tokens: strictObject(
    Object.fromEntries(promptSections.map((section) => [section, count()])) as Record<
      PromptSection,
      ReturnType<typeof count>
    >,
  ),
  chosen: t.Array(receiptEntry),
  dropped: t.Array(receiptEntry),
});

const workspace = strictObject({
  type: t.Literal("workspace"),
  id: name(),
  name: text(),
  created_at: time(),
});

const user = strictObject({
  type: t.Literal("user"),
  workspace_id: name(),
  user_id: name(),
  display_name: nullable(text()),
  language: nullable(text()),
  timezone: nullable(text()),
  instructions: nullable(text()),
  metadata: metadata(),
  created_at: time(),
  updated_at: time(),
});

const conversation = strictObject({
  type: t.Literal("conversation"),
  id: id("conversation"),
  workspace_id: name(),
  user_id: name(),
  title: nullable(text()),
  title_given: t.Boolean(),
  metadata: metadata(),
  summary: strictObject({ text: text(), tokens: count(), through_seq: count() }),
  created_at: time(),
  updated_at: time(),
  last_active_ms: count(),
});

const endStatuses = ["completed", "truncated", "filtered", "stopped", "failed", "interrupted"] as const;

const usage = {
  prompt_tokens: count(),
  completion_tokens: count(),
  total_tokens: count(),
  estimated: t.Boolean(),
};

const spent = {
  cached_tokens: count(),
  reasoning_tokens: count(),
  cost_nano_usd: nullable(count()),
  first_token_ms: nullable(count()),
  duration_ms: nullable(count()),
};

const turn = strictObject({
  type: t.Literal("turn"),
  id: id("turn"),
  conversation_id: id("conversation"),
  status: oneOf(["running", ...endStatuses]),
  model: text(),
  finish_reason: nullable(oneOf(["stop", "length", "content_filter"])),
  message: strictObject({ id: id("message"), content: text(), tokens: count() }),
  reply: strictObject({
    id: id("message"),
    content: text(),
    tokens: count(),
    sources: t.Array(text()),
    citations: t.Array(citation),
    recallable: t.Boolean(),
  }),
  memories_used: t.Array(text()),
  usage: strictObject(usage),
  spent: strictObject(spent),
  key_id: nullable(name()),
  error: error(),
  receipt: nullable(receipt),
  use_memory: t.Boolean(),
  to_remember: t.Boolean(),
  created_at: time(),
  ended_at: nullable(time()),
});

const memory = strictObject({
  type: t.Literal("memory"),
  workspace_id: name(),
  user_id: name(),
  id: id("memory"),
  text: text(),
  kind: oneOf(["fact", "preference", "instruction", "event"]),
  slot: nullable(text()),
  tokens: count(),
  source_message_id: nullable(id("message")),
  superseded_by: nullable(id("memory")),
  uses: count(),
  used_at: nullable(time()),
  created_at: time(),
  updated_at: time(),
});

const document = strictObject({
  type: t.Literal("document"),
  id: id("document"),
  workspace_id: name(),
  user_id: nullable(name()),
  collection: name(),
  name: name(),
  created_at: time(),
  updated_at: time(),
  revision: strictObject({
    id: id("revision"),
    version: integer({ minimum: 1 }),
    status: oneOf(["ready", "failed"]),
    media_type: text(),
    metadata: metadata(),
    content_hash: text(),
    bytes: count(),
    error: error(),
    created_at: time(),
    ended_at: nullable(time()),
  }),
});

const documentText = strictObject({
  type: t.Literal("document_text"),
  document_id: id("document"),
  start: count(),
  text: text({ minLength: 1 }),
});

const documentPassages = strictObject({
  type: t.Literal("document_passages"),
  document_id: id("document"),
  passages: t.Array(strictObject({ start: count(), end: count(), heading: text(), tokens: count() })),
});

const ledgerEntry = strictObject({
  type: t.Literal("ledger_entry"),
  kind: oneOf(["turn", "memory", "summary"]),
  workspace_id: name(),
  user_id: nullable(name()),
  key_id: nullable(name()),
  conversation_id: nullable(id("conversation")),
  model: text(),
  status: oneOf([...endStatuses]),
  ...usage,
  ...spent,
  created_at: time(),
});

const limit = () => t.Optional(nullable(count()));

const budget = strictObject({
  type: t.Literal("budget"),
  workspace_id: name(),
  scope: oneOf([...budgetScopes]),
  subject: name(),
  limits: strictObject({
    tokens_day: limit(),
    tokens_month: limit(),
    nano_usd_day: limit(),
    nano_usd_month: limit(),
  }),
  created_at: time(),
  updated_at: time(),
});

const budgetCounter = strictObject({
  type: t.Literal("budget_counter"),
  scope: text({ pattern: "^[A-Za-z0-9_-]{22}$" }),
  period: text({ pattern: "^\\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\\d|3[01]))?$" }),
  used_tokens: count(),
  used_nano_usd: count(),
});

type SchemaOf<Type> = TSchema & { static: Extract<ArchiveRecord, { type: Type }> };

/** The schema of each kind of record. */
export const recordSchemas: { [Type in ArchiveRecordType]: SchemaOf<Type> } = {
  workspace,
  user,
  conversation,
  turn,
  memory,
  document,
  document_text: documentText,
  document_passages: documentPassages,
  ledger_entry: ledgerEntry,
  budget,
  budget_counter: budgetCounter,
};
