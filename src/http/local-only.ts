/**
 * Without a key the API is open on loopback, to this machine's own programs but to no web page: a foreign page's
 * requests carry its `Origin` or `Sec-Fetch-Site`, and a rebound DNS name shows in `Host`.
 */
import { isLoopback } from "../config.ts";
import { AppError } from "../errors.ts";

/**
 * @param isNamed whether a page's origin was named as one that may talk to the service all the same
 * @throws forbidden for a request that may come from a web page of somewhere else
 */
export function refuseForeignPages({ headers }: Request, isNamed: (origin: string) => boolean): void {
  // Only HTTP/1.0 knows requests without it, such as a load balancer's probe; no browser sends any.
  const host = headers.get("host");
  if (host !== null && !isLoopback(hostName(host))) throw foreign("Host");
  const origin = headers.get("origin");
  if (origin !== null && isNamed(origin)) return;
  if (origin !== null && !(URL.canParse(origin) && isLoopback(new URL(origin).hostname)))
    throw foreign("Origin");
  if (headers.get("sec-fetch-site") === "cross-site") throw foreign("Sec-Fetch-Site");
}

const hostName = (host: string): string => host.replace(/:\d*$/, "");

const foreign = (header: string): AppError =>
  new AppError("forbidden", {
    detail: `The ${header} header is not of this machine. Without a key only local programs are served: make one, also behind a proxy (parley keys create).`,
  });
