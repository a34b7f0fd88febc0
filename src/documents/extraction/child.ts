/**
 * The process that reads documents. Its worker does the reading; its main thread watches, and ends the process when a
 * document takes too long or too much memory, and when the service that started it is gone.
 */
import { getPriority, setPriority } from "node:os";
import type { ExtractionAnswer, ExtractionRequest, WorkerAnswer, WorkerRequest } from "./messages.ts";
import { StdinReader } from "./stdin-reader.ts";

const watchMs = 20;
/** A third of the share that others get where all are busy: less, and a busy machine would refuse documents. */
const niceness = 5;
/** A process that has grown beyond this part of what it may have reads no other document. */
const reusablePart = 0.5;
/** For the last words to be read. */
const partingMs = 2_000;

/** In the binary, entry points lie as they do under `src/`, where `main.ts` is. */
const workerUrl = Bun.isStandaloneExecutable
  ? "./documents/extraction/worker.ts"
  : new URL("worker.ts", import.meta.url).href;

const stdout = Bun.stdout.writer();

/** Reads documents from stdin and answers on stdout, until stdin ends. */
export async function runExtractionChild(): Promise<void> {
  // Streams come first; threads that start from here on inherit it. Only root may take niceness back.
  setPriority(Math.max(getPriority(), niceness));
  const stdin = new StdinReader(end);
  const worker = new Worker(workerUrl);
  for (;;) {
    const request = JSON.parse(await stdin.line()) as ExtractionRequest;
    const content = await stdin.bytes(request.bytes);
    await read(worker, { ...request, content });
    if (memoryMib() > request.limits.documentMemoryMibMax * reusablePart) break;
    say({ ready: true });
  }
  await part();
}

/** Resolves when the worker has read a document; ends the process where that goes too far. */
async function read(worker: Worker, request: WorkerRequest): Promise<void> {
  const { documentSecondsMax, documentMemoryMibMax } = request.limits;
  const finished = Promise.withResolvers<void>();
  const unwatch = (): void => {
    clearTimeout(deadline);
    clearInterval(watch);
  };
  const refuse = (detail: string): void => {
    unwatch();
    say({ error: { code: "document_unreadable", detail } });
    void part();
  };
  const deadline = setTimeout(
    () => refuse(`The document takes more than ${documentSecondsMax} s to read.`),
    documentSecondsMax * 1000,
  );
  const watch = setInterval(() => {
    if (memoryMib() > documentMemoryMibMax) {
      refuse(`The document takes more than ${documentMemoryMibMax} MiB of memory to read.`);
    }
  }, watchMs);
  worker.onerror = () => refuse("The document can't be read.");
  worker.onmessage = ({ data }: MessageEvent<WorkerAnswer>) => {
    write(data.line);
    if (data.isLast) finished.resolve();
  };
  worker.postMessage(request, [request.content.buffer as ArrayBuffer]);
  await finished.promise;
  unwatch();
}

/** Resident, of the whole process. */
const memoryMib = (): number => process.memoryUsage.rss() / 2 ** 20;

const say = (answer: ExtractionAnswer): void => write(JSON.stringify(answer));

function write(line: string): void {
  stdout.write(`${line}\n`);
  stdout.flush();
}

/** Ends the process when what it said is on its way. */
async function part(): Promise<void> {
  await Promise.race([stdout.flush(), Bun.sleep(partingMs)]);
  end();
}

/** Whatever its threads are doing. */
function end(): void {
  process.kill(process.pid, "SIGKILL");
}
