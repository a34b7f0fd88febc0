/** What the server's thread and its storage workers say to each other, and the workers' side of it. */
import { AppError, type ErrorCode, type Fault } from "../../errors.ts";

declare const self: Worker;

// biome-ignore lint/suspicious/noExplicitAny: the arguments of any operation; each call is typed by its operation
export type Operations = Record<string, (...args: any[]) => unknown>;

export interface Call {
  operation: string;
  args: unknown[];
}

/** What a worker is started with. */
export interface Opening {
  dataDir: string;
  /** Where sqlite-vec lies; null where there are no vectors. */
  vectorExtension: string | null;
}

export type Answer =
  | { ok: true; value: unknown }
  | {
      ok: false;
      code: ErrorCode;
      detail?: string;
      members?: Record<string, unknown>;
      faults?: Fault[];
      cause?: string;
    };

/** What a worker posts: that it has opened its database, that it couldn't, or the answers of one batch, in order. */
export type FromWorker = { ready: true } | { failed: string } | Answer[];

export function toAnswer(error: unknown): Answer {
  if (error instanceof AppError) {
    const { code, detail, members, faults } = error;
    return { ok: false, code, detail, ...(members && { members }), ...(faults && { faults }) };
  }
  const cause = error instanceof Error ? error.message : String(error);
  return { ok: false, code: isStorageFault(error) ? "storage_unavailable" : "internal", cause };
}

/** Whether an error comes from the disk or the database's state, and not from a mistake of ours. */
export function isStorageFault(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^SQLITE_(FULL|IOERR|BUSY|LOCKED|READONLY|CANTOPEN|CORRUPT|NOTADB|NOMEM|PROTOCOL)/.test(code);
}

/** A query in the calling thread, with its faults as the port promises them. */
export async function readHere<T>(query: () => T): Promise<T> {
  try {
    return query();
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError(isStorageFault(cause) ? "storage_unavailable" : "internal", { cause });
  }
}

/** Makes this thread a worker: opens what it works on when told where that is, then answers batch after batch. */
export function serveBatches(open: (opening: Opening) => (calls: Call[]) => Answer[]): void {
  const post = (message: FromWorker): void => self.postMessage(JSON.stringify(message));
  self.onmessage = ({ data }: MessageEvent<Opening>) => {
    try {
      const answer = open(data);
      self.onmessage = (event: MessageEvent<string>) => post(answer(JSON.parse(event.data)));
      post({ ready: true });
    } catch (error) {
      post({ failed: error instanceof Error ? error.message : String(error) });
    }
  };
}
