/** Requests to a service from the command line: its key, its refusals in one line, its broken connections. */
import { usageError } from "./command.ts";
import { visibleLine } from "./terminal.ts";

/** What went wrong, in one line without control characters. */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
}

/** A failure after which the same request may succeed. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
}

/** @throws ConnectionLost, ServiceError */
export type Send = (path: string, init: RequestInit) => Promise<Response>;

/** @param base the address of the service, with a path where it isn't at the root */
export function sendTo(base: URL, key: string | null): Send {
  const root = base.href.endsWith("/") ? base.href : `${base.href}/`;
  return async (path, init) => {
    const headers = new Headers(init.headers);
    if (key !== null) headers.set("authorization", `Bearer ${key}`);
    let response: Response;
    try {
      response = await fetch(new URL(path, root), { ...init, headers, redirect: "manual" });
    } catch (error) {
      throw new ConnectionLost(`can't reach ${base.origin}: ${reasonOf(error)}`);
    }
    if (response.ok) return response;
    const reason = await describeRefusal(response);
    // What stands between may answer for a service that is starting again; problems are the service's own words.
    const passing = !isProblem(response) && [502, 503, 504].includes(response.status);
    throw passing ? new ConnectionLost(reason) : new ServiceError(reason);
  };
}

/** @throws CommandError where --url is no address */
export function toUrl(text: string): URL {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return new URL(text);
  throw usageError("--url must be an http:// or https:// address");
}

export const nonsense = (): ServiceError => new ServiceError("the service's answer made no sense");

/** @throws ServiceError where a value is no object */
export function asRecord(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null) throw nonsense();
  return value as Record<string, unknown>;
}

const isProblem = ({ headers }: Response): boolean =>
  headers.get("content-type")?.startsWith("application/problem+json") ?? false;

/** A refused request in one line: the problem's sentence and its faults, or the bare status. */
async function describeRefusal(response: Response): Promise<string> {
  const plain = `the service answered with status ${response.status}`;
  if (!isProblem(response)) {
    await response.body?.cancel();
    return plain;
  }
  try {
    const { title, detail, errors } = asRecord(await response.json());
    const faults = Array.isArray(errors) ? errors.map(asRecord) : [];
    const listed = faults.map(({ path, message }) => `${path} ${message}`).join("; ");
    return visibleLine(String(listed === "" ? detail : `${title}: ${listed}`));
  } catch {
    return plain;
  }
}

/** An error's first sentence: Bun's go on with advice. */
export const reasonOf = (error: unknown): string =>
  visibleLine(error instanceof Error ? error.message : String(error)).split(". ")[0]!;
