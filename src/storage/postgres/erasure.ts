/**
 * Erasing users and conversations, one bounded statement after the other. What was cut off is taken away row by row; the
 * files are PostgreSQL's own, which overwrites what rows have left there as it needs the room. Vacuum makes that room.
 */
import { tokenPrincipalId } from "../../ids.ts";
import type { Erased, MemoryStore, UserScope } from "../memory-store.ts";
import type { Store } from "../store.ts";
import { turnInProgress } from "../turn-answers.ts";
import type { Database } from "./database.ts";
import { clearWaste } from "./documents.ts";

/** Another instance takes over an erasure from which nothing was heard for so long. */
const holdSeconds = 30;

type ErasureMethod =
  | "cutOffUser"
  | "eraseUser"
  | "resumeErasures"
  | "deleteConversation"
  | "deleteInactiveConversations";

const nothing: Erased = {
  conversations: 0,
  messages: 0,
  turns: 0,
  memories: 0,
  documents: 0,
  idempotency_keys: 0,
};

export function createErasure(database: Database): Pick<MemoryStore & Store, ErasureMethod> {
  const holder = `erasing_${Bun.randomUUIDv7()}`;

  async function eraseUser(user: UserScope): Promise<Erased> {
    const total = { ...nothing };
    for (let more = true; more; ) {
      const step = (await database.row<Erased & { more: boolean }>(
        `select conversations::int4, messages::int4, turns::int4, memories::int4, documents::int4,
           idempotency_keys::int4, more from erase_of_user($workspace_id, $user_id, $holder, $seconds::int4)`,
        { ...user, holder, seconds: holdSeconds },
      ))!;
      for (const what of Object.keys(nothing) as (keyof Erased)[]) total[what] += step[what];
      more = step.more;
    }
    while (await clearWaste(database));
    return total;
  }

  async function eraseDeleted(id: string): Promise<void> {
    let more = true;
    while (more) {
      more = (await database.row<{ more: boolean }>("select erase_deleted($id) as more", { id }))!.more;
    }
  }

  const eraseAllDeleted = async (): Promise<void> => {
    const rows = await database.rows<{ id: string }>("select id from conversations where deleted order by n");
    for (const { id } of rows) await eraseDeleted(id);
  };

  return {
    async cutOffUser(user) {
      const running = await database.rows<{ id: string }>(
        "select cut_off_user($workspace_id, $user_id, $token_key) as id",
        { ...user, token_key: tokenPrincipalId(user.workspace_id, user.user_id) },
      );
      return running.map(({ id }) => id);
    },

    eraseUser,

    async deleteConversation(scope, id) {
      const { found_one, turn_id, more } = (await database.row<{
        found_one: boolean;
        turn_id: string | null;
        more: boolean;
      }>("select found_one, turn_id, more from delete_conversation($workspace_id, $user_id::text, $id)", {
        ...scope,
        id,
      }))!;
      if (turn_id !== null) throw turnInProgress(turn_id);
      if (more) await eraseDeleted(id);
      return found_one;
    },

    async deleteInactiveConversations(beforeMs, limit) {
      const cut = await database.rows("select cut_off_inactive($before_ms::int8, $limit::int4) as id", {
        before_ms: beforeMs,
        limit,
      });
      // What could not be erased the last time, too.
      await eraseAllDeleted();
      return cut.length;
    },

    async resumeErasures() {
      await eraseAllDeleted();
      const left = await database.rows<UserScope>(
        `select distinct workspace_id, erased_user_id as user_id from users u where user_id is null
           and not exists (select from claims c where c.task = 'erase ' || u.n and c.until > clock_timestamp())`,
      );
      for (const user of left) await eraseUser(user);
      await clean(database);
    },
  };
}

/** Has PostgreSQL make room of what erased rows have left in its files, if any were since the last time. */
async function clean(database: Database): Promise<void> {
  const due = await database.rows(
    "update settings set value = 'begun' where name = 'uncleaned' returning name",
  );
  if (due.length === 0) return;
  await database.vacuum();
  // What was erased meanwhile stays marked.
  await database.rows("delete from settings where name = 'uncleaned' and value = 'begun'");
}
