/** Users: their profile, their memories, all that is kept about them, and its end. */
import type { OpenViews } from "../auth/open-views.ts";
import { type Authenticate, actingFor } from "../auth/principal.ts";
import type { RunningTurns } from "../chat/running-turns.ts";
import type { Limits } from "../config.ts";
import { AppError } from "../errors.ts";
import { neverIdle } from "../http/idle.ts";
import { requestIdFrom } from "../http/request-id.ts";
import type { Requests } from "../http/requests.ts";
import { authenticatedRoutes } from "../http/routes.ts";
import { newId } from "../ids.ts";
import type { Log } from "../log.ts";
import type { BackgroundMemory } from "../memory/background.ts";
import { countTokens } from "../models/tokens.ts";
import type { Erased, MemoryRecord, Profile, UserScope } from "../storage/memory-store.ts";
import type { Store } from "../storage/store.ts";
import { memoryCursor } from "./cursors.ts";
import { docs } from "./docs.ts";
import { exportUser } from "./export.ts";
import { canonicalLanguage, canonicalTimeZone } from "./locale.ts";
import {
  deletedMemory,
  deletedUser,
  memoriesQuery,
  memory,
  memoryPage,
  memoryParams,
  memoryPatch,
  memoryRequest,
  type ProfilePatch,
  profile,
  profilePatch,
  userParams,
} from "./schema.ts";
import { toMemory, toProfile } from "./views.ts";

const pageSize = 20;

export interface UserServices {
  readonly store: Store;
  readonly turns: RunningTurns;
  readonly memory: BackgroundMemory;
  readonly authenticate: Authenticate;
  readonly views: OpenViews;
  readonly requests: Requests;
  readonly limits: Limits;
  readonly log: Log;
}

export function userRoutes(
  prefix: string,
  { store, turns, memory: background, authenticate, views, requests, limits, log }: UserServices,
) {
  const find = async (user: UserScope, id: string): Promise<MemoryRecord> =>
    (await store.memory(user, id)) ?? unknownMemory();

  return authenticatedRoutes(prefix, authenticate)
    .get(
      "/users/:user_id/profile",
      async ({ principal, params }) => {
        const user = actingFor(principal, params.user_id);
        return toProfile(user, await store.profile(user));
      },
      { params: userParams, response: { 200: profile }, detail: docs.profile },
    )
    .patch(
      "/users/:user_id/profile",
      async ({ principal, params, body }) => {
        const user = actingFor(principal, params.user_id);
        return toProfile(user, await store.updateProfile(user, toPatch(body), Date.now()));
      },
      { params: userParams, body: profilePatch, response: { 200: profile }, detail: docs.updateProfile },
    )
    .get(
      "/users/:user_id/memories",
      async ({ principal, params, query }) => {
        const user = actingFor(principal, params.user_id);
        const [after] = memoryCursor.read(query.after ?? "") ?? [null];
        const limit = Number(query.limit ?? pageSize);
        const { memories, next } = await store.memories(user, { limit, after, superseded: false });
        return {
          memories: memories.map((memory) => toMemory(user, memory)),
          has_more: next !== null,
          next_after: next && memoryCursor.write([next]),
        };
      },
      {
        params: userParams,
        query: memoriesQuery,
        response: { 200: memoryPage },
        detail: docs.memories,
      },
    )
    .post(
      "/users/:user_id/memories",
      async ({ principal, params, body, set }) => {
        const user = actingFor(principal, params.user_id);
        const { text, kind, slot } = body;
        const [saved] = await store.saveMemories(
          user,
          [
            {
              id: newId("memory"),
              text,
              kind: kind ?? "fact",
              slot: slot ?? null,
              tokens: countTokens(text),
              source_message_id: null,
              supersedes: [],
            },
          ],
          null,
          limits.memoriesMax,
          Date.now(),
        );
        set.status = 201;
        set.headers.location = `/v1/users/${encodeURIComponent(user.user_id)}/memories/${saved!.id}`;
        return toMemory(user, saved!);
      },
      {
        params: userParams,
        body: memoryRequest,
        response: { 201: memory },
        detail: docs.createMemory,
      },
    )
    .get(
      "/users/:user_id/memories/:id",
      async ({ principal, params }) => {
        const user = actingFor(principal, params.user_id);
        return toMemory(user, await find(user, params.id));
      },
      { params: memoryParams, response: { 200: memory }, detail: docs.memory },
    )
    .patch(
      "/users/:user_id/memories/:id",
      async ({ principal, params, body }) => {
        const user = actingFor(principal, params.user_id);
        const tokens = body.text === undefined ? {} : { tokens: countTokens(body.text) };
        const patched = await store.updateMemory(user, params.id, { ...body, ...tokens }, Date.now());
        return toMemory(user, patched ?? unknownMemory());
      },
      { params: memoryParams, body: memoryPatch, response: { 200: memory }, detail: docs.updateMemory },
    )
    .delete(
      "/users/:user_id/memories/:id",
      async ({ principal, params }) => {
        const user = actingFor(principal, params.user_id);
        if (!(await store.deleteMemory(user, params.id))) unknownMemory();
        return {
          status: "deleted" as const,
          id: params.id,
          object: "memory.deleted" as const,
          deleted: true as const,
        };
      },
      { params: memoryParams, response: { 200: deletedMemory }, detail: docs.deleteMemory },
    )
    .get(
      "/users/:user_id/export",
      ({ principal, params, request, set }) => {
        const user = actingFor(principal, params.user_id);
        const file = exportUser(store, user, Math.floor(Date.now() / 1000));
        const viewed = views.file(principal, request, file);
        return new Response(requests.streamed(request, viewed) as unknown as ReadableStream, {
          headers: {
            "content-type": "application/json",
            "content-disposition": 'attachment; filename="user.json"',
            "x-request-id": requestIdFrom(set),
          },
        });
      },
      { params: userParams, detail: docs.export },
    )
    .delete(
      "/users/:user_id",
      async ({ principal, params, request, server }) => {
        const user = actingFor(principal, params.user_id);
        const idleAgain = neverIdle(server, request, limits.connectionIdleSeconds);
        const erased = await erase(user).finally(idleAgain);
        return {
          status: "deleted" as const,
          user_id: user.user_id,
          object: "user.deleted" as const,
          deleted: true as const,
          erased,
        };
      },
      { params: userParams, response: { 200: deletedUser }, detail: docs.deleteUser },
    );

  /** From the first step on, what the user does is a new user's: only turns from before it are stopped. */
  async function erase(user: UserScope): Promise<Erased> {
    const startedMs = Date.now();
    const running = await store.cutOffUser(user);
    await turns.stopAll(running);
    background.forget(user);
    const erased = await store.eraseUser(user);
    // Not whom: a log isn't erased.
    log.info({ event: "user_erased", ...erased, duration_ms: Date.now() - startedMs }, "user erased");
    return erased;
  }
}

/** What is null is cleared, what is left out stays. */
function toPatch({ language, timezone, metadata, ...patch }: ProfilePatch): Partial<Profile> {
  return {
    ...patch,
    ...(language !== undefined && { language: language && canonicalLanguage(language) }),
    ...(timezone !== undefined && { timezone: timezone && canonicalTimeZone(timezone) }),
    ...(metadata !== undefined && { metadata: metadata ?? {} }),
  };
}

const unknownMemory = (): never => {
  throw new AppError("not_found", { detail: "The user has no such memory." });
};
