/** Liveness and readiness, open to all. */
import { t } from "elysia";
import { problems } from "../http/docs.ts";
import { openRoutes } from "../http/routes.ts";
import { strictObject } from "../http/strict.ts";
import { version } from "../version.ts";
import type { Readiness } from "./readiness.ts";

const health = strictObject({ status: t.Literal("healthy"), version: t.String() }, { title: "Health" });

const check = strictObject({
  status: t.UnionEnum(["ok", "failed"]),
  latency_ms: t.Number({ minimum: 0 }),
});

const readiness = strictObject(
  {
    status: t.UnionEnum(["ready", "not_ready"]),
    checks: strictObject({ serving: check, storage: check }),
  },
  { title: "Readiness" },
);

const tags = ["Operations"];

export function opsRoutes(state: Readiness) {
  return openRoutes()
    .get("/health", () => ({ status: "healthy" as const, version }), {
      response: { 200: health },
      detail: { tags, operationId: "health", summary: "Liveness", security: [], responses: problems(403) },
    })
    .get(
      "/ready",
      async ({ set }) => {
        const answer = await state.read();
        if (answer.status !== "ready") set.status = 503;
        return answer;
      },
      {
        response: { 200: readiness, 503: readiness },
        detail: { tags, operationId: "ready", summary: "Readiness", security: [], responses: problems(403) },
      },
    );
}
