/**
 * What a route's documentation is made of. Elysia's schemas tell the rest; `ops/openapi.ts` puts both together.
 * Nothing here is validated: what a request must be is in the schemas and in `request-faults.ts`.
 */
import type { TSchema } from "@sinclair/typebox";
import type { DocumentDecoration } from "elysia";
import { AppError, type ErrorCode, retryAfterSecondsOf, statusOf, titleOf } from "../errors.ts";
import { idempotencyKeyPattern } from "./faults.ts";
import { invalidRequest, type Problem, problem, toProblem } from "./problem.ts";
import { eventIdPattern } from "./sse.ts";

/** Ids for examples. */
export const exampleIds = {
  conversation: "conv_01980000-0000-7000-8000-00000000c0de",
  turn: "turn_01980000-0000-7000-8000-000000007e57",
  userMessage: "msg_01980000-0000-7000-8000-00000000a5ce",
  message: "msg_01980000-0000-7000-8000-00000000feed",
  document: "doc_01980000-0000-7000-8000-00000000d0c5",
  memory: "mem_01980000-0000-7000-8000-000000000ace",
  key: "key_01980000-0000-7000-8000-000000005ec7",
} as const;

/** Headers of requests that the schemas don't know. */
const requestHeaders = {
  "Idempotency-Key": {
    description:
      "Makes a retry safe: the same key with the same body answers with what the first request made, for at least 48 hours. With another body it is refused (422).",
    schema: { type: "string", pattern: idempotencyKeyPattern },
  },
  "Last-Event-ID": {
    description:
      "The id of the last event that was seen, as `EventSource` sends it by itself: the stream goes on right after it, and no new turn is started. After the last event there is nothing more: 204.",
    schema: { type: "string", pattern: eventIdPattern },
  },
} as const;

/** Headers of responses, by their names among the document's components. */
export const responseHeaders = {
  "X-Request-Id": {
    description: "Names this request in the logs: the client's own X-Request-Id where it sent a usable one.",
    schema: { type: "string" },
    example: "req_01980000-0000-7000-8000-000000000001",
  },
  Location: {
    description: "Where the new resource is.",
    schema: { type: "string", format: "uri-reference" },
  },
  "Retry-After": {
    description: "Seconds after which a retry makes sense.",
    schema: { type: "integer", minimum: 1 },
    example: 5,
  },
  "WWW-Authenticate": {
    description: "How to authenticate.",
    schema: { type: "string" },
    example: 'Bearer realm="parley"',
  },
  "Content-Disposition": { description: "The file's name.", schema: { type: "string" } },
} as const;

interface Body {
  schema?: TSchema | { type: "string" };
  example?: unknown;
  examples?: Record<string, { summary: string; value: unknown }>;
}

interface Answer {
  description: string;
  headers?: (keyof typeof responseHeaders)[];
  /** By media type. A JSON answer's schema is the route's own. */
  content?: Record<string, Body>;
}

interface Operation {
  tag: string;
  id: string;
  summary: string;
  description: string;
  /** In place of a bearer key; empty where none is needed. */
  security?: Record<string, string[]>[];
  headers?: (keyof typeof requestHeaders)[];
  /** Examples of the JSON body. */
  body?: NonNullable<Body["examples"]>;
  /** In place of `body` where there are several kinds, by media type: with their schemas. */
  bodies?: Record<string, Body>;
  answers: Record<number, Answer>;
  problems: ErrorCode[];
}

/** A route's `detail`. */
export function operation(route: Operation): DocumentDecoration {
  const { tag, id, summary, description, security, headers = [], body, bodies, answers, problems } = route;
  const decoration = {
    tags: [tag],
    operationId: id,
    summary,
    description,
    ...(security && { security }),
    parameters: headers.map((name) => ({ name, in: "header", required: false, ...requestHeaders[name] })),
    ...(body && { requestBody: { content: { "application/json": { examples: body } } } }),
    ...(bodies && { requestBody: { required: true, content: bodies } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, { headers, ...answer }]) => [
          status,
          { ...answer, headers: refs("headers", headers ?? []) },
        ]),
      ),
      ...problemsOf(problems),
    },
  };
  // Its schemas are JSON Schema 2020-12, as OpenAPI 3.1 wants them; Elysia's type is of 3.0.
  return decoration as unknown as DocumentDecoration;
}

/** A JSON answer. */
export const json = (description: string, example: unknown, headers: Answer["headers"] = []): Answer => ({
  description,
  headers,
  content: { "application/json": { example } },
});

const refs = (kind: "headers" | "examples", names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, { $ref: `#/components/${kind}/${name}` }]));

/** One response for each status, with an example for each code that it may carry. */
function problemsOf(codes: ErrorCode[]) {
  return Object.fromEntries(
    [...Map.groupBy(codes, statusOf)].map(([status, codes]) => [
      status,
      {
        description: codes.map((code) => `\`${code}\`: ${titleOf(code)}.`).join(" "),
        headers: refs("headers", [
          ...(status === 401 ? ["WWW-Authenticate"] : []),
          ...(status === 429 || codes.some((code) => retryAfterSecondsOf(code) !== undefined)
            ? ["Retry-After"]
            : []),
        ]),
        content: { "application/problem+json": { schema: problem, examples: refs("examples", codes) } },
      },
    ]),
  );
}

const exhaustedBudget = {
  scope: "user",
  unit: "tokens",
  period: "day",
  limit: 100_000,
  used: 97_000,
  reserved: 0,
  remaining: 3_000,
  renews_at: 1_785_024_000,
  needed: 8_000,
};

/** A problem of each code, made as the real ones are. */
export function problemExample(code: ErrorCode): Problem {
  const failedTurn = {
    turn_id: exampleIds.turn,
    conversation_id: exampleIds.conversation,
    response: "Mount Everest, at",
  };
  const error =
    code === "invalid_request"
      ? invalidRequest([{ path: "body.message", message: "is required" }])
      : code === "turn_in_progress"
        ? new AppError(code, { members: { turn_id: exampleIds.turn } })
        : code === "budget_exhausted"
          ? new AppError(code, { members: { budget: exhaustedBudget } })
          : code.startsWith("model_") || code === "turn_interrupted"
            ? new AppError(code, { members: failedTurn })
            : new AppError(code);
  return toProblem(error, "req_01980000-0000-7000-8000-000000000001");
}

/** The codes of every route that needs a principal and the storage. */
export const common: ErrorCode[] = [
  "invalid_request",
  "unauthorized",
  "forbidden",
  "rate_limited",
  "internal",
  "overloaded",
  "storage_unavailable",
];

/** The codes of routes that name something. */
export const naming: ErrorCode[] = [...common, "not_found"];

/** What routes with a JSON body have beside those. */
export const taking: ErrorCode[] = ["malformed_json", "payload_too_large", "unsupported_media_type"];
