/** What /docs says about the chat routes. */
import type { ErrorCode } from "../errors.ts";
import { exampleIds, json, naming, operation, problemExample, taking } from "../http/docs.ts";
import { turnStream } from "./schema.ts";

const tag = "Chat";
const { conversation, turn, userMessage, message } = exampleIds;

const usage = { prompt_tokens: 27, completion_tokens: 11, total_tokens: 38, estimated: false };
const reply = "Mount Everest, at 8,849 m.";
const ended = {
  conversation_id: conversation,
  message_id: message,
  status: "completed",
  finish_reason: "stop",
};
const context = { sources: [], citations: [], memories_used: [] };

const answered = {
  response: reply,
  turn_id: turn,
  ...ended,
  model: "gpt-5-mini",
  ...context,
  tokens_used: 38,
  usage,
};

const running = {
  id: turn,
  object: "turn",
  conversation_id: conversation,
  user_message_id: userMessage,
  message_id: message,
  status: "running",
  response: "",
  length: 0,
  finish_reason: null,
  model: "gpt-5-mini",
  ...context,
  tokens_used: 0,
  usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true },
  error: null,
  created_at: 1_785_000_000,
  ended_at: null,
};

const whole = {
  ...running,
  status: "completed",
  response: reply,
  length: reply.length,
  finish_reason: "stop",
  tokens_used: 38,
  usage,
  ended_at: 1_785_000_002,
};

const requests = {
  first: {
    summary: "A first message",
    value: { message: "What is the tallest mountain on Earth?", user_id: "ada" },
  },
  next: {
    summary: "Going on with a conversation",
    value: { message: "And the second tallest?", user_id: "ada", conversation_id: conversation },
  },
  options: {
    summary: "With every option",
    value: {
      message: "What is the tallest mountain on Earth?",
      user_id: "ada",
      metadata: { channel: "web" },
      model: "gpt-5-mini",
      temperature: 0.2,
      max_tokens: 500,
      collections: ["atlas"],
      use_memory: false,
    },
  },
};

const start = (offset: number): string =>
  `retry: 2000\n\nevent: start\nid: ${turn}:${offset}\ndata: ${JSON.stringify({ turn_id: turn, conversation_id: conversation, message_id: message, model: "gpt-5-mini" })}\n\n`;
const token = (from: number, to: number): string =>
  `id: ${turn}:${to}\ndata: ${JSON.stringify({ token: reply.slice(from, to) })}\n\n`;
const done = (members: object): string => {
  const data = {
    done: true,
    ...ended,
    turn_id: turn,
    model: "gpt-5-mini",
    length: reply.length,
    sources: [],
    tokens_used: 38,
    usage,
  };
  return `id: ${turn}:end\ndata: ${JSON.stringify({ ...data, error: null, ...members })}\n\n`;
};
const sources =
  'event: sources\ndata: {"sources":["atlas.pdf"],"citations":[{"document_id":"doc_01980000-0000-7000-8000-00000000d0c5","name":"atlas.pdf","quote":"Everest: 8,849 m","start":120,"end":136,"score":0.91}]}\n\n';
const { code, detail } = problemExample("model_overloaded");
const failure = { status: "failed", finish_reason: null, length: 13, error: { code, message: detail } };

const events = {
  description:
    "The turn as server-sent events: `start`, `sources` where documents are cited, then unnamed events with the reply's tokens and, last, the end. A comment is sent in silence, every 10 s. Event ids are `<turn_id>:<length of the reply so far>` in UTF-16 code units, the last one is `<turn_id>:end`; whoever comes back with the id seen last, as `EventSource` does, gets the rest.",
  content: {
    "text/event-stream": {
      schema: turnStream,
      examples: {
        reply: {
          summary: "A reply",
          value: `${start(0)}${token(0, 13)}: heartbeat\n\n${token(13, reply.length)}${done({})}`,
        },
        cited: {
          summary: "A reply that cites a document",
          value: `${start(0)}${sources}${token(0, reply.length)}${done({ sources: ["atlas.pdf"] })}`,
        },
        resumed: {
          summary: "The rest, after a cut",
          value: `${start(13)}${token(13, reply.length)}${done({})}`,
        },
        failed: {
          summary: "The model broke off",
          value: `${start(0)}${token(0, 13)}${done(failure)}`,
        },
      },
    },
  },
};

const over = {
  description: "The last event id was `<turn_id>:end`: there is nothing more, and `EventSource` stops.",
};

const starting: ErrorCode[] = [
  ...naming,
  "turn_in_progress",
  "idempotency_key_reused",
  "budget_exhausted",
  "shutting_down",
];
const failing: ErrorCode[] = [
  "model_rejected",
  "model_unreachable",
  "model_bad_response",
  "model_stream_incomplete",
  "model_overloaded",
  "model_quota_exhausted",
  "model_timeout",
  "turn_interrupted",
];

const aboutTurns =
  "The message and its turn are stored before the model is asked, and the turn runs to its end whether or not anyone is connected.";
const detachedEnd =
  "A failure of the model is told in the last event's `error`, because the stream has begun by then.";

export const docs = {
  chat: operation({
    tag,
    id: "chat",
    summary: "Start a turn and wait for its end",
    description: `${aboutTurns} A reply that was cut by a limit, filtered or stopped is an answer with its \`status\`; where the turn failed, the problem holds \`turn_id\` and the partial \`response\`.`,
    headers: ["Idempotency-Key"],
    body: requests,
    answers: { 200: json("The reply.", answered) },
    problems: [...starting, ...taking, ...failing],
  }),
  chatStream: operation({
    tag,
    id: "chatStream",
    summary: "Start a turn and stream it",
    description: `${aboutTurns} ${detachedEnd}`,
    headers: ["Idempotency-Key", "Last-Event-ID"],
    body: requests,
    answers: { 200: events, 204: over },
    problems: [...starting, ...taking],
  }),
  chatEventSource: operation({
    tag,
    id: "chatEventSource",
    summary: "Start a turn and stream it to an EventSource",
    description: `The same as \`POST /v1/chat/stream\` for the browser's \`EventSource\`, which can only GET: listen with \`onmessage\`, append \`data.token\`, close on \`data.done\`. It reconnects by itself and then resumes its turn; give an \`idempotency_key\`, and not even a cut before the first event starts a second one. ${detachedEnd}`,
    headers: ["Idempotency-Key", "Last-Event-ID"],
    answers: { 200: events, 204: over },
    problems: starting,
  }),
  startTurn: operation({
    tag,
    id: "startTurn",
    summary: "Start a turn and answer at once",
    description: `${aboutTurns} Watch it at \`stream_url\`, which carries a ticket, so that an \`EventSource\` can open it without a key; or read it with \`GET /v1/turns/{id}\`. The ticket opens this turn's stream alone, while it runs and for an hour longer.`,
    headers: ["Idempotency-Key"],
    body: requests,
    answers: {
      202: json(
        "The turn has started.",
        { ...running, stream_url: `/v1/turns/${turn}/stream?ticket=XPq2…` },
        ["Location"],
      ),
    },
    problems: [...starting, ...taking],
  }),
  turn: operation({
    tag,
    id: "getTurn",
    summary: "Read a turn",
    description: "Its status, its reply so far and, when it has ended, what it used.",
    answers: { 200: json("The turn.", whole) },
    problems: naming,
  }),
  receipt: operation({
    tag,
    id: "getReceipt",
    summary: "See what went into a turn's prompt",
    description:
      "The tokens of each part of the prompt, which memories, earlier messages and passages of documents were chosen and with which score, and what was left out for want of room.",
    answers: {
      200: json("The receipt.", {
        turn_id: turn,
        object: "turn.receipt",
        tokens: {
          system: 10,
          profile: 0,
          memories: 49,
          recall: 0,
          summary: 0,
          passages: 0,
          window: 0,
          message: 11,
        },
        chosen: [
          { section: "memories", id: "mem_01980000-0000-7000-8000-00000000e001", tokens: 9, score: 1.204 },
        ],
        dropped: [],
      }),
    },
    problems: naming,
  }),
  stopTurn: operation({
    tag,
    id: "stopTurn",
    summary: "Stop a turn",
    description:
      "The reply so far is kept, and so is its usage. On a turn that has ended it changes nothing; its watchers get their last event either way.",
    answers: { 200: json("The turn as it ended.", { ...whole, status: "stopped", finish_reason: null }) },
    problems: naming,
  }),
  turnStream: operation({
    tag,
    id: "streamTurn",
    summary: "Watch or resume a turn",
    description:
      "Any turn, running or ended, from its beginning or from after an event: name it with `Last-Event-ID` or, where that can't be sent, with `after`. Open to a key or to the turn's ticket.",
    security: [{ bearer: [] }, { ticket: [] }],
    headers: ["Last-Event-ID"],
    answers: { 200: events, 204: over },
    problems: naming,
  }),
};
