/** The one place where an error becomes a response: RFC 9457, without stacks, SQL, upstream text or user input. */
import type { TSchema } from "@sinclair/typebox";
import type { TypeCheck } from "@sinclair/typebox/compiler";
import { NotFoundError, ParseError, type Static, t, ValidationError } from "elysia";
import { AppError, errorCodes, type Fault, retryAfterSecondsOf, statusOf, titleOf } from "../errors.ts";
import { faultsMax, toFaults } from "./faults.ts";
import { requestFaults } from "./request-faults.ts";
import { integer, strictObject } from "./strict.ts";

const amount = (description: string) => t.Union([integer({ minimum: 0 }), t.String()], { description });

const budgetInProblem = strictObject(
  {
    scope: t.UnionEnum(["user", "key", "workspace"], { description: "Whose budget it is." }),
    unit: t.UnionEnum(["tokens", "usd"]),
    period: t.UnionEnum(["day", "month"], { description: "Of UTC." }),
    limit: amount("Tokens as a number, dollars as text."),
    used: amount("By turns that have ended."),
    reserved: amount("By turns that run."),
    remaining: amount("What is neither used nor reserved."),
    renews_at: integer({ minimum: 0, description: "When the next period begins." }),
    needed: amount("The most that the refused turn may take."),
  },
  { title: "ExhaustedBudget", description: "The budget that has no room for a turn." },
);

export const problem = strictObject(
  {
    type: t.String({ description: "Names the kind of problem; `code` in the form of a URI." }),
    title: t.String({ description: "What the code means, in words that never change." }),
    status: integer({ minimum: 400, maximum: 599, description: "The status of the response." }),
    detail: t.String({ description: "What went wrong this time, and what to do about it." }),
    instance: t.String({ description: "Names this occurrence; `request_id` in the form of a URI." }),
    code: t.UnionEnum(errorCodes as [string, ...string[]], { description: "What programs decide by." }),
    request_id: t.String({ description: "The same as the X-Request-Id header: the logs know it." }),
    errors: t.Optional(
      t.Array(
        strictObject(
          {
            path: t.String({ description: "Where the fault is.", examples: ["body.message"] }),
            message: t.String({ description: "What is wrong.", examples: ["is required"] }),
          },
          { title: "Fault" },
        ),
        { maxItems: 64, description: "Every fault of an invalid request." },
      ),
    ),
    turn_id: t.Optional(t.String({ description: "The turn that failed, or that is in the way." })),
    conversation_id: t.Optional(t.String({ description: "The conversation of a turn that failed." })),
    response: t.Optional(t.String({ description: "The partial reply of a turn that failed: it is kept." })),
    budget: t.Optional(budgetInProblem),
  },
  { title: "Problem", description: "An error, as RFC 9457 has it." },
);
export type Problem = Static<typeof problem>;

/**
 * Any thrown value as the error that the client is told.
 * @param allowed the methods that the request's path knows
 */
export function toAppError(error: unknown, request: Request, allowed: () => string[]): AppError {
  if (error instanceof AppError) return error;
  if (error instanceof ParseError) return toAppError(error.cause, request, allowed);
  if (error instanceof NotFoundError) return unknownRoute(allowed());
  if (error instanceof ValidationError) {
    const { validator, value, type } = error;
    const faults = toFaults(type, (validator as TypeCheck<TSchema>).Errors(value));
    if (type !== "response") return invalidRequest([...faults, ...requestFaults(request)]);
    // The error's own message holds the whole response, which must not be logged.
    return new AppError("internal", {
      cause: new Error(`the response breaks its schema: ${JSON.stringify(faults)}`),
    });
  }
  return new AppError("internal", { cause: error });
}

function unknownRoute(allowed: string[]): AppError {
  if (allowed.length === 0) return new AppError("not_found", { detail: "There is no such route." });
  const headers = { allow: allowed.join(", ") };
  return new AppError("method_not_allowed", { detail: `Allowed here: ${headers.allow}.`, headers });
}

/** A bad request, with every fault found, up to a limit. */
export const invalidRequest = (faults: Fault[]): AppError =>
  new AppError("invalid_request", {
    detail: faults.length === 1 ? "The request has a fault." : `The request has ${faults.length} faults.`,
    faults: faults.slice(0, faultsMax),
  });

/** An error as the client reads it. */
export const toProblem = (error: AppError, requestId: string): Problem => ({
  type: `urn:parley:problem:${error.code}`,
  title: titleOf(error.code),
  status: statusOf(error.code),
  detail: error.detail,
  instance: `urn:parley:request:${requestId}`,
  code: error.code,
  request_id: requestId,
  ...(error.faults && { errors: error.faults }),
  ...error.members,
});

/** @param more further headers, which the error's own go before */
export function problemResponse(
  error: AppError,
  requestId: string,
  more: Record<string, string> = {},
): Response {
  const problem = toProblem(error, requestId);
  const retryAfterSeconds = error.final ? undefined : retryAfterSecondsOf(error.code);
  return Response.json(problem, {
    status: problem.status,
    headers: {
      ...more,
      "content-type": "application/problem+json",
      "x-request-id": requestId,
      ...(retryAfterSeconds && { "retry-after": String(retryAfterSeconds) }),
      ...error.headers,
    },
  });
}
