/** parley migrate: a data directory's data becomes that of a PostgreSQL database. */
import { parseArgs } from "node:util";
import { loadConfig } from "../config.ts";
import { moveData } from "../services.ts";
import { type CheckedTable, isSame } from "../storage/moving.ts";
import { CommandError, usageError } from "./command.ts";
import { keep } from "./keeping.ts";

export const help = `parley migrate [--from sqlite:DIRECTORY] [--to postgres://USER:PASSWORD@HOST:PORT/DATABASE] [--restart]

Moves everything from SQLite to an empty PostgreSQL database, while no service runs on either: also keys, usage, vectors
and what is being processed. The data directory stays as it is, but that an older database is upgraded as by a start.
Then both sides are read through and compared; the tables are listed with their checksums, and only where all are the
same does it say that it is done.
  --from       the data directory, or parley.db in it; PARLEY_DATA_DIR if left out
  --to         the database; DATABASE_URL if left out, which others can't see in the list of processes
  --restart    throws away what an earlier run has moved, and begins again

When it was interrupted, in whatever way, the same command goes on where it was; until it is done no service starts on
that database. The exit status is 1 where a table differs.
`;

/** @throws CommandError */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { from: { type: "string" }, to: { type: "string" }, restart: { type: "boolean" } },
  });
  const { dataDir, databaseUrl } = loadConfig();
  const from = values.from === undefined ? dataDir : directoryOf(values.from);
  const url = addressOf(values.to ?? databaseUrl);
  const moved = await keep("migrating", (onProgress, signal) =>
    moveData(from, url, {
      restart: values.restart ?? false,
      onProgress,
      signal,
      onUpgrade: (upgrade) =>
        console.error(
          `parley: the database was upgraded from version ${upgrade.from} to ${upgrade.to} first`,
        ),
    }),
  );
  if (moved.already) return console.log("all of it was moved to this database before: nothing to do");
  console.log(tableOf(moved.tables));
  if (moved.repaired > 0) {
    console.error(
      `parley: texts with NUL characters, which PostgreSQL can't hold: ${moved.repaired}; they have U+FFFD there`,
    );
  }
  const differing = moved.tables.filter((table) => !isSame(table)).map(({ name }) => name);
  if (differing.length > 0) {
    throw new CommandError(
      `not the same on both sides: ${differing.join(", ")}. The migration isn't done: begin again with --restart`,
    );
  }
  console.log(
    "done: all is there and the same on both sides. Start parley with DATABASE_URL set to this database",
  );
}

/** @throws CommandError */
function directoryOf(from: string): string {
  const path = /^sqlite:(?:\/\/)?(.+)$/s.exec(from)?.[1];
  if (path === undefined) throw usageError("--from takes sqlite:DIRECTORY: see parley migrate --help");
  return path;
}

/** Never told to anybody: there is a password in it. @throws CommandError */
function addressOf(to: string | null): string {
  if (to === null) throw usageError("to which database? set DATABASE_URL, or see parley migrate --help");
  if (URL.canParse(to) && /^postgres(ql)?:$/.test(new URL(to).protocol)) return to;
  throw usageError(
    "--to and DATABASE_URL take postgres://USER:PASSWORD@HOST:PORT/DATABASE, with the password percent-encoded",
  );
}

function tableOf(tables: readonly CheckedTable[]): string {
  const lines = tables.map(({ name, source, target }) => [
    name,
    String(source.rows),
    source.checksum,
    String(target.rows),
    target.checksum,
  ]);
  const all = [["table", "SQLite rows", "checksum", "PostgreSQL rows", "checksum"], ...lines];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((line) => line[column]!.length)));
  const isNumber = (column: number): boolean => column === 1 || column === 3;
  return all
    .map((line) =>
      line
        .map((cell, column) =>
          isNumber(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
        )
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
