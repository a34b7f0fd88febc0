/** Liveness and readiness, open to all. */
import { t } from "elysia";
import type { ErrorCode } from "../errors.ts";
import { json, operation } from "../http/docs.ts";
import { openRoutes } from "../http/routes.ts";
import { strictObject } from "../http/strict.ts";
import { version } from "../version.ts";
import type { Readiness } from "./readiness.ts";

const health = strictObject(
  { status: t.Literal("healthy"), version: t.String({ description: "Parley's own." }) },
  { title: "Health" },
);

const check = strictObject(
  {
    status: t.UnionEnum(["ok", "failed", "unknown"], {
      description: "`unknown`: a model that wasn't asked for anything yet.",
    }),
    latency_ms: t.Number({
      minimum: 0,
      description: "How long the check took; of a model, how long its last answer took to begin.",
    }),
  },
  { title: "Check" },
);

const readiness = strictObject(
  {
    status: t.UnionEnum(["ready", "not_ready"]),
    checks: strictObject({
      serving: check,
      storage: check,
      disk: t.Optional(check),
      background: check,
      model: check,
      embedding: t.Optional(check),
    }),
  },
  { title: "Readiness" },
);

const tag = "Operations";
const problems: ErrorCode[] = ["invalid_request", "forbidden", "internal"];
const fine = { status: "ok", latency_ms: 0 };
const others = {
  disk: { status: "ok", latency_ms: 0.2 },
  background: fine,
  model: { status: "ok", latency_ms: 412.5 },
};

export function opsRoutes(state: Readiness) {
  return openRoutes()
    .get("/health", () => ({ status: "healthy" as const, version }), {
      response: { 200: health },
      detail: operation({
        tag,
        id: "health",
        summary: "Liveness",
        description: "Answers as long as the process does; it asks nobody else.",
        security: [],
        answers: { 200: json("The process lives.", { status: "healthy", version }) },
        problems,
      }),
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
        detail: operation({
          tag,
          id: "ready",
          summary: "Readiness",
          description:
            "Whether this instance should get requests: it isn't shutting down (`serving`), and it can store (`storage`). The other checks decide nothing. `disk`: 64 MiB are free, where the data is in a directory. `background`: memories and summaries keep up with turns. `model`, `embedding`: the last request to it was answered; nothing is asked for this check.",
          security: [],
          answers: {
            200: json("Ready.", {
              status: "ready",
              checks: { serving: fine, storage: { status: "ok", latency_ms: 1.3 }, ...others },
            }),
            503: json("Not ready: send requests elsewhere.", {
              status: "not_ready",
              checks: { serving: fine, storage: { status: "failed", latency_ms: 5000 }, ...others },
            }),
          },
          problems,
        }),
      },
    );
}
