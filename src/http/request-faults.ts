/** What schemas can't see, or would report alone and hide the rest: the raw query string and the headers. */
import type { Fault } from "../errors.ts";
import { idempotencyKeyFault, idempotencyKeyPattern, publicName } from "./faults.ts";
import { pathOf } from "./path.ts";
import { eventIdFault, parseEventId } from "./sse.ts";

const notEncoded = "must be percent-encoded UTF-8";
const idempotencyKey = new RegExp(idempotencyKeyPattern);

/** Faults of a request beside those of its schemas. */
export function requestFaults(request: Request): Fault[] {
  const faults = [...userFaults(request), ...queryFaults(request.url)];
  const key = request.headers.get("idempotency-key");
  if (key !== null && !idempotencyKey.test(key)) {
    faults.push({ path: "headers.idempotency-key", message: idempotencyKeyFault });
  }
  const eventId = request.headers.get("last-event-id");
  if (eventId && /\/stream(\?|$)/.test(request.url) && parseEventId(eventId) === null) {
    faults.push(eventIdFault("headers.last-event-id"));
  }
  return faults;
}

/** A broken escape in the path is read as U+FFFD, which would make a user's id another one's. */
function userFaults(request: Request): Fault[] {
  const [, user] = /\/users\/([^/]*)/.exec(pathOf(request)) ?? [];
  if (user === undefined || decode(user) !== null) return [];
  return [{ path: "params.user_id", message: notEncoded }];
}

/** Faults of a query string itself: parameters given twice (a parser keeps one of them) and broken escapes. */
function queryFaults(url: string): Fault[] {
  const start = url.indexOf("?");
  if (start < 0) return [];
  const faults: Fault[] = [];
  const seen = new Set<string>();
  const repeated = new Set<string>();
  for (const pair of url.slice(start + 1).split("&")) {
    if (pair === "") continue;
    const [name = "", value = ""] = pair.split("=", 2);
    const key = decode(name);
    if (key === null || decode(value) === null) {
      faults.push({ path: `query.${publicName(key ?? "")}`, message: notEncoded });
    } else if (seen.has(key) && !repeated.has(key)) {
      repeated.add(key);
      faults.push({ path: `query.${publicName(key)}`, message: "must be given once" });
    } else seen.add(key);
  }
  return faults;
}

function decode(part: string): string | null {
  try {
    return decodeURIComponent(part.replaceAll("+", " "));
  } catch {
    return null;
  }
}
