/** Making keys: by an admin's request, or at the command line. */
import type { Fault } from "../errors.ts";
import { newId } from "../ids.ts";
import type { NewKey, Role } from "../storage/key-store.ts";
import { hashOf, newKeyText } from "./key-text.ts";

/** A key to be made. */
export interface KeyWish {
  name: string;
  role: Role;
  workspace_id: string;
  user_id: string | null;
  /** Unix seconds. */
  expires_at: number | null;
}

/** What is wrong with a wish beyond the form of its parts. */
export function faultsOfWish({ role, user_id, expires_at }: KeyWish, now: number): Fault[] {
  const faults: Fault[] = [];
  if (role === "user" && user_id === null) {
    faults.push({ path: "body.user_id", message: "is required for a key of the role user" });
  }
  if (role !== "user" && user_id !== null) {
    faults.push({ path: "body.user_id", message: "must be left out, but for a key of the role user" });
  }
  if (expires_at !== null && expires_at <= now) {
    faults.push({ path: "body.expires_at", message: "must be in the future, in unix seconds" });
  }
  return faults;
}

/** A new key: its text, which is told once, and what is stored of it. */
export function makeKey(wish: KeyWish, now_ms: number): { text: string; key: NewKey } {
  const id = newId("key");
  const text = newKeyText(id);
  return { text, key: { ...wish, id, secret_hash: hashOf(text), now_ms } };
}
