/** Lists of conversations, and the search of them. */
import type { Store } from "../store.ts";
import type { Database } from "./database.ts";

export function createConversationSearch(_database: Database): Pick<Store, "conversations"> {
  return {} as never;
}
