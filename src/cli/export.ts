/** parley export: all data as JSON Lines. */
import { existsSync, rmSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { parseArgs } from "node:util";
import { loadConfig } from "../config.ts";
import { exportLines } from "../keeping/lines.ts";
import { createKeeping } from "../services.ts";
import { CommandError, usageError } from "./command.ts";
import { keep, writeOut } from "./keeping.ts";

export const help = `parley export [FILE] [--force]

Writes all data of PARLEY_DATA_DIR, or of the database of DATABASE_URL, as JSON Lines, a record a line, while the service
runs or not: workspaces, users, conversations with their turns, memories, documents, the usage ledger, budgets and what
was spent of them. It is the state of one moment, and what parley import takes, into either of them.
  FILE       where to; stdout if left out
  --force    takes the place of a file that is there

API keys and other secrets are not in it, nor is what is made of the rest (indexes, vectors), nor idempotency keys.
`;

/** @throws CommandError */
export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { force: { type: "boolean" } },
  });
  const [file, ...more] = positionals;
  if (more.length > 0) throw usageError("to one file alone: see parley export --help");
  const keeping = createKeeping(loadConfig());
  const pending = await keep("exporting", async (_, signal) => {
    const archive = await keeping.export();
    try {
      if (file === undefined) {
        for await (const lines of exportLines(archive)) if (!(await writeOut(lines))) break;
      } else {
        await writeFile(file, values.force ?? false, exportLines(archive), signal);
      }
      return archive.pending;
    } finally {
      await archive.close();
    }
  });
  if (pending > 0) {
    console.error(`parley: documents that are still being processed are not in it: ${pending}`);
  }
}

/** The file has its name only when all of it is on the disk. */
async function writeFile(
  path: string,
  force: boolean,
  chunks: AsyncIterable<string>,
  signal: AbortSignal,
): Promise<void> {
  if (!force && existsSync(path)) {
    throw new CommandError(`${path} is there already: --force puts the export in its place`);
  }
  const part = `${path}.part`;
  rmSync(part, { force: true });
  try {
    const output = await open(part, "wx", 0o600);
    try {
      for await (const chunk of chunks) {
        signal.throwIfAborted();
        await output.writeFile(chunk);
      }
      await output.sync();
    } finally {
      await output.close();
    }
    await rename(part, path);
  } finally {
    rmSync(part, { force: true });
  }
}
