/** Tells a wrong method (405) from an unknown path (404). */
import type { AnyElysia } from "elysia";

/** The methods that a request's path knows; empty where there is no such path. */
export function allowedMethods(app: AnyElysia, request: Request): string[] {
  const { pathname } = new URL(request.url);
  const methods = new Set(app.routes.map(({ method }) => method));
  return [...methods].filter((method) => app.router.http.find(method, pathname) !== null).sort();
}
