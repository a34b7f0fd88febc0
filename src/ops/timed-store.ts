/** The storage, each call of which is timed: whichever adapter it is. */
import { AppError } from "../errors.ts";
import type { Store } from "../storage/store.ts";

/** What the storage is to blame for; `not_found` and its like are answers. */
const failures = new Set(["storage_unavailable", "overloaded", "internal"]);

/**
 * @param store an object of functions
 * @param onCall hears of every call when it has ended; the code is null where it did what it should
 */
export function timedStore(
  store: Store,
  onCall: (operation: string, seconds: number, code: string | null) => void,
): Store {
  const timed = Object.entries(store).map(
    ([operation, method]: [string, (...args: unknown[]) => unknown]) => [
      operation,
      (...args: unknown[]): unknown => {
        const startedMs = performance.now();
        const result = method(...args);
        if (result instanceof Promise) {
          const end = (code: string | null): void =>
            onCall(operation, (performance.now() - startedMs) / 1000, code);
          result.then(
            () => end(null),
            (error) => end(codeOf(error)),
          );
        }
        return result;
      },
    ],
  );
  return Object.fromEntries(timed) as Store;
}

function codeOf(error: unknown): string | null {
  const code = error instanceof AppError ? error.code : "internal";
  return failures.has(code) ? code : null;
}
