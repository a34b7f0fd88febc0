/** Conversations: create, list and search, read, change, delete, export. */
import type { OpenViews } from "../auth/open-views.ts";
import { type Authenticate, actingFor, choosing } from "../auth/principal.ts";
import { toIdempotency } from "../chat/idempotency.ts";
import type { RunningTurns } from "../chat/running-turns.ts";
import { AppError } from "../errors.ts";
import { requestIdFrom } from "../http/request-id.ts";
import type { Requests } from "../http/requests.ts";
import { authenticatedRoutes } from "../http/routes.ts";
import { newId } from "../ids.ts";
import type { ConversationCursor, ConversationRecord, Scope, Store } from "../storage/store.ts";
import { conversationCursor, messageCursor } from "./cursors.ts";
import { docs } from "./docs.ts";
import { exportJson, exportMarkdown } from "./export.ts";
import {
  conversation,
  conversationPage,
  conversationParams,
  conversationPatch,
  conversationRequest,
  conversationsQuery,
  conversationWithMessages,
  deletedConversation,
  exportQuery,
  messagePage,
  messagesQuery,
} from "./schema.ts";
import { toConversation, toMessage } from "./views.ts";

const newestMessages = 100;
const pageSize = 20;

export interface ConversationServices {
  readonly store: Store;
  readonly turns: RunningTurns;
  readonly authenticate: Authenticate;
  readonly views: OpenViews;
  readonly requests: Requests;
}

export function conversationRoutes(prefix: string, services: ConversationServices) {
  const { store, turns, authenticate, views, requests } = services;

  const find = async (scope: Scope, id: string): Promise<ConversationRecord> =>
    (await store.conversation(scope, id)) ?? unknownConversation();

  /** A page of messages; a running reply shows what it holds by now. */
  async function messagesOf(scope: Scope, conversationId: string, limit: number, before: number | null) {
    const page = await store.messages(scope, conversationId, limit, before);
    const messages = page.messages.map((message) => {
      const live = message.status === "running" ? turns.replyOf(message.turn_id) : null;
      return toMessage(live === null ? message : { ...message, ...live });
    });
    return { messages, has_more: page.has_more };
  }

  return authenticatedRoutes(prefix, authenticate)
    .post(
      "/conversations",
      async ({ principal, body, request, set }) => {
        const key = request.headers.get("idempotency-key");
        const created = await store.createConversation(actingFor(principal, body.user_id), {
          id: newId("conversation"),
          user_id: body.user_id,
          title: body.title ?? null,
          metadata: body.metadata ?? {},
          idempotency: key === null ? null : toIdempotency(principal, "conversation", key, body),
          now_ms: Date.now(),
        });
        set.status = 201;
        set.headers.location = `/v1/conversations/${created.conversation.id}`;
        return toConversation(created.conversation);
      },
      { body: conversationRequest, response: { 201: conversation }, detail: docs.create },
    )
    .get(
      "/conversations",
      async ({ principal, query }) => {
        const { next, ...page } = await store.conversations(choosing(principal, query.user_id), {
          user_id: query.user_id ?? null,
          limit: Number(query.limit ?? pageSize),
          after: query.after === undefined ? null : afterCursor(query.after),
          q: query.q?.trim() || null,
        });
        return {
          conversations: page.conversations.map(toConversation),
          has_more: next !== null,
          next_after: next && conversationCursor.write([next.last_active_ms, next.id]),
        };
      },
      { query: conversationsQuery, response: { 200: conversationPage }, detail: docs.list },
    )
    .get(
      "/conversations/:id",
      async ({ principal, params }) => {
        const found = await find(principal.scope, params.id);
        const { messages } = await messagesOf(principal.scope, found.id, newestMessages, null);
        return { ...toConversation(found), messages };
      },
      { params: conversationParams, response: { 200: conversationWithMessages }, detail: docs.read },
    )
    .get(
      "/conversations/:id/messages",
      async ({ principal, params, query }) => {
        const [before] = messageCursor.read(query.before ?? "") ?? [null];
        const found = await find(principal.scope, params.id);
        const page = await messagesOf(principal.scope, found.id, Number(query.limit ?? pageSize), before);
        const oldest = page.messages[0];
        return { ...page, next_before: page.has_more && oldest ? messageCursor.write([oldest.seq]) : null };
      },
      {
        params: conversationParams,
        query: messagesQuery,
        response: { 200: messagePage },
        detail: docs.messages,
      },
    )
    .patch(
      "/conversations/:id",
      async ({ principal, params, body }) => {
        const { title, metadata } = body;
        const patch = {
          ...(title !== undefined && { title }),
          ...(metadata !== undefined && { metadata: metadata ?? {} }),
        };
        const patched = await store.updateConversation(principal.scope, params.id, patch, Date.now());
        return toConversation(patched ?? unknownConversation());
      },
      {
        params: conversationParams,
        body: conversationPatch,
        response: { 200: conversation },
        detail: docs.update,
      },
    )
    .delete(
      "/conversations/:id",
      async ({ principal, params }) => {
        await deleteConversation(principal.scope, params.id);
        return {
          status: "deleted" as const,
          id: params.id,
          object: "conversation.deleted" as const,
          deleted: true as const,
        };
      },
      {
        params: conversationParams,
        response: { 200: deletedConversation },
        detail: docs.remove,
      },
    )
    .get(
      "/conversations/:id/export",
      async ({ principal, params, query, request, set }) => {
        const found = await find(principal.scope, params.id);
        const markdown = query.format === "markdown";
        const file = markdown
          ? exportMarkdown(store, principal.scope, found)
          : exportJson(store, principal.scope, toConversation(found));
        const viewed = views.file(principal, request, file);
        return new Response(requests.streamed(request, viewed) as unknown as ReadableStream, {
          headers: {
            "content-type": markdown ? "text/markdown; charset=utf-8" : "application/json",
            "content-disposition": `attachment; filename="${found.id}.${markdown ? "md" : "json"}"`,
            "x-request-id": requestIdFrom(set),
          },
        });
      },
      { params: conversationParams, query: exportQuery, detail: docs.export },
    );

  /** Stops the running turn first; another one may start in between, so it is tried again. */
  async function deleteConversation(scope: Scope, id: string): Promise<void> {
    for (;;) {
      const { active_turn_id } = await find(scope, id);
      if (active_turn_id !== null) await turns.stop(scope, active_turn_id);
      try {
        if (await store.deleteConversation(scope, id)) return;
        unknownConversation();
      } catch (error) {
        if (!(error instanceof AppError && error.code === "turn_in_progress")) throw error;
      }
    }
  }
}

const unknownConversation = (): never => {
  throw new AppError("not_found", { detail: "There is no such conversation." });
};

function afterCursor(cursor: string): ConversationCursor | null {
  const position = conversationCursor.read(cursor);
  return position && { last_active_ms: position[0], id: position[1] };
}
