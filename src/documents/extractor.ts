/** Reads uploaded documents outside of the service's process, a few at a time. */
import { AppError } from "../errors.ts";
import { ChildProcess, type ReadDocument } from "./extraction/child-process.ts";
import type { ExtractionLimits } from "./extraction/messages.ts";
import type { Source } from "./media-type.ts";

export type { ReadDocument } from "./extraction/child-process.ts";
export type { Source } from "./media-type.ts";

/** Documents that are read at once. */
const childrenMax = 2;
/** Documents that may wait, and their bytes, which are in memory meanwhile. */
const waitingMax = 32;
const waitingBytesMax = 128 * 1024 * 1024;

interface Waiting {
  readonly bytes: number;
  start(): void;
  refuse(error: unknown): void;
}

/** Until it is closed, the process that it is in may be kept from ending by one that it started. */
export class Extractor {
  readonly #busy = new Set<ChildProcess>();
  readonly #idle = new Map<ChildProcess, Timer>();
  readonly #waiting: Waiting[] = [];
  #running = 0;
  #closed = false;

  /** @param idleMs a process without a document ends after this */
  constructor(
    readonly limits: ExtractionLimits,
    readonly idleMs = 10_000,
  ) {}

  /**
   * The text of a document and its passages. While it is read, this process does nothing but wait.
   * @param signal ends the reading; the promise then rejects with its reason
   * @throws document_unreadable, unsupported_media_type or payload_too_large where it is the document's fault;
   * overloaded where too many wait; shutting_down after `close`
   */
  async extract(source: Source, signal?: AbortSignal): Promise<ReadDocument> {
    await this.#turn(source.bytes.length, signal);
    try {
      let document: ReadDocument | null = null;
      while (document === null) {
        signal?.throwIfAborted();
        if (this.#closed) throw new AppError("shutting_down");
        document = await this.#read(source, signal);
      }
      return document;
    } finally {
      this.#endTurn();
    }
  }

  /** Ends what is read, refuses what waits, and resolves when no process of it is left. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const waiting of this.#waiting.splice(0)) waiting.refuse(new AppError("shutting_down"));
    const children = [...this.#busy, ...this.#idle.keys()];
    for (const timer of this.#idle.values()) clearTimeout(timer);
    this.#idle.clear();
    await Promise.all(children.map((child) => child.kill()));
  }

  /** Resolves when a document may be read. */
  #turn(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#closed) return Promise.reject(new AppError("shutting_down"));
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#running < childrenMax) {
      this.#running++;
      return Promise.resolve();
    }
    const waitingBytes = this.#waiting.reduce((sum, waiting) => sum + waiting.bytes, bytes);
    if (this.#waiting.length >= waitingMax || waitingBytes > waitingBytesMax) {
      return Promise.reject(new AppError("overloaded"));
    }
    return new Promise((start, refuse) => {
      const waiting: Waiting = { bytes, start, refuse };
      this.#waiting.push(waiting);
      signal?.addEventListener(
        "abort",
        () => {
          const index = this.#waiting.indexOf(waiting);
          if (index >= 0) this.#waiting.splice(index, 1);
          refuse(signal.reason);
        },
        { once: true },
      );
    });
  }

  #endTurn(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next.start();
  }

  /** Null where the process that was to read it had ended before. */
  async #read(source: Source, signal: AbortSignal | undefined): Promise<ReadDocument | null> {
    const child = this.#takeChild();
    const abort = (): void => void child.kill();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      return await child.extract(source);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (this.#closed) throw new AppError("shutting_down");
      throw error;
    } finally {
      await this.#giveBack(child);
      signal?.removeEventListener("abort", abort);
    }
  }

  #takeChild(): ChildProcess {
    for (const [child, timer] of this.#idle) {
      clearTimeout(timer);
      this.#idle.delete(child);
      this.#busy.add(child);
      return child;
    }
    const child = new ChildProcess(this.limits);
    this.#busy.add(child);
    return child;
  }

  /** Keeps a child that is ready for another document. */
  async #giveBack(child: ChildProcess): Promise<void> {
    const isReady = await child.isReady();
    this.#busy.delete(child);
    if (!isReady || this.#closed) return;
    const timer = setTimeout(() => {
      this.#idle.delete(child);
      void child.kill();
    }, this.idleMs);
    this.#idle.set(child, timer);
  }
}
