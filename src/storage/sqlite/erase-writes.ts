/**
 * Statements that erase users and conversations, each call a bounded bit, because taking a long text out of the
 * full-text index takes long; see erasure.ts for the whole of it.
 *
 * First something is cut off: a user loses their user_id, a conversation is marked as deleted. Then nothing goes on
 * with it, and what is left can be taken away at leisure, also after a crash.
 */
import type { Database, SQLQueryBindings } from "bun:sqlite";
import type { Erased, UserScope } from "../memory-store.ts";

/** Messages that are erased in one call, at most as many as have so many bytes, but always one. */
const messagesMax = 16;
const messageBytesMax = 4_096;
const memoriesMax = 256;
const documentsMax = 16;
/** Pages of a full-text index that one call merges. */
const mergePages = 64;

/** What holds words of deleted text until it is cleaned. */
export const fullTextIndexes = ["message_index", "title_words", "passage_index"] as const;
export type FullTextIndex = (typeof fullTextIndexes)[number];
export type Uncleaned = FullTextIndex | "files";

const nothing: Erased = {
  conversations: 0,
  messages: 0,
  turns: 0,
  memories: 0,
  documents: 0,
  idempotency_keys: 0,
};

/** What stands in an idempotency key for something of a user that was deleted. */
const keptFor = (user_n: number): string => `u${user_n}`;

export interface EraseStep {
  erased: Erased;
  more: boolean;
}

/**
 * @param complete writes out what is still to be indexed, so that it is erased as well
 * @param forgetBudgets takes away what budgets were set for a user; false where none were
 * @param forgetInLedger takes a user's name out of some rows of the ledger, which stay; false where there is none left
 */
export function createEraseWrites(
  db: Database,
  complete: () => void,
  forgetInLedger: (user_n: number) => boolean,
  forgetBudgets: (workspace_id: string, user_id: string) => boolean,
) {
  const statement = (sql: string) => db.query<Record<string, string | number | null>, SQLQueryBindings>(sql);

  const cutOff = statement(`update users set user_id = null, erased_user_id = user_id, display_name = null,
    language = null, timezone = null, instructions = null, metadata = '{}'
    where workspace_id = $workspace_id and user_id = $user_id returning n`);
  // They stay as revoked ones, of nobody: a service that has had a key is never open again.
  const dropApiKeys =
    statement(`update keys set user_id = '', name = '', revoked_at = coalesce(revoked_at, unixepoch())
    where workspace_id = $workspace_id and user_id = $user_id`);
  // A cross join is SQLite's word for going through its left side first.
  const runningTurns = statement(`select t.id from turns t cross join messages m on m.n = t.n
    cross join conversations c on c.n = m.conversation_n where t.status = 'running' and c.user_n = $n`);
  const findCutOff = statement(`select n from users where workspace_id = $workspace_id and user_id is null
    and erased_user_id = $user_id order by n limit 1`);
  const newestConversation = statement(
    "select n, id from conversations where user_n = $user_n order by n desc limit 1",
  );
  const deletedConversation = statement(
    "select n, id, user_n from conversations where id = $id and deleted = 1",
  );
  // Workspace by workspace, because that is the index's order.
  const cutOffInactive = statement(`update conversations set deleted = 1 where n in (
    select c.n from workspaces w cross join conversations c on c.workspace_id = w.id
    where c.last_active_ms < $before_ms and c.active_turn_id is null and c.deleted = 0 limit $limit) returning id`);
  const newestMessages = statement(`select n, octet_length(content) as bytes from messages
    where conversation_n = $n order by seq desc limit ${messagesMax}`);

  const listed = "(select value from json_each($rows))";
  const idsOf = `(select id from turns where n in ${listed})`;
  const dropTurnKeys = statement(`delete from idempotency_keys where resource_id in ${idsOf}`);
  const keepTurnKeys = statement(
    `update idempotency_keys set resource_id = $owner where resource_id in ${idsOf}`,
  );
  const dropKeys = statement("delete from idempotency_keys where resource_id = $id");
  const keepKeys = statement("update idempotency_keys set resource_id = $owner where resource_id = $id");
  const forgetSources = statement(`update memories set source_message_id = null
    where user_n = $user_n and source_message_id in (select id from messages where n in ${listed})`);
  const dropFromIndex = statement(`delete from message_index where rowid in ${listed}`);
  const dropTurns = statement(`delete from turns where n in ${listed}`);
  const dropMessages = statement(`delete from messages where n in ${listed}`);
  const dropTitleWords = statement("delete from title_words where rowid = $n");
  const dropConversation = statement("delete from conversations where n = $n");
  const dropMemories = statement(`delete from memories
    where n in (select n from memories where user_n = $user_n limit ${memoriesMax})`);
  const dropDocuments = statement(`delete from documents
    where n in (select n from documents where user_n = $user_n limit ${documentsMax})`);
  const dropUser = statement("delete from users where n = $n");

  const mark = statement(`insert into settings (name, value) values ('uncleaned ' || $what, 'due')
    on conflict (name) do update set value = 'due'`);
  const beginCleaning = statement(
    "update settings set value = 'begun' where name = 'uncleaned ' || $what returning name",
  );
  const endCleaning = statement(
    "delete from settings where name = 'uncleaned ' || $what and value = 'begun'",
  );
  const totalChanges = db.query<{ count: number }, []>("select total_changes() as count");
  const indexes = Object.fromEntries(
    fullTextIndexes.map((index) => [
      index,
      {
        // Of a single segment nothing is merged; this row makes a second one. It stands for no message or conversation.
        addRow: statement(`insert or replace into ${index} (rowid, words) values (-1, 'x')`),
        dropRow: statement(`delete from ${index} where rowid = -1`),
        merge: statement(`insert into ${index} (${index}, rank) values ('merge', $pages)`),
      },
    ]),
  );

  /** Notes that words of what was just deleted are left in a full-text index, or its text in the files. */
  const markUncleaned = (what: Uncleaned): void => {
    mark.run({ what });
  };

  /** The newest messages of a conversation, as many as one call may erase. */
  function someMessages(conversation_n: number): string {
    const rows: number[] = [];
    let bytes = 0;
    for (const message of newestMessages.all({ n: conversation_n })) {
      bytes += message.bytes as number;
      if (rows.length > 0 && bytes > messageBytesMax) break;
      rows.push(message.n as number);
    }
    return JSON.stringify(rows);
  }

  /**
   * Erases some messages of a conversation, newest first, so that no reply is without its question; where there are
   * none, the conversation.
   * @param owner what its idempotency keys are kept for; null where they go too
   */
  function eraseOfConversation(n: number, id: string, user_n: number, owner: string | null): Erased {
    // FTS5 has to know of what ended in this same transaction.
    complete();
    const rows = someMessages(n);
    if (rows !== "[]") {
      const keys = owner === null ? dropTurnKeys.run({ rows }) : keepTurnKeys.run({ rows, owner });
      forgetSources.run({ user_n, rows });
      dropFromIndex.run({ rows });
      markUncleaned("message_index");
      const turns = dropTurns.run({ rows }).changes;
      const messages = dropMessages.run({ rows }).changes;
      return { ...nothing, messages, turns, idempotency_keys: keys.changes };
    }
    const keys = owner === null ? dropKeys.run({ id }) : keepKeys.run({ id, owner });
    dropTitleWords.run({ n });
    markUncleaned("title_words");
    dropConversation.run({ n });
    return { ...nothing, conversations: 1, idempotency_keys: keys.changes };
  }

  const operations = {
    /** Gives the turns of the user that run. */
    cutOffUser(user: UserScope): string[] {
      const cut = cutOff.get({ ...user });
      if (dropApiKeys.run({ ...user }).changes > 0) markUncleaned("files");
      if (forgetBudgets(user.workspace_id, user.user_id)) markUncleaned("files");
      return cut === null ? [] : runningTurns.all({ n: cut.n! }).map(({ id }) => id as string);
    },

    /** Erases a bit of what a user was cut off from. */
    eraseOfUser(user: UserScope): EraseStep {
      const found = findCutOff.get({ ...user });
      if (found === null) return { erased: nothing, more: false };
      const user_n = found.n as number;
      const conversation = newestConversation.get({ user_n });
      if (conversation !== null) {
        const { n, id } = conversation as { n: number; id: string };
        return { erased: eraseOfConversation(n, id, user_n, null), more: true };
      }
      const memories = dropMemories.run({ user_n }).changes;
      if (memories > 0) return { erased: { ...nothing, memories }, more: true };
      const documents = dropDocuments.run({ user_n }).changes;
      if (documents > 0) return { erased: { ...nothing, documents }, more: true };
      if (forgetInLedger(user_n)) return { erased: nothing, more: true };
      const idempotency_keys = dropKeys.run({ id: keptFor(user_n) }).changes;
      dropUser.run({ n: user_n });
      markUncleaned("files");
      return { erased: { ...nothing, idempotency_keys }, more: true };
    },

    /** From now on nothing goes on with some of the conversations that are as old; gives these. */
    cutOffInactive: (before_ms: number, limit: number): string[] =>
      cutOffInactive.all({ before_ms, limit }).map(({ id }) => id as string),

    /** Erases a bit of a conversation that was deleted; false where there is nothing left. */
    eraseDeleted(id: string): boolean {
      const found = deletedConversation.get({ id });
      if (found === null) return false;
      const { n, user_n } = found as { n: number; user_n: number };
      // What was started with a key is known to have been deleted, as long as keys are kept.
      eraseOfConversation(n, id, user_n, keptFor(user_n));
      return true;
    },

    /** False where nothing is to be cleaned. */
    beginCleaning(what: Uncleaned): boolean {
      if (beginCleaning.get({ what }) === null) return false;
      if (what !== "files") indexes[what]!.addRow.run({});
      return true;
    },

    /**
     * Writes a part of a full-text index anew; false after the last one. What FTS5 deletes it takes out of the pages of
     * words alone, not out of the list of what each page begins with; only a merge does that, of all segments:
     * https://www.sqlite.org/fts5.html#the_merge_command
     */
    mergeIndex(index: FullTextIndex, isFirst: boolean): boolean {
      const before = totalChanges.get()!.count;
      indexes[index]!.merge.run({ pages: isFirst ? -mergePages : mergePages });
      return totalChanges.get()!.count - before >= 2;
    },

    /** What was marked again since the beginning stays marked. */
    endCleaning(what: Uncleaned): void {
      if (what !== "files") indexes[what]!.dropRow.run({});
      endCleaning.run({ what });
    },
  };

  return { operations, markUncleaned };
}
