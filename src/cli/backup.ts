/** parley backup: the whole database as one file, while a service runs or not. */
import { getPriority, setPriority } from "node:os";
import { parseArgs } from "node:util";
import { loadConfig } from "../config.ts";
import { createKeeping } from "../services.ts";
import { usageError } from "./command.ts";
import { interruptedStatus, keep, writeOut } from "./keeping.ts";

const niceness = 5;

export const help = `parley backup FILE [--force]

Writes all data of PARLEY_DATA_DIR to one file, while the service runs or not: a SQLite database with everything that
was acknowledged before, and with the uploads that are still being processed. It is looked through before it gets its
name, and readable by its owner alone. parley restore puts it in place.
  FILE       where to; - writes to stdout
  --force    takes the place of a file that is there

Of the database of DATABASE_URL it takes none: use pg_dump.
The exit status is 3 where another backup is being taken.
`;

/** @throws CommandError */
export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { force: { type: "boolean" } },
  });
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) throw usageError("to which file? see parley backup --help");
  const keeping = createKeeping(loadConfig());
  // Streams come first.
  setPriority(Math.max(niceness, getPriority()));
  await keep("backing up", async (onProgress, signal) => {
    if (file !== "-") return keeping.backup(file, { force: values.force ?? false, onProgress, signal });
    let isWhole = false;
    signal.addEventListener("abort", () => {
      // Nothing is left of it, and whoever reads it may take for ever.
      if (isWhole) process.exit(interruptedStatus);
    });
    for await (const bytes of keeping.streamBackup({ onProgress, signal })) {
      isWhole = true;
      if (!(await writeOut(bytes))) return;
    }
  });
}
