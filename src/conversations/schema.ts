/** What the conversation routes take and give. */
import { type Static, t } from "elysia";
import { messageRecord, userId } from "../chat/schema.ts";
import { exampleIds } from "../http/docs.ts";
import { hasMore, pageEnd, pageLimit, pageQuery } from "../http/paging.ts";
import {
  id,
  idParam,
  integer,
  metadata,
  nullable,
  queryCursor,
  strictObject,
  text,
  time,
} from "../http/strict.ts";
import { conversationCursor, messageCursor } from "./cursors.ts";

const title = () =>
  nullable(
    text({
      minLength: 1,
      maxLength: 200,
      pattern: "\\S",
      description: "Null: the first message makes one.",
      examples: ["Mountains"],
    }),
  );

export const conversationRequest = strictObject(
  { user_id: userId(), title: t.Optional(title()), metadata: t.Optional(nullable(metadata())) },
  { title: "ConversationRequest" },
);

export const conversationPatch = strictObject(
  { title: t.Optional(title()), metadata: t.Optional(nullable(metadata())) },
  { title: "ConversationPatch" },
);

export const conversationProperties = {
  id: id("conversation"),
  object: t.Literal("conversation"),
  user_id: t.String({ description: "The end user whose conversation it is." }),
  title: nullable(t.String(), { description: "Made from the first message where none was given." }),
  metadata: metadata(),
  message_count: integer({ minimum: 0, description: "Of both roles." }),
  tokens_used: integer({ minimum: 0, description: "By all turns of the conversation." }),
  active_turn_id: nullable(id("turn"), { description: "The running turn." }),
  created_at: time(),
  updated_at: time(),
  last_message_at: time(),
};

export const conversation = strictObject(conversationProperties, { title: "Conversation" });
export type Conversation = Static<typeof conversation>;

export const conversationWithMessages = strictObject(
  {
    ...conversationProperties,
    messages: t.Array(messageRecord, { description: "The newest, oldest first." }),
  },
  { title: "ConversationWithMessages" },
);

export const conversationParams = strictObject({
  id: idParam({ description: "The conversation.", examples: [exampleIds.conversation] }),
});

export const conversationsQuery = strictObject({
  user_id: t.Optional(userId()),
  ...pageQuery(conversationCursor),
  q: t.Optional(
    text({ maxLength: 500, description: "Words to find in titles and messages, the last one as a prefix." }),
  ),
});

export const conversationPage = strictObject(
  {
    conversations: t.Array(conversation),
    ...pageEnd(),
  },
  { title: "ConversationPage" },
);

export const messagesQuery = strictObject({
  limit: pageLimit(),
  before: queryCursor(messageCursor, "The `next_before` of the page before."),
});

export const messagePage = strictObject(
  {
    messages: t.Array(messageRecord, { description: "Oldest first." }),
    has_more: hasMore(),
    next_before: nullable(t.String(), {
      description: "The cursor of the page before; null on the first one.",
    }),
  },
  { title: "MessagePage" },
);

export const deletedConversation = strictObject(
  {
    status: t.Literal("deleted"),
    id: id("conversation"),
    object: t.Literal("conversation.deleted"),
    deleted: t.Literal(true),
  },
  { title: "DeletedConversation" },
);

/** Never built as one value: `export.ts` writes it page by page. */
export const exportedConversation = strictObject(
  { ...conversationProperties, messages: t.Array(messageRecord, { description: "All, oldest first." }) },
  { title: "ExportedConversation" },
);

export const exportQuery = strictObject({
  format: t.Optional(t.UnionEnum(["json", "markdown"], { description: "json if left out." })),
});
