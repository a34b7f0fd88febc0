/**
 * The server's side of a storage worker: calls go over in batches, one batch at a time, answers come back as one
 * message, both as JSON, which costs half of what cloning does. While a batch is under way the next one gathers; under load that makes one commit of many writes.
 */
import { AppError } from "../../errors.ts";
import type { Call, FromWorker, Opening, Operations } from "./worker.ts";

/** Writes in one transaction at most. */
const batchMax = 64;

interface Waiting extends Call {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** The calling side: a bounded queue in front of one worker. */
export class WorkerClient<Ops extends Operations> {
  readonly #worker: Worker;
  readonly #queue: Waiting[] = [];
  readonly #laterQueue: Waiting[] = [];
  readonly #ready = Promise.withResolvers<void>();
  #underWay: Waiting[] = [];
  #sentMs = 0;
  #gathering: Timer | null = null;
  #idle: PromiseWithResolvers<void> | null = null;
  #failed: AppError | null = null;

  /**
   * @param queueMax calls that may wait at most
   * @param batchEveryMs under load, the least time from one batch to the next: a commit of several writes costs
   * little more than one of a single write (the method of PostgreSQL's `commit_delay`). A lone call never waits.
   */
  constructor(
    url: string,
    opening: Opening,
    readonly queueMax: number,
    readonly batchEveryMs: number,
  ) {
    this.#worker = new Worker(url);
    this.#worker.onmessage = ({ data }: MessageEvent<string>) => this.#receive(JSON.parse(data));
    this.#worker.onerror = ({ message }) => this.#fail(message);
    this.#worker.postMessage(opening);
  }

  /** Resolves when the worker has opened its database. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Calls that have no answer yet. */
  get waiting(): number {
    return this.#queue.length + this.#laterQueue.length + this.#underWay.length;
  }

  /** @throws overloaded when the queue is full, and whatever the operation throws */
  call<Name extends keyof Ops & string>(
    operation: Name,
    ...args: Parameters<Ops[Name]>
  ): Promise<Awaited<ReturnType<Ops[Name]>>> {
    return this.#enqueue(this.#queue, this.queueMax, operation, args);
  }

  /** The same for what something else bounds: it is never refused as overloaded. */
  callAnyway<Name extends keyof Ops & string>(
    operation: Name,
    ...args: Parameters<Ops[Name]>
  ): Promise<Awaited<ReturnType<Ops[Name]>>> {
    return this.#enqueue(this.#queue, Number.POSITIVE_INFINITY, operation, args);
  }

  /** The same for what nobody waits for: each batch takes one such call along. */
  callLater<Name extends keyof Ops & string>(
    operation: Name,
    ...args: Parameters<Ops[Name]>
  ): Promise<Awaited<ReturnType<Ops[Name]>>> {
    return this.#enqueue(this.#laterQueue, this.queueMax, operation, args);
  }

  /** Waits for what is queued, then ends the worker. */
  async close(): Promise<void> {
    if (!this.#failed && (this.#underWay.length > 0 || this.#gathering !== null)) {
      this.#idle = Promise.withResolvers();
      await this.#idle.promise;
    }
    this.#worker.terminate();
  }

  #enqueue<Result>(queue: Waiting[], queueMax: number, operation: string, args: unknown[]): Promise<Result> {
    if (this.#failed) return Promise.reject(this.#failed);
    if (queue.length >= queueMax) return Promise.reject(new AppError("overloaded"));
    return new Promise((resolve, reject) => {
      queue.push({ operation, args, resolve: resolve as (value: unknown) => void, reject });
      if (this.#underWay.length === 0) this.#sendSoon();
    });
  }

  /** Sends what is queued, or gathers more for as long as the last batch is too recent; for what nobody waits for nothing is gathered. */
  #sendSoon(): void {
    const gathers = this.#queue.length > 0 && this.#queue.length < batchMax;
    const waitMs = gathers ? this.#sentMs + this.batchEveryMs - performance.now() : 0;
    if (waitMs > 0) {
      this.#gathering ??= setTimeout(() => this.#send(), waitMs);
    } else {
      this.#send();
    }
  }

  #send(): void {
    if (this.#gathering !== null) clearTimeout(this.#gathering);
    this.#gathering = null;
    this.#sentMs = performance.now();
    this.#underWay = this.#queue.splice(0, batchMax - 1);
    const later = this.#laterQueue.shift();
    if (later !== undefined) this.#underWay.push(later);
    const calls = this.#underWay.map(({ operation, args }): Call => ({ operation, args }));
    this.#worker.postMessage(JSON.stringify(calls));
  }

  #receive(message: FromWorker): void {
    if (!Array.isArray(message)) {
      if ("ready" in message) this.#ready.resolve();
      else this.#fail(message.failed);
      return;
    }
    const answered = this.#underWay;
    this.#underWay = [];
    if (this.#queue.length + this.#laterQueue.length > 0) this.#sendSoon();
    else this.#idle?.resolve();
    answered.forEach((waiting, index) => {
      const answer = message[index]!;
      if (answer.ok) waiting.resolve(answer.value);
      else {
        const { code, detail, members, faults, cause } = answer;
        waiting.reject(
          new AppError(code, {
            cause,
            ...(detail && { detail }),
            ...(members && { members }),
            ...(faults && { faults }),
          }),
        );
      }
    });
  }

  #fail(reason: string): void {
    const error = new AppError("storage_unavailable", { cause: reason });
    this.#failed = error;
    this.#ready.reject(new Error(reason));
    for (const waiting of [...this.#underWay, ...this.#queue, ...this.#laterQueue]) waiting.reject(error);
    if (this.#gathering !== null) clearTimeout(this.#gathering);
    this.#gathering = null;
    this.#underWay = [];
    this.#queue.length = 0;
    this.#laterQueue.length = 0;
    this.#idle?.resolve();
  }
}
