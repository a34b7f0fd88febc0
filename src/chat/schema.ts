/** What the chat routes take and give. */
import { type Static, t } from "elysia";
import type { Limits } from "../config.ts";
import { errorCodes } from "../errors.ts";
import {
  id,
  idParam,
  integer,
  metadata,
  nullable,
  strictObject,
  text,
  time,
} from "../http/strict.ts";

export const userId = () =>
  text({
    minLength: 1,
    maxLength: 256,
    description: "The end user, in whatever form your system names users.",
    examples: ["ada"],
  });

const conversationId = () =>
  idParam({ description: "The conversation to go on with. Leave it out to start a new conversation." });

const message = (limits: Limits) =>
  text({
    minLength: 1,
    maxLength: limits.messageCharsMax,
    pattern: "\\S",
    description: "What the user says, in UTF-16 code units at most as long as configured.",
    examples: ["What is the tallest mountain on Earth?"],
  });

export const chatRequest = (limits: Limits) =>
  strictObject(
    {
      message: message(limits),
      user_id: userId(),
      conversation_id: t.Optional(nullable(conversationId())),
      metadata: t.Optional(nullable(metadata())),
      model: t.Optional(
        nullable(
          text({ minLength: 1, maxLength: 200, description: "A model other than the configured one." }),
        ),
      ),
      temperature: t.Optional(nullable(t.Number({ minimum: 0, maximum: 2 }))),
      max_tokens: t.Optional(
        nullable(integer({ minimum: 1, maximum: 1_000_000, description: "Tokens of the reply at most." })),
      ),
      collections: t.Optional(
        nullable(
          t.Array(text({ minLength: 1, maxLength: 200 }), {
            maxItems: 64,
            description:
              "Collections of documents to answer from. No documents are kept yet: nothing is found in any.",
          }),
        ),
      ),
      use_memory: t.Optional(
        nullable(
          t.Boolean({
            description: "Whether memory may be used. No memory is kept yet: false changes nothing.",
          }),
        ),
      ),
    },
    { title: "ChatRequest" },
  );
export type ChatRequest = Static<ReturnType<typeof chatRequest>>;

export const chatStreamQuery = (limits: Limits) =>
  strictObject({
    message: message(limits),
    user_id: userId(),
    conversation_id: t.Optional(conversationId()),
    idempotency_key: t.Optional(
      t.String({
        pattern: "^[\\x21-\\x7e]{1,255}$",
        description: "Does what the Idempotency-Key header does.",
      }),
    ),
  });

export const turnParams = strictObject({ id: idParam({ description: "The turn." }) });

export const turnStreamQuery = strictObject({
  after: t.Optional(
    t.String({
      pattern: "^(turn_[0-9a-f-]{36}:)?(\\d{1,15}|end)$",
      description: "Resume after this offset, or after this event id, where Last-Event-ID can't be sent.",
      examples: ["120"],
    }),
  ),
  ticket: t.Optional(
    text({ maxLength: 200, description: "The ticket of a `stream_url`, in place of a key." }),
  ),
});

export const usage = strictObject(
  {
    prompt_tokens: integer({ minimum: 0 }),
    completion_tokens: integer({ minimum: 0 }),
    total_tokens: integer({ minimum: 0 }),
    estimated: t.Boolean({ description: "Whether Parley counted, because the provider didn't." }),
  },
  { title: "Usage" },
);

export const citation = strictObject(
  {
    document_id: t.String(),
    name: t.String(),
    quote: t.String({ description: "Exactly the document's text from start to end." }),
    start: integer({ minimum: 0 }),
    end: integer({ minimum: 0 }),
    score: t.Number(),
  },
  { title: "Citation" },
);

const sources = () => t.Array(t.String(), { description: "Names of the cited documents." });
const endStatus = ["completed", "truncated", "filtered", "stopped", "failed", "interrupted"] as const;

export const turnStatus = t.UnionEnum(["running", ...endStatus], {
  description:
    "How the turn stands: running; completed; truncated (length limit); filtered; stopped (by the user); failed (the model did); interrupted (its process died or shut down).",
});

export const finishReason = nullable(t.UnionEnum(["stop", "length", "content_filter"]), {
  description: "Why the model ended; null where it gave no reason.",
});

export const turnError = nullable(
  strictObject({ code: t.UnionEnum(errorCodes as [string, ...string[]]), message: t.String() }),
);

export const chatResponse = strictObject(
  {
    response: t.String({ description: "The whole reply.", examples: ["Mount Everest, at 8,849 m."] }),
    conversation_id: id("conversation"),
    turn_id: id("turn"),
    message_id: id("message", { description: "The reply as a message of the conversation." }),
    status: t.UnionEnum(endStatus),
    finish_reason: finishReason,
    model: t.String({ description: "The model that wrote the reply." }),
    sources: sources(),
    citations: t.Array(citation),
    memories_used: t.Array(t.String()),
    tokens_used: integer({ minimum: 0, description: "The same as usage.total_tokens." }),
    usage,
  },
  { title: "ChatResponse" },
);
export type ChatResponse = Static<typeof chatResponse>;

const turnProperties = {
  id: id("turn"),
  object: t.Literal("turn"),
  conversation_id: id("conversation"),
  user_message_id: id("message"),
  message_id: id("message", { description: "The reply as a message of the conversation." }),
  status: turnStatus,
  response: t.String({ description: "The reply so far." }),
  length: integer({ minimum: 0, description: "Its length in UTF-16 code units." }),
  finish_reason: finishReason,
  model: t.String(),
  sources: sources(),
  citations: t.Array(citation),
  memories_used: t.Array(t.String()),
  tokens_used: integer({ minimum: 0 }),
  usage,
  error: turnError,
  created_at: time(),
  ended_at: nullable(time()),
};

export const turn = strictObject(turnProperties, { title: "Turn" });
export type Turn = Static<typeof turn>;

export const startedTurn = strictObject(
  {
    ...turnProperties,
    stream_url: t.String({
      description:
        "Where to watch the turn. A plain EventSource can open it: it carries a ticket for this turn alone.",
    }),
  },
  { title: "StartedTurn" },
);

export const messageRecord = strictObject(
  {
    id: id("message"),
    object: t.Literal("message"),
    conversation_id: id("conversation"),
    turn_id: id("turn"),
    seq: integer({ minimum: 1, description: "The message's place in its conversation." }),
    role: t.UnionEnum(["user", "assistant"]),
    content: t.String(),
    status: turnStatus,
    model: nullable(t.String()),
    sources: sources(),
    citations: t.Array(citation),
    tokens: integer({ minimum: 0 }),
    created_at: time(),
  },
  { title: "Message" },
);
export type Message = Static<typeof messageRecord>;
