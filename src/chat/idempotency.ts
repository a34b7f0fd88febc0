/** What makes a request a retry of an earlier one. */
import type { Principal } from "../auth/principal.ts";
import type { Idempotency } from "../storage/store.ts";

/** A request's identity under its key: absent and null are the same, and the order of properties doesn't count. */
export function toIdempotency(
  principal: Principal,
  operation: Idempotency["operation"],
  key: string,
  body: Record<string, unknown>,
): Idempotency {
  const canonical = JSON.stringify(body, (_, value) =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value)
            .filter(([, member]) => member !== null)
            .sort(([a], [b]) => (a < b ? -1 : 1)),
        )
      : value,
  );
  const body_hash = new Bun.CryptoHasher("sha256").update(canonical).digest("hex");
  return { principal_id: principal.id, operation, key, body_hash };
}
