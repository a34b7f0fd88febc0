/** Every route group, in order: a table of contents. */
import { Elysia, type InternalRoute } from "elysia";
import { type ChatServices, chatRoutes } from "./chat/routes.ts";
import { type ConversationServices, conversationRoutes } from "./conversations/routes.ts";
import { type DocumentServices, documentRoutes, takesUpload } from "./documents/routes.ts";
import { AppError, statusOf } from "./errors.ts";
import { readJsonBody } from "./http/body.ts";
import { refuseForeignPages } from "./http/local-only.ts";
import { allowedMethods } from "./http/methods.ts";
import { invalidRequest, problemResponse, toAppError } from "./http/problem.ts";
import { requestFaults } from "./http/request-faults.ts";
import { requestIdFrom, requestIdHeader, requestIdOf } from "./http/request-id.ts";
import { readUpload } from "./http/upload.ts";
import { type KeepingServices, keepingRoutes } from "./keeping/routes.ts";
import type { Log } from "./log.ts";
import { docsRoutes } from "./ops/docs.ts";
import type { Readiness } from "./ops/readiness.ts";
import { opsRoutes } from "./ops/routes.ts";
import { type UserServices, userRoutes } from "./users/routes.ts";

export interface AppServices
  extends ChatServices,
    ConversationServices,
    DocumentServices,
    UserServices,
    KeepingServices {
  readonly readiness: Readiness;
  readonly log: Log;
  /** Whether only programs of this machine are served, because there is no key. */
  readonly localOnly: boolean;
}

/** What probes ask: answered under any load. */
const probe = /^https?:\/\/[^/]*\/(health|ready)(\?|$)/;

/** @param requestsOpen counts the requests that are being read, worked on or streamed, the current one included */
export function createApp(services: AppServices, requestsOpen: () => number = () => 0) {
  const { log, limits, localOnly, authenticate } = services;
  const bodyLimits = { bytesMax: limits.bodyBytesMax, secondsMax: limits.bodySecondsMax };
  const uploadLimits = {
    bytesMax: limits.documentBytesMax,
    secondsMax: limits.bodySecondsMax * Math.ceil(limits.documentBytesMax / limits.bodyBytesMax),
  };
  const app = new Elysia({ normalize: false })
    .onRequest(({ request, set }) => {
      set.headers[requestIdHeader] = requestIdOf(request);
      if (localOnly) refuseForeignPages(request);
      if (requestsOpen() > limits.requestsOpenMax && !probe.test(request.url)) {
        throw new AppError("overloaded");
      }
    })
    .onError({ as: "global" }, ({ error, request, set }) => {
      const fault = toAppError(error, request, () => allowedMethods(app, request));
      const requestId = requestIdFrom(set);
      if (statusOf(fault.code) >= 500)
        log.error({ request_id: requestId, code: fault.code, err: fault.cause }, "request failed");
      return problemResponse(fault, requestId);
    })
    .onParse({ as: "global" }, async ({ request, route }) => {
      // Nothing is read from strangers; the routes that take a body all need a principal.
      await authenticate(request);
      if (takesUpload(route)) return readUpload(request, uploadLimits);
      return readJsonBody(request, bodyLimits);
    })
    .onBeforeHandle({ as: "global" }, ({ request }) => {
      const faults = requestFaults(request);
      if (faults.length > 0) throw invalidRequest(faults);
    })
    .use(opsRoutes(services.readiness))
    .use(docsRoutes((): InternalRoute[] => app.routes))
    .use(chatRoutes("/v1", services))
    .use(conversationRoutes("/v1", services))
    .use(documentRoutes("/v1", services))
    .use(userRoutes("/v1", services))
    .use(keepingRoutes("/v1", services))
    .use(chatRoutes("", services))
    .use(conversationRoutes("", services))
    .use(documentRoutes("", services))
    .use(userRoutes("", services))
    .use(keepingRoutes("", services));
  return app;
}
