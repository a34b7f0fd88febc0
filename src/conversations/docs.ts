/** What /docs says about the conversation routes. */
import { common, exampleIds, json, naming, operation, taking } from "../http/docs.ts";
import { exportedConversation } from "./schema.ts";

const tag = "Conversations";

const conversation = {
  id: exampleIds.conversation,
  object: "conversation",
  user_id: "ada",
  title: "What is the tallest mountain on Earth?",
  metadata: { channel: "web" },
  message_count: 2,
  tokens_used: 38,
  active_turn_id: null,
  created_at: 1_785_000_000,
  updated_at: 1_785_000_002,
  last_message_at: 1_785_000_002,
};

const ofBoth = {
  object: "message",
  conversation_id: exampleIds.conversation,
  turn_id: exampleIds.turn,
  status: "completed",
  sources: [],
  citations: [],
  created_at: 1_785_000_000,
};
const messages = [
  {
    ...ofBoth,
    id: exampleIds.userMessage,
    seq: 1,
    role: "user",
    content: "What is the tallest mountain on Earth?",
    model: null,
    tokens: 8,
  },
  {
    ...ofBoth,
    id: exampleIds.message,
    seq: 2,
    role: "assistant",
    content: "Mount Everest, at 8,849 m.",
    model: "gpt-5-mini",
    tokens: 11,
  },
];

const markdown = `# ${conversation.title}

## User, 2026-07-25T17:20:00.000Z

${messages[0]?.content}

## Assistant (gpt-5-mini), 2026-07-25T17:20:00.000Z

${messages[1]?.content}
`;

export const docs = {
  create: operation({
    tag,
    id: "createConversation",
    summary: "Create a conversation",
    description:
      "An empty one, to give it a title or metadata before its first message. `POST /v1/chat` without `conversation_id` makes one as well.",
    headers: ["Idempotency-Key"],
    body: {
      titled: {
        summary: "With a title",
        value: { user_id: "ada", title: "Mountains", metadata: { channel: "web" } },
      },
      untitled: { summary: "The first message makes the title", value: { user_id: "ada" } },
    },
    answers: {
      201: json(
        "The new conversation.",
        { ...conversation, title: "Mountains", message_count: 0, tokens_used: 0 },
        ["Location"],
      ),
    },
    problems: [...naming, ...taking, "idempotency_key_reused"],
  }),
  list: operation({
    tag,
    id: "listConversations",
    summary: "List or search conversations",
    description:
      "The last active first. `q` finds conversations whose title or messages hold all its words, the last one as the beginning of a word. A page costs the same however far down it is.",
    answers: {
      200: json("A page.", { conversations: [conversation], has_more: true, next_after: "WzE3ODUwMDBd" }),
    },
    problems: common,
  }),
  read: operation({
    tag,
    id: "getConversation",
    summary: "Read a conversation",
    description: "With its newest messages, at most 100; the older ones are under `/messages`.",
    answers: { 200: json("The conversation.", { ...conversation, messages }) },
    problems: naming,
  }),
  messages: operation({
    tag,
    id: "listMessages",
    summary: "List a conversation's messages",
    description: "Page by page from the newest back; within a page the oldest is first.",
    answers: { 200: json("A page.", { messages, has_more: true, next_before: "WzFd" }) },
    problems: naming,
  }),
  update: operation({
    tag,
    id: "updateConversation",
    summary: "Change a conversation's title or metadata",
    description: "What is left out stays. `metadata` is replaced as a whole; null empties it.",
    body: {
      title: { summary: "Another title", value: { title: "Mountains" } },
      metadata: { summary: "Other metadata", value: { metadata: { channel: "phone" } } },
    },
    answers: { 200: json("The conversation as it is now.", { ...conversation, title: "Mountains" }) },
    problems: [...naming, ...taking],
  }),
  remove: operation({
    tag,
    id: "deleteConversation",
    summary: "Delete a conversation",
    description:
      "And all that hangs on it, for good: messages, turns, receipts, its summary. A running turn is stopped first. Memories that were drawn from it stay, because they are about the user; their `source_message_id` becomes null.",
    answers: {
      200: json("It is gone.", {
        status: "deleted",
        id: exampleIds.conversation,
        object: "conversation.deleted",
        deleted: true,
      }),
    },
    problems: naming,
  }),
  export: operation({
    tag,
    id: "exportConversation",
    summary: "Export a conversation",
    description: "All of it as one file: JSON for programs, Markdown for people.",
    answers: {
      200: {
        description: "The file.",
        headers: ["Content-Disposition"],
        content: {
          "application/json": { schema: exportedConversation, example: { ...conversation, messages } },
          "text/markdown": { example: markdown },
        },
      },
    },
    problems: naming,
  }),
};
