/** parley import: an export becomes data of a service that doesn't run. */
import { statSync } from "node:fs";
import { parseArgs } from "node:util";
import { loadConfig } from "../config.ts";
import { type Imported, importArchive } from "../keeping/import.ts";
import { createKeeping } from "../services.ts";
import { CommandError, usageError } from "./command.ts";
import { keep } from "./keeping.ts";
import { reasonOf } from "./service-client.ts";

export const help = `parley import FILE

Adds what parley export wrote to PARLEY_DATA_DIR, or to the database of DATABASE_URL, which may be new. No service may run
there meanwhile. All lines are checked first: either everything is imported or nothing. What is there already, by its id, stays as it is, so the same
file may be imported twice. The next start makes vectors again.
  FILE    the export; - reads from stdin

What is wrong with it is listed by line, and the exit status is 1 then.
`;

/** @throws CommandError */
export async function run(args: string[]): Promise<void> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) throw usageError("which file? see parley import --help");
  const keeping = createKeeping(loadConfig());
  const imported = await keep("importing", async (onProgress) => {
    const size = file === "-" ? null : sizeOf(file);
    const archive = await keeping.import();
    try {
      const bytes = file === "-" ? Bun.stdin.stream() : Bun.file(file).stream();
      return await importArchive(counted(bytes, size, onProgress), archive);
    } finally {
      await archive.close();
    }
  });
  for (const { line, message } of imported.faults) console.error(`parley: line ${line}: ${message}`);
  if (imported.faults.length > 0) throw new CommandError("nothing was imported");
  console.log(summaryOf(imported));
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch (error) {
    throw new CommandError(reasonOf(error));
  }
}

async function* counted(
  chunks: ReadableStream<Uint8Array>,
  size: number | null,
  onProgress: (part: number) => void,
): AsyncGenerator<Uint8Array, void, void> {
  let read = 0;
  for await (const chunk of chunks) {
    read += chunk.length;
    if (size !== null) onProgress(Math.min(1, read / size));
    yield chunk;
  }
}

function summaryOf({ kept, known }: Imported): string {
  const there = Object.values(known).reduce((sum, count) => sum + count, 0);
  const parts = [
    `${kept.user} users`,
    `${kept.conversation} conversations with ${kept.turn} turns`,
    `${kept.memory} memories`,
    `${kept.document} documents`,
    `${kept.ledger_entry} ledger entries without a turn`,
    `${kept.budget} budgets`,
  ];
  return `imported: ${parts.join(", ")}; records that were there already: ${there}`;
}
