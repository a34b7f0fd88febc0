/** Work in the background that one instance does at a time: see the port. */
import type { Store } from "../store.ts";
import type { Database } from "./database.ts";

export const createClaims = (database: Database): Pick<Store, "claim" | "release"> => ({
  async claim(task, instanceId, seconds) {
    const claimed = await database.row(
      `insert into claims (task, holder, until)
       values ($task, $holder, clock_timestamp() + make_interval(secs => $seconds::float8))
       on conflict (task) do update set holder = excluded.holder, until = excluded.until
         where claims.holder = excluded.holder or claims.until <= clock_timestamp()
       returning task`,
      { task, holder: instanceId, seconds },
    );
    return claimed !== null;
  },

  async release(task, instanceId) {
    await database.rows("delete from claims where task = $task and holder = $holder", {
      task,
      holder: instanceId,
    });
  },
});
