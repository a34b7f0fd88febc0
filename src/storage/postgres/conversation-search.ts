/** Lists of conversations, and the search of them. */
import { cutWords } from "../../search/words.ts";
import type { Store } from "../store.ts";
import { pageOfConversations } from "./conversations.ts";
import type { Database } from "./database.ts";
import { indexedWord } from "./indexed.ts";

/**
 * Few matches are looked up; with many, the conversations are walked in their order until the page is full, because then
 * a match is never far. The function form of `@@` uses no index, and a scalar subquery is asked of one conversation at a
 * time.
 */
const holdsAll = `and coalesce(
    (select true from title_index t where t.n = c.n and ts_match_vq(t.words, $matching::text::tsquery)),
    (select true from messages m join message_index i on i.n = m.n
      where m.conversation_n = c.n and ts_match_vq(i.words, $matching::text::tsquery) limit 1), false)`;

export const createConversationSearch = (database: Database): Pick<Store, "conversations"> => ({
  async conversations(scope, query) {
    if (query.q === null) return await pageOfConversations(database, scope, query);
    const words = cutWords(query.q);
    if (words === "") return { conversations: [], next: null };
    const found = await database.row<{ matching: string; conversations: string[] | null }>(
      "select matching, conversations from conversations_holding($workspace_id, $user_id, $words::text[])",
      {
        workspace_id: scope.workspace_id,
        user_id: scope.user_id ?? query.user_id,
        words: words.split(" ").map(indexedWord),
      },
    );
    if (found === null) return { conversations: [], next: null };
    const { matching, conversations } = found;
    return await (conversations === null
      ? pageOfConversations(database, scope, query, holdsAll, { matching })
      : pageOfConversations(database, scope, query, "and c.n = any($found::bigint[])", {
          found: conversations,
        }));
  },
});
