/** What admin keys alone may do. */
import { AppError } from "../errors.ts";
import type { Principal } from "./principal.ts";

/** Without any key whoever reaches the service runs it. @throws forbidden */
export function requireAdmin({ role, id }: Principal): void {
  if (role === "admin" || id === "open") return;
  throw new AppError("forbidden", { detail: "This needs an admin key." });
}
