/** Errors as responses. */
import { expect, test } from "bun:test";
import { AppError, type ErrorCode } from "../../src/errors.ts";
import { problemResponse } from "../../src/http/problem.ts";

test.each(["overloaded", "storage_unavailable", "shutting_down"] satisfies ErrorCode[])(
  "%s says when to come back, wherever it was thrown",
  (code) => {
    const { status, headers } = problemResponse(new AppError(code), "req_1");
    expect(status).toBe(503);
    expect(headers.get("retry-after")).toMatch(/^[1-9]\d*$/);
  },
);
