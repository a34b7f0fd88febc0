/** The parts of a route's documentation that many routes share. */
import type { DocumentDecoration } from "elysia";
import { type ErrorCode, errorCodes, statusOf, titleOf } from "../errors.ts";

type Responses = NonNullable<DocumentDecoration["responses"]>;

/** Problem responses for statuses, each with the codes it may carry. */
export function problems(...statuses: number[]): Responses {
  return Object.fromEntries(
    statuses.map((status) => {
      const codes = errorCodes.filter((code: ErrorCode) => statusOf(code) === status);
      return [
        String(status),
        {
          description: codes.map((code) => `\`${code}\`: ${titleOf(code)}`).join("; "),
          content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
        },
      ];
    }),
  );
}
