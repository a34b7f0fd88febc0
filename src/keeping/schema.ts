/** The lines of an export: what each kind of record is made of. What ids and counts refer to is checked where it is kept. */
import type { TSchema } from "@sinclair/typebox";
import { t } from "elysia";
import { type ErrorCode, errorCodes } from "../errors.ts";
import { id, integer, metadata, nullable, oneOf, strictObject, text, time } from "../http/strict.ts";
import type { ArchiveRecord, ArchiveRecordType } from "../storage/archive-store.ts";
import { type PromptSection, promptSections } from "../storage/store.ts";

const count = () => integer({ minimum: 0 });
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

const turn = strictObject({
  type: t.Literal("turn"),
  id: id("turn"),
  conversation_id: id("conversation"),
  status: oneOf(["running", "completed", "truncated", "filtered", "stopped", "failed", "interrupted"]),
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
  usage: strictObject({
    prompt_tokens: count(),
    completion_tokens: count(),
    total_tokens: count(),
    estimated: t.Boolean(),
  }),
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
};
