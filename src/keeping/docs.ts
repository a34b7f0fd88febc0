/** The documentation of the routes that keep the data. */
import { common, operation } from "../http/docs.ts";

export const docs = {
  backup: operation({
    tag: "Operations",
    id: "backup",
    summary: "Take a backup",
    description:
      "The whole database as one SQLite file, with everything that was acknowledged before the request, and the uploads that are still being processed. It holds every workspace, so it takes an admin key of `PARLEY_API_KEYS`; without any key it is open, as all else is. A process of its own copies the database, while turns go on, and looks whether the copy is sound; then it is sent. One backup is taken at a time. `parley restore` puts it in place. Where the data is in PostgreSQL there is none (404): use `pg_dump`.\n\nIt holds users and conversations that are erased later: erase them from backups too, or keep no backup longer than you may.",
    answers: {
      200: {
        description:
          "The backup. What breaks off before its end is no whole one: the connection is cut, not closed.",
        headers: ["Content-Disposition"],
        content: { "application/vnd.sqlite3": { schema: { type: "string" }, example: "SQLite format 3…" } },
      },
    },
    problems: [...common, "not_found", "backup_in_progress"],
  }),
};
