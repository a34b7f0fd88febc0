/** parley restore: a backup becomes the data of a service that doesn't run. */
import { parseArgs } from "node:util";
import { loadConfig } from "../config.ts";
import { createKeeping } from "../services.ts";
import { usageError } from "./command.ts";
import { keep } from "./keeping.ts";

export const help = `parley restore FILE [--force]

Puts a backup in place as the data of PARLEY_DATA_DIR, after it was found whole. No service may run there meanwhile.
The next one ends what ran when the backup was taken, and upgrades a backup of an older version.
  --force    where there is a database: it is kept beside under another name

Of the database of DATABASE_URL it restores none: use pg_restore.
What was erased since the backup was taken is there again.
`;

/** @throws CommandError */
export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { force: { type: "boolean" } },
  });
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) throw usageError("which backup? see parley restore --help");
  const config = loadConfig();
  const keeping = createKeeping(config);
  const { replaced } = await keep("restoring", (onProgress) =>
    keeping.restore(file, { force: values.force ?? false, onProgress }),
  );
  console.log(
    `restored to ${config.dataDir}${replaced === null ? "" : `; what was there is in ${replaced}`}`,
  );
}
