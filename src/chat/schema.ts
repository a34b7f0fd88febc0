/** What the chat routes take and give. */
import { type Static, t } from "elysia";
import type { Limits } from "../config.ts";
import { errorCodes } from "../errors.ts";
import { exampleIds } from "../http/docs.ts";
import { idempotencyKeyPattern, userIdPattern } from "../http/faults.ts";
import { id, idParam, integer, metadata, nullable, strictObject, text, time } from "../http/strict.ts";
import { idSource } from "../ids.ts";
import { type PromptSection, promptSections } from "../storage/store.ts";

export const userId = () =>
  text({
    minLength: 1,
    maxLength: 256,
    pattern: userIdPattern,
    description: "The end user, in whatever form your system names users, except `.` and `..`.",
    examples: ["ada"],
  });

const conversationId = () =>
  text({
    maxLength: 200,
    description: "The conversation to go on with. Leave it out to start a new conversation.",
  });

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
      temperature: t.Optional(
        nullable(
          t.Number({ minimum: 0, maximum: 2, description: "How freely the model chooses its words." }),
        ),
      ),
      max_tokens: t.Optional(
        nullable(integer({ minimum: 1, maximum: 1_000_000, description: "Tokens of the reply at most." })),
      ),
      collections: t.Optional(
        nullable(
          t.Array(text({ minLength: 1, maxLength: 200 }), {
            maxItems: 64,
            description:
              "Collections of documents to answer from; left out, all are searched, and an empty list searches none.",
          }),
        ),
      ),
      use_memory: t.Optional(
        nullable(
          t.Boolean({
            description:
              "False: this turn neither reads memories and earlier conversations, nor is it remembered for later ones.",
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
        pattern: idempotencyKeyPattern,
        description: "Does what the Idempotency-Key header does.",
      }),
    ),
  });

export const turnParams = strictObject({
  id: idParam({ description: "The turn.", examples: [exampleIds.turn] }),
});

export const turnStreamQuery = strictObject({
  after: t.Optional(
    t.String({
      pattern: `^(${idSource("turn")}:)?(\\d{1,15}|end)$`,
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
    prompt_tokens: integer({ minimum: 0, description: "What the model read." }),
    completion_tokens: integer({ minimum: 0, description: "What the model wrote." }),
    total_tokens: integer({ minimum: 0, description: "Both." }),
    estimated: t.Boolean({ description: "Whether Parley counted, because the provider didn't." }),
  },
  { title: "Usage" },
);

export const citation = strictObject(
  {
    document_id: t.String(),
    name: t.String({ description: "The document's name." }),
    quote: t.String({ description: "Exactly the document's text from start to end." }),
    start: integer({ minimum: 0, description: "In UTF-16 code units." }),
    end: integer({ minimum: 0, description: "In UTF-16 code units, exclusive." }),
    score: t.Number({ description: "How well the passage fits, higher is better." }),
  },
  { title: "Citation" },
);

const sources = () => t.Array(t.String(), { description: "Names of the cited documents." });
const memoriesUsed = () => t.Array(t.String(), { description: "Ids of the memories that the prompt held." });
const endStatus = ["completed", "truncated", "filtered", "stopped", "failed", "interrupted"] as const;

export const turnStatus = t.UnionEnum(["running", ...endStatus], {
  description:
    "How the turn stands: running; completed; truncated (length limit); filtered; stopped (by the user); failed (the model did); interrupted (its process died or shut down).",
});

export const finishReason = nullable(t.UnionEnum(["stop", "length", "content_filter"]), {
  description: "Why the model ended; null where it gave no reason.",
});

export const turnError = nullable(
  strictObject(
    {
      code: t.UnionEnum(errorCodes as [string, ...string[]]),
      message: t.String({ description: "For people." }),
    },
    { title: "TurnError", description: "Why the turn failed or was interrupted." },
  ),
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
    memories_used: memoriesUsed(),
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
  user_message_id: id("message", { description: "What the user said, as a message of the conversation." }),
  message_id: id("message", { description: "The reply as a message of the conversation." }),
  status: turnStatus,
  response: t.String({ description: "The reply so far." }),
  length: integer({ minimum: 0, description: "Its length in UTF-16 code units." }),
  finish_reason: finishReason,
  model: t.String({ description: "The model that writes or wrote the reply." }),
  sources: sources(),
  citations: t.Array(citation),
  memories_used: memoriesUsed(),
  tokens_used: integer({ minimum: 0, description: "The same as usage.total_tokens." }),
  usage,
  error: turnError,
  created_at: time(),
  ended_at: nullable(time(), { description: "Null while the turn runs." }),
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

const tokensOf = Object.fromEntries(
  promptSections.map((section) => [section, integer({ minimum: 0 })]),
) as Record<PromptSection, ReturnType<typeof integer>>;

const receiptEntry = strictObject(
  {
    section: t.UnionEnum(["memories", "recall", "passages", "window"]),
    id: t.String({ description: "The memory, the message or the document." }),
    tokens: integer({ minimum: 0 }),
    score: nullable(t.Number(), {
      description: "How well it fits; null for the conversation's newest messages.",
    }),
  },
  { title: "ReceiptEntry" },
);

export const receipt = strictObject(
  {
    turn_id: id("turn"),
    object: t.Literal("turn.receipt"),
    tokens: strictObject(tokensOf, {
      description: "What each part of the prompt took, by Parley's own count.",
    }),
    chosen: t.Array(receiptEntry, { description: "What went into the prompt." }),
    dropped: t.Array(receiptEntry, { description: "What was found as well and had no room." }),
  },
  { title: "Receipt" },
);

export const messageRecord = strictObject(
  {
    id: id("message"),
    object: t.Literal("message"),
    conversation_id: id("conversation"),
    turn_id: id("turn", { description: "The turn that the message is part of." }),
    seq: integer({ minimum: 1, description: "The message's place in its conversation." }),
    role: t.UnionEnum(["user", "assistant"]),
    content: t.String({ description: "The text; of a running turn's reply, what there is by now." }),
    status: turnStatus,
    model: nullable(t.String(), { description: "The model that wrote it; null for the user's messages." }),
    sources: sources(),
    citations: t.Array(citation),
    tokens: integer({ minimum: 0, description: "The tokens of the text." }),
    created_at: time(),
  },
  { title: "Message" },
);
export type Message = Static<typeof messageRecord>;

const startEvent = strictObject(
  {
    turn_id: id("turn"),
    conversation_id: id("conversation"),
    message_id: id("message", { description: "The reply as a message of the conversation." }),
    model: t.String({ description: "The model that is asked; `done` names the one that wrote." }),
  },
  {
    title: "StartEvent",
    description:
      "`event: start`, with an id. First, as soon as the turn is stored; again on every resume, with the offset resumed from as its id.",
  },
);

const sourcesEvent = strictObject(
  { sources: sources(), citations: t.Array(citation) },
  { title: "SourcesEvent", description: "`event: sources`, without an id, where documents are cited." },
);

const tokenEvent = strictObject(
  { token: t.String({ description: "The next piece of the reply: append it.", examples: ["Mount"] }) },
  { title: "TokenEvent", description: "An unnamed event. Its id is the length of the reply so far." },
);

const doneEvent = strictObject(
  {
    done: t.Literal(true),
    conversation_id: id("conversation"),
    turn_id: id("turn"),
    message_id: id("message", { description: "The reply as a message of the conversation." }),
    status: t.UnionEnum(endStatus),
    finish_reason: finishReason,
    model: t.String({ description: "The model that wrote the reply." }),
    length: integer({ minimum: 0, description: "The whole reply's length in UTF-16 code units." }),
    sources: sources(),
    tokens_used: integer({ minimum: 0, description: "The same as usage.total_tokens." }),
    usage,
    error: turnError,
  },
  {
    title: "DoneEvent",
    description:
      "An unnamed event, always the last one, whatever happened. Its id ends in `:end`. A failure is in its `error`.",
  },
);

const streamEvent = t.Union([startEvent, sourcesEvent, tokenEvent, doneEvent], {
  title: "StreamEvent",
  description: "The data of one event, JSON in one line.",
});

/** A stream as a document can show it: its text, and in it the data of events. Nothing is checked by it. */
export const turnStream = t.String({
  title: "TurnStream",
  description: "Server-sent events, separated by blank lines.",
  contentMediaType: "text/event-stream",
  contentSchema: streamEvent,
});
