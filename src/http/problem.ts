/** The one place where an error becomes a response: RFC 9457, without stacks, SQL, upstream text or user input. */
import type { TSchema } from "@sinclair/typebox";
import type { TypeCheck } from "@sinclair/typebox/compiler";
import { NotFoundError, ParseError, ValidationError } from "elysia";
import { AppError, type Fault, statusOf, titleOf } from "../errors.ts";
import { toFaults } from "./faults.ts";
import { requestFaults } from "./request-faults.ts";

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance: string;
  code: string;
  request_id: string;
  errors?: Fault[];
}

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

/** A bad request, with every fault found. */
export const invalidRequest = (faults: Fault[]): AppError =>
  new AppError("invalid_request", {
    detail: faults.length === 1 ? "The request has a fault." : `The request has ${faults.length} faults.`,
    faults,
  });

export function problemResponse(error: AppError, requestId: string): Response {
  const problem: Problem = {
    type: `urn:parley:problem:${error.code}`,
    title: titleOf(error.code),
    status: statusOf(error.code),
    detail: error.detail,
    instance: `urn:parley:request:${requestId}`,
    code: error.code,
    request_id: requestId,
    ...(error.faults && { errors: error.faults }),
    ...error.members,
  };
  return Response.json(problem, {
    status: problem.status,
    headers: {
      "content-type": "application/problem+json",
      "x-request-id": requestId,
      ...(error.retryAfterSeconds && { "retry-after": String(error.retryAfterSeconds) }),
      ...error.headers,
    },
  });
}
