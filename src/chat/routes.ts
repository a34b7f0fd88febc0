/** Starting turns and watching them: JSON and SSE are two views of the same thing. */
import type { Server } from "bun";
import type { OpenViews } from "../auth/open-views.ts";
import { type Authenticate, actingFor, challenge, type Principal } from "../auth/principal.ts";
import type { Limits } from "../config.ts";
import { AppError } from "../errors.ts";
import { neverIdle } from "../http/idle.ts";
import { invalidRequest } from "../http/problem.ts";
import { requestIdFrom } from "../http/request-id.ts";
import type { Requests } from "../http/requests.ts";
import { authenticatedRoutes, openRoutes } from "../http/routes.ts";
import { eventIdFault, type Position, parseEventId, sseHeaders, sseResponse } from "../http/sse.ts";
import type { Admission } from "../limits/admission.ts";
import type { Scope } from "../storage/store.ts";
import { docs } from "./docs.ts";
import { toIdempotency } from "./idempotency.ts";
import { Reply } from "./reply.ts";
import type { NewTurn, RunningTurns, WatchedTurn } from "./running-turns.ts";
import {
  type ChatRequest,
  chatRequest,
  chatResponse,
  chatStreamQuery,
  receipt,
  startedTurn,
  turn,
  turnParams,
  turnStreamQuery,
} from "./schema.ts";
import { Tickets } from "./ticket.ts";
import { toChatResponse, toTurn } from "./views.ts";

export interface ChatServices {
  readonly turns: RunningTurns;
  readonly tickets: Tickets;
  readonly authenticate: Authenticate;
  readonly views: OpenViews;
  readonly requests: Requests;
  readonly admission: Admission;
  readonly limits: Limits;
}

/** Routes that start turns, and those that read and stop them. */
export function chatRoutes(prefix: string, services: ChatServices) {
  const { turns, tickets, authenticate, views, requests, admission, limits } = services;

  /** Starts a turn; the headers tell what is left of what limits it. */
  async function start(
    principal: Principal,
    body: ChatRequest,
    key: string | null,
    { request, set }: Pick<Asked, "request" | "set">,
  ): Promise<WatchedTurn> {
    const { workspace_id } = actingFor(principal, body.user_id);
    await admission.takeForUser(request, principal, body.user_id);
    const { limits = [], ...watched } = await turns.start(workspace_id, {
      ...toNewTurn(principal, body, key, admission.addressOf(request)),
      correlation: requests.correlationOf(request),
    });
    requests.concerns(request, watched.turn.id);
    admission.note(request, limits);
    Object.assign(set.headers, admission.headersOf(request));
    return watched;
  }

  const watch = async (scope: Scope, id: string): Promise<WatchedTurn> =>
    (await turns.watch(scope, id)) ?? unknownTurn();

  /**
   * The stream of a turn from a position on; nothing after its end.
   * @param principal whose stream it is; null where a ticket opens it
   */
  function stream(
    principal: Principal | null,
    watched: WatchedTurn,
    offset: Position["offset"],
    { request, server, set }: Asked,
  ): Response {
    const requestId = requestIdFrom(set);
    requests.concerns(request, watched.turn.id);
    if (offset === "end") return new Response(null, { status: 204, headers: { "x-request-id": requestId } });
    const view = views.view(principal, request);
    const idleAgain = neverIdle(server, request, limits.connectionIdleSeconds);
    const ended = requests.streaming(request);
    return sseResponse(watched, offset, view.signal, requestId, () => {
      view.close();
      idleAgain();
      ended();
    });
  }

  /** A reconnecting client names the event it saw last: it resumes that turn and starts no new one. */
  async function startOrResume(
    principal: Principal,
    body: ChatRequest,
    key: string | null,
    asked: Asked,
  ): Promise<Response> {
    const position = lastEventId(asked.request);
    if (position === null) return stream(principal, await start(principal, body, key, asked), 0, asked);
    const scope = actingFor(principal, body.user_id);
    return stream(principal, await watch(scope, position.turn_id), position.offset, asked);
  }

  const body = chatRequest(limits);
  const starting = authenticatedRoutes(prefix, authenticate)
    .post(
      "/chat",
      async ({ principal, body, request, server, set }) => {
        const key = request.headers.get("idempotency-key");
        const { turn, reply } = await start(principal, body, key, { request, set });
        const view = views.view(principal, request);
        const idleAgain = neverIdle(server, request, limits.connectionIdleSeconds);
        const ended = await reply.whenEnded(view.signal);
        view.close();
        idleAgain();
        if (ended !== null) return toChatResponse(ended);
        if (view.ended()) throw noLongerAllowed(turn);
        // Nobody is left to read it.
        throw new AppError("invalid_request", { detail: "The connection was closed." });
      },
      { body, response: { 200: chatResponse }, detail: docs.chat },
    )
    .post(
      "/chat/stream",
      ({ principal, body, request, server, set }) =>
        startOrResume(principal, body, request.headers.get("idempotency-key"), { request, server, set }),
      { body, detail: docs.chatStream },
    )
    // Before the GET route, whose handler would answer HEAD too and start a turn.
    .head("/chat/stream", ({ set }) => streamHeaders(set), { detail: { hide: true } })
    .get(
      "/chat/stream",
      ({ principal, query, request, server, set }) => {
        const { idempotency_key, ...body } = query;
        const key = idempotency_key ?? request.headers.get("idempotency-key");
        return startOrResume(principal, body, key, { request, server, set });
      },
      { query: chatStreamQuery(limits), detail: docs.chatEventSource },
    )
    .post(
      "/turns",
      async ({ principal, body, request, set }) => {
        const key = request.headers.get("idempotency-key");
        const watched = await start(principal, body, key, { request, set });
        const { id } = watched.turn;
        const { workspace_id } = principal.scope;
        set.status = 202;
        set.headers.location = `/v1/turns/${id}`;
        return {
          ...toTurn(watched),
          stream_url: `/v1/turns/${id}/stream?ticket=${tickets.sign(workspace_id, id)}`,
        };
      },
      { body, response: { 202: startedTurn }, detail: docs.startTurn },
    )
    .get("/turns/:id", async ({ principal, params }) => toTurn(await watch(principal.scope, params.id)), {
      params: turnParams,
      response: { 200: turn },
      detail: docs.turn,
    })
    .get(
      "/turns/:id/receipt",
      async ({ principal, params }) => {
        const found = await turns.receipt(principal.scope, params.id);
        if (found === null) throw new AppError("not_found", { detail: "There is no prompt of such a turn." });
        return { turn_id: params.id, object: "turn.receipt" as const, ...found };
      },
      { params: turnParams, response: { 200: receipt }, detail: docs.receipt },
    )
    .post(
      "/turns/:id/stop",
      async ({ principal, params }) => {
        const stopped = (await turns.stop(principal.scope, params.id)) ?? unknownTurn();
        return toTurn({ turn: stopped, reply: Reply.of(stopped) });
      },
      { params: turnParams, response: { 200: turn }, detail: docs.stopTurn },
    );

  /** A ticket opens the stream of its turn in place of a key. */
  async function open(request: Request, id: string, ticket: string | undefined): Promise<Opened> {
    if (ticket === undefined) {
      const principal = await authenticate(request);
      return { principal, watched: await watch(principal.scope, id) };
    }
    const scope = tickets.scopeOf(id, ticket);
    const watched = scope && (await turns.watch(scope, id));
    if (watched === null || !Tickets.isOpen(watched.reply.ended ?? watched.turn, Date.now() / 1000)) {
      throw new AppError("unauthorized", {
        detail: "The ticket is not valid for this turn, or not any more.",
        headers: challenge,
      });
    }
    return { principal: null, watched };
  }

  const watching = openRoutes(prefix)
    .head(
      "/turns/:id/stream",
      async ({ params, query, request, set }) => {
        await open(request, params.id, query.ticket);
        return streamHeaders(set);
      },
      { params: turnParams, query: turnStreamQuery, detail: { hide: true } },
    )
    .get(
      "/turns/:id/stream",
      async ({ params, query, request, server, set }) => {
        const { principal, watched } = await open(request, params.id, query.ticket);
        const position = lastEventId(request) ?? positionAfter(params.id, query.after);
        if (position.turn_id !== params.id) throw invalidRequest([otherTurnFault(request)]);
        return stream(principal, watched, position.offset, { request, server, set });
      },
      { params: turnParams, query: turnStreamQuery, detail: docs.turnStream },
    );

  return openRoutes().use(starting).use(watching);
}

/** A turn to be watched, and by whom; null where a ticket stands for them. */
interface Opened {
  principal: Principal | null;
  watched: WatchedTurn;
}

type ResponseState = Parameters<typeof requestIdFrom>[0];

/** What a view needs of the request that asks for it. */
interface Asked {
  request: Request;
  server: Server<unknown> | null;
  set: ResponseState;
}

/** The turn runs on: a connection only watches it. */
const noLongerAllowed = ({ id, conversation_id }: WatchedTurn["turn"]): AppError =>
  new AppError("unauthorized", {
    detail: "The key was revoked, or has expired, while the turn ran. The turn runs on.",
    headers: challenge,
    members: { turn_id: id, conversation_id },
  });

const unknownTurn = (): never => {
  throw new AppError("not_found", { detail: "There is no such turn." });
};

const streamHeaders = (set: ResponseState): Response =>
  new Response(null, { headers: { ...sseHeaders, "x-request-id": requestIdFrom(set) } });

function lastEventId(request: Request): Position | null {
  const value = request.headers.get("last-event-id");
  if (value === null || value === "") return null;
  const position = parseEventId(value);
  if (position === null) throw invalidRequest([eventIdFault("headers.last-event-id")]);
  return position;
}

function positionAfter(turn_id: string, after: string | undefined): Position {
  if (after === undefined) return { turn_id, offset: 0 };
  const position = parseEventId(after.includes(":") ? after : `${turn_id}:${after}`);
  if (position === null) throw invalidRequest([eventIdFault("query.after")]);
  return position;
}

const otherTurnFault = (request: Request) => ({
  path: request.headers.has("last-event-id") ? "headers.last-event-id" : "query.after",
  message: "must be an event id of this turn",
});

function toNewTurn(
  principal: Principal,
  body: ChatRequest,
  key: string | null,
  address: string | null,
): Omit<NewTurn, "correlation"> {
  const { message, user_id, conversation_id, metadata, model, temperature, max_tokens, collections } = body;
  return {
    message,
    user_id,
    conversation_id: conversation_id ?? null,
    metadata: metadata ?? null,
    model: model ?? null,
    temperature: temperature ?? null,
    max_tokens: max_tokens ?? null,
    use_memory: body.use_memory ?? true,
    collections: collections ?? null,
    key_id: principal.id,
    address,
    idempotency: key === null ? null : toIdempotency(principal, "turn", key, body),
  };
}
