/** parley ingest: files and folders become documents of a service. */
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, extname, join, relative, sep } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { serviceKey, serviceUrl } from "../config.ts";
import { CommandError, usageError } from "./command.ts";
import { ProgressBar } from "./progress.ts";
import {
  asRecord,
  ConnectionLost,
  reasonOf,
  type Send,
  ServiceError,
  sendTo,
  toUrl,
} from "./service-client.ts";
import { visibleLine } from "./terminal.ts";

export const help = `parley ingest PATH... [--collection NAME] [--user NAME] [--url URL]

Adds files to a service's documents. Of a folder it takes all text, Markdown, HTML, PDF, Word (.docx), CSV and JSON
files, those in folders within it too, but nothing hidden. What the service has already is skipped; a changed file
takes the place of what it was. A file in a folder is named by its path in it, such as "guide > install.md".
  --collection NAME   what they are kept with; "default" if left out
  --user NAME         whose they are alone; everybody's if left out
  --url URL           where the service is; by default this machine, at PORT

What couldn't be added is listed at the end, and the exit status is 1 then.
`;

const extensions = new Set([
  ...[".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml"],
  ...[".pdf", ".docx", ".csv", ".tsv", ".json", ".jsonl", ".ndjson"],
]);
const parallelMax = 4;
const triesMax = 3;
const pollMs = 300;
/** Uploading and processing in the foreground of the service. */
const answerMsMax = 120_000;

interface Source {
  path: string;
  /** What the document is called. */
  name: string;
}

type Outcome = "added" | "updated" | "unchanged";

/** @throws CommandError */
export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { collection: { type: "string" }, user: { type: "string" }, url: { type: "string" } },
  });
  if (positionals.length === 0) throw usageError("which files or folders? see parley ingest --help");
  const send = sendTo(toUrl(values.url ?? serviceUrl()), serviceKey());
  const collection = values.collection ?? "default";
  const owner = values.user ?? null;
  const failures: string[] = [];
  const sources = await sourcesOf(positionals, failures);
  const counts: Record<Outcome, number> = { added: 0, updated: 0, unchanged: 0 };
  try {
    const known = await versionsIn(send, collection, owner);
    const progress = new ProgressBar();
    let done = 0;
    const queue = sources.values();
    const work = async (): Promise<void> => {
      for (const source of queue) {
        try {
          counts[await add(send, source, collection, owner, known)]++;
        } catch (error) {
          if (error instanceof ConnectionLost) throw error;
          failures.push(`${visibleLine(source.path)}: ${reasonOf(error)}`);
        }
        done++;
        progress.show(done / sources.length, `${done}/${sources.length} ${visibleLine(source.name)}`);
      }
    };
    await Promise.all(Array.from({ length: parallelMax }, work)).finally(() => progress.end());
  } catch (error) {
    if (error instanceof ServiceError || error instanceof ConnectionLost)
      throw new CommandError(error.message);
    throw error;
  }
  const { added, updated, unchanged } = counts;
  console.log(`${added} added, ${updated} updated, ${unchanged} unchanged, ${failures.length} failed`);
  if (failures.length === 0) return;
  for (const failure of failures.toSorted()) console.error(`parley: ${failure}`);
  process.exitCode = 1;
}

/** The files of paths, each once. What can't be found is a failure. */
async function sourcesOf(paths: string[], failures: string[]): Promise<Source[]> {
  const sources = new Map<string, Source>();
  const named = new Map<string, string>();
  for (const path of paths) {
    try {
      const found = (await stat(path)).isDirectory() ? await filesIn(path) : [path];
      for (const file of found) {
        const name = file === path ? basename(file) : relative(path, file).split(sep).join(" > ");
        const other = named.get(name) ?? file;
        // One would take the other's place.
        if (other !== file) failures.push(`${visibleLine(file)}: has the name of ${visibleLine(other)}`);
        else sources.set(file, { path: file, name });
        named.set(name, other);
      }
    } catch (error) {
      failures.push(`${visibleLine(path)}: ${reasonOf(error)}`);
    }
  }
  return [...sources.values()];
}

/** Documents below a folder, in order. */
async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith(".")) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...(await filesIn(path)));
    else if (entry.isFile() && extensions.has(extname(entry.name).toLowerCase())) found.push(path);
  }
  return found;
}

/** Which version of each document of a collection is there, by its name. */
async function versionsIn(
  send: Send,
  collection: string,
  owner: string | null,
): Promise<Map<string, number>> {
  const versions = new Map<string, number>();
  let after: unknown = null;
  do {
    const query = new URLSearchParams({ collection, limit: "100" });
    if (typeof after === "string") query.set("after", after);
    const page = asRecord(await (await send(`v1/documents?${query}`, {})).json());
    for (const document of Array.isArray(page.documents) ? page.documents.map(asRecord) : []) {
      if (document.user_id === owner) versions.set(String(document.name), Number(document.version));
    }
    after = page.next_after;
  } while (typeof after === "string");
  return versions;
}

/** @throws ServiceError where it is refused, ConnectionLost where the service can't be reached */
async function add(
  send: Send,
  { path, name }: Source,
  collection: string,
  owner: string | null,
  known: ReadonlyMap<string, number>,
): Promise<Outcome> {
  const bytes = await readFile(path);
  const form = new FormData();
  form.set("file", new Blob([bytes]), basename(path));
  form.set("name", name);
  form.set("collection", collection);
  if (owner !== null) form.set("user_id", owner);
  let document = await upload(send, form);
  while (document.status === "processing") {
    await sleep(pollMs);
    const response = await send(`v1/documents/${encodeURIComponent(String(document.id))}`, {});
    document = asRecord(await response.json());
  }
  if (document.status === "failed") throw new ServiceError(String(asRecord(document.error).message));
  const before = known.get(String(document.name));
  if (before === undefined) return "added";
  return before === document.version ? "unchanged" : "updated";
}

/** The same upload again changes nothing, so it is tried again where the connection broke. */
async function upload(send: Send, form: FormData): Promise<Record<string, unknown>> {
  for (let attempt = 1; ; attempt++) {
    try {
      const signal = AbortSignal.timeout(answerMsMax);
      const response = await send("v1/documents", { method: "POST", body: form, signal });
      return asRecord(await response.json());
    } catch (error) {
      if (!(error instanceof ConnectionLost) || attempt === triesMax) throw error;
      await sleep(attempt * 1_000);
    }
  }
}
