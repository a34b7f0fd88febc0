/** What the commands that keep the data share. */
import { AppError } from "../errors.ts";
import { backupRunningStatus } from "../keeping/backup-process.ts";
import { BackupRunningError, StorageUnusableError } from "../storage/unusable.ts";
import { CommandError } from "./command.ts";
import { ProgressBar } from "./progress.ts";

/** As shells do for SIGINT. */
export const interruptedStatus = 130;

/** Runs a task with a progress bar, and a signal that Ctrl-C and SIGTERM abort. @throws CommandError */
export async function keep<T>(
  words: string,
  task: (onProgress: (part: number) => void, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const interruption = new AbortController();
  const interrupt = (): void => interruption.abort(new CommandError("interrupted", interruptedStatus));
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, interrupt);
  const bar = new ProgressBar();
  try {
    return await task((part) => bar.show(part, `${words} ${Math.floor(part * 100)} %`), interruption.signal);
  } catch (error) {
    bar.end();
    throw told(error);
  } finally {
    bar.end();
    for (const name of ["SIGINT", "SIGTERM"] as const) process.off(name, interrupt);
  }
}

function told(error: unknown): unknown {
  if (error instanceof BackupRunningError) return new CommandError(error.message, backupRunningStatus);
  if (error instanceof StorageUnusableError) return new CommandError(error.message);
  if (error instanceof AppError) {
    const { cause } = error;
    return new CommandError(cause instanceof Error ? `${error.detail} (${cause.message})` : error.detail);
  }
  if (error instanceof Error && "syscall" in error) return new CommandError(error.message);
  return error;
}

/** Writes to stdout; resolves when whoever reads it has taken it. False where nobody reads it any more. */
export async function writeOut(bytes: string | Uint8Array): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const fail = (error: Error): void => {
    if ("code" in error && error.code === "EPIPE") resolve(false);
    else reject(error);
  };
  // A failure comes as an event as well, which would end the process.
  process.stdout.once("error", fail);
  process.stdout.write(bytes, (error) => {
    if (error != null) return fail(error);
    process.stdout.off("error", fail);
    resolve(true);
  });
  return await promise;
}
