/** Figures for Prometheus, for whoever has a key of the service's own. */
import { type Authenticate, requireRole } from "../auth/principal.ts";
import { common, operation } from "../http/docs.ts";
import { requestIdFrom } from "../http/request-id.ts";
import { authenticatedRoutes } from "../http/routes.ts";
import type { Metrics } from "./metrics.ts";

const example = `# HELP parley_turns_total Turns that ended here.
# TYPE parley_turns_total counter
parley_turns_total{status="completed",model="embedded"} 42
`;

export interface MetricsServices {
  readonly metrics: Metrics;
  readonly authenticate: Authenticate;
}

export function metricsRoutes({ metrics, authenticate }: MetricsServices) {
  return authenticatedRoutes("", authenticate).get(
    "/metrics",
    async ({ principal, set }) => {
      requireRole(principal, "admin", "service");
      return new Response(await metrics.exposition(), {
        headers: {
          "content-type": metrics.contentType,
          "cache-control": "no-store",
          "x-request-id": requestIdFrom(set),
        },
      });
    },
    {
      detail: operation({
        tag: "Operations",
        id: "metrics",
        summary: "Metrics",
        description:
          "What was counted since this instance started, in Prometheus' text format. It takes any key but a user's.",
        answers: {
          200: {
            description: "The metrics.",
            content: { "text/plain": { schema: { type: "string" }, example } },
          },
        },
        problems: common.filter((code) => code !== "storage_unavailable"),
      }),
    },
  );
}
