/** Tells a wrong method (405) from an unknown path (404). */
import type { AnyElysia } from "elysia";
import { pathOf } from "./path.ts";

/** The methods that a request's path knows; empty where there is no such path. */
export function allowedMethods(app: AnyElysia, request: Request): string[] {
  const asked = pathOf(request);
  const methods = new Set(app.routes.filter(({ path }) => matches(path, asked)).map(({ method }) => method));
  if (methods.has("GET")) methods.add("HEAD");
  return [...methods].sort();
}

/** Whether a path is one of a route, such as `/v1/turns/:id` or `/docs/*`. */
function matches(route: string, path: string): boolean {
  const parts = path.split("/");
  const wanted = route.split("/");
  if (wanted.at(-1) === "*") return wanted.slice(0, -1).every((part, index) => part === parts[index]);
  return (
    wanted.length === parts.length &&
    wanted.every((part, index) => part === parts[index] || (part.startsWith(":") && parts[index] !== ""))
  );
}
