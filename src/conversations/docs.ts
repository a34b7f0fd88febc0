/** What /docs says about the conversation routes. */
import { problems } from "../http/docs.ts";

const tags = ["Conversations"];
const writing = problems(400, 401, 403, 413, 415, 422, 500, 503);
const changing = problems(400, 401, 403, 404, 409, 413, 415, 500, 503);
const reading = problems(400, 401, 403, 404, 500, 503);

export const docs = {
  create: { tags, operationId: "createConversation", summary: "Create a conversation", responses: writing },
  list: {
    tags,
    operationId: "listConversations",
    summary: "List or search conversations",
    responses: reading,
  },
  read: { tags, operationId: "getConversation", summary: "Read a conversation", responses: reading },
  messages: {
    tags,
    operationId: "listMessages",
    summary: "List a conversation's messages",
    responses: reading,
  },
  update: {
    tags,
    operationId: "updateConversation",
    summary: "Change title or metadata",
    responses: changing,
  },
  remove: { tags, operationId: "deleteConversation", summary: "Delete a conversation", responses: changing },
  export: { tags, operationId: "exportConversation", summary: "Export a conversation", responses: reading },
};
