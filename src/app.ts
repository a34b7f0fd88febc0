/** Every route group, in order: a table of contents. */
import { Elysia, type InternalRoute } from "elysia";
import { type KeyServices, keyRoutes } from "./auth/routes.ts";
import { type ChatServices, chatRoutes } from "./chat/routes.ts";
import { type ConversationServices, conversationRoutes } from "./conversations/routes.ts";
import { type DocumentServices, documentRoutes, takesUpload } from "./documents/routes.ts";
import { AppError } from "./errors.ts";
import { readJsonBody } from "./http/body.ts";
import { createCors } from "./http/cors.ts";
import { refuseForeignPages } from "./http/local-only.ts";
import { allowedMethods } from "./http/methods.ts";
import { refuseFoldedDelete } from "./http/path.ts";
import { invalidRequest, problemResponse, toAppError } from "./http/problem.ts";
import { requestFaults } from "./http/request-faults.ts";
import { requestIdFrom, requestIdHeader, requestIdOf } from "./http/request-id.ts";
import { securityHeaders } from "./http/security-headers.ts";
import { readUpload } from "./http/upload.ts";
import { type KeepingServices, keepingRoutes } from "./keeping/routes.ts";
import type { Admission } from "./limits/admission.ts";
import { type BudgetServices, budgetRoutes } from "./limits/routes.ts";
import { docsRoutes } from "./ops/docs.ts";
import { type MetricsServices, metricsRoutes } from "./ops/metrics-routes.ts";
import type { Readiness } from "./ops/readiness.ts";
import { opsRoutes } from "./ops/routes.ts";
import type { Store } from "./storage/store.ts";
import { type UsageServices, usageRoutes } from "./usage/routes.ts";
import { type UserServices, userRoutes } from "./users/routes.ts";

export interface AppServices
  extends ChatServices,
    ConversationServices,
    DocumentServices,
    UserServices,
    KeyServices,
    UsageServices,
    BudgetServices,
    KeepingServices,
    MetricsServices {
  readonly store: Store;
  readonly admission: Admission;
  readonly readiness: Readiness;
  /** Whether only programs of this machine are served, because there is no key. */
  readonly isLocalOnly: () => boolean;
  /** Origins whose pages may read answers. */
  readonly corsOrigins: readonly string[];
}

/** What tells how the service is: answered under any load. */
const probe = /^https?:\/\/[^/]*\/(health|ready|metrics)(\?|$)/;

/** @param requestsOpen counts the requests that are being read, worked on or streamed, the current one included */
export function createApp(given: AppServices, requestsOpen: () => number = () => 0) {
  const { limits, isLocalOnly, requests, admission } = given;
  const authenticate = admission.guard(given.authenticate);
  const services = { ...given, authenticate };
  const cors = createCors(services.corsOrigins);
  const bodyLimits = { bytesMax: limits.bodyBytesMax, secondsMax: limits.bodySecondsMax };
  const uploadLimits = {
    bytesMax: limits.documentBytesMax,
    secondsMax: limits.bodySecondsMax * Math.ceil(limits.documentBytesMax / limits.bodyBytesMax),
  };
  const app = new Elysia({ normalize: false })
    .onRequest(async ({ request, server, set }) => {
      const requestId = requestIdOf(request);
      set.headers[requestIdHeader] = requestId;
      requests.begin(request, requestId);
      Object.assign(set.headers, securityHeaders, cors.headersFor(request));
      if (isLocalOnly()) refuseForeignPages(request, cors.isNamed);
      const preflight = cors.preflight(request);
      if (preflight !== null) {
        requests.answered(request, null, preflight.status);
        return preflight;
      }
      if (probe.test(request.url)) return undefined;
      if (requestsOpen() > limits.requestsOpenMax) throw new AppError("overloaded");
      await admission.enter(request, server);
      return undefined;
    })
    .onError({ as: "global" }, async ({ error, request, set }) => {
      const fault = toAppError(error, request, () => allowedMethods(app, request));
      requests.failed(request, fault);
      if (fault.code === "unauthorized") await admission.refused(request);
      return problemResponse(fault, requestIdFrom(set), admission.headersOf(request));
    })
    .onAfterResponse({ as: "global" }, ({ request, route, response, set }) => {
      const status = response instanceof Response ? response.status : Number(set.status ?? 200);
      requests.answered(request, route ?? null, status);
    })
    .onParse({ as: "global" }, async ({ request, route }) => {
      // Nothing is read from strangers; the routes that take a body all need a principal.
      await authenticate(request);
      if (takesUpload(route)) return readUpload(request, uploadLimits);
      return readJsonBody(request, bodyLimits);
    })
    .onBeforeHandle({ as: "global" }, ({ request, set }) => {
      Object.assign(set.headers, admission.headersOf(request));
      refuseFoldedDelete(request);
      const faults = requestFaults(request);
      if (faults.length > 0) throw invalidRequest(faults);
    })
    .use(opsRoutes(services.readiness))
    .use(metricsRoutes(services))
    .use(docsRoutes((): InternalRoute[] => app.routes))
    .use(chatRoutes("/v1", services))
    .use(conversationRoutes("/v1", services))
    .use(documentRoutes("/v1", services))
    .use(userRoutes("/v1", services))
    .use(keyRoutes("/v1", services))
    .use(usageRoutes("/v1", services))
    .use(budgetRoutes("/v1", services))
    .use(keepingRoutes("/v1", services))
    .use(chatRoutes("", services))
    .use(conversationRoutes("", services))
    .use(documentRoutes("", services))
    .use(userRoutes("", services))
    .use(keyRoutes("", services))
    .use(usageRoutes("", services))
    .use(budgetRoutes("", services))
    .use(keepingRoutes("", services));
  return app;
}
