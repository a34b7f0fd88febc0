/** What admin keys alone may do. Without any key whoever reaches the service runs it. */
import { AppError } from "../errors.ts";
import type { Principal } from "./principal.ts";

const isOpen = ({ id }: Principal): boolean => id === "open";

/** For what concerns the whole workspace. @throws forbidden */
export function requireAdmin(principal: Principal): void {
  if (principal.role === "admin" || isOpen(principal)) return;
  throw new AppError("forbidden", { detail: "This needs an admin key." });
}

/** For what concerns every workspace. @param what it is about, for the detail @throws forbidden */
export function requireOperator(principal: Principal, what: string): void {
  if (principal.everywhere || isOpen(principal)) return;
  throw new AppError("forbidden", {
    detail: `${what} holds every workspace: it takes an admin key of PARLEY_API_KEYS.`,
  });
}
