/** API keys. */
import type { KeyStore } from "../key-store.ts";
import type { Database } from "./database.ts";

export function createKeys(_database: Database): KeyStore {
  return {} as never;
}
