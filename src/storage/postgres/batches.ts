/**
 * Calls of one kind that are committed together: while a batch is under way the next one gathers. A commit of many costs
 * little more than one, and counters that all of them change are locked once. A lone call never waits.
 */
import { AppError } from "../../errors.ts";

const batchMax = 64;
/** Batches that are under way at once. */
const underWayMax = 2;

interface Waiting<Call, Result> {
  call: Call;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

export class Batches<Call, Result> {
  readonly #queue: Waiting<Call, Result>[] = [];
  #underWay = 0;
  #waiting = 0;

  /**
   * @param commit commits calls in one transaction; gives a result for each, in order
   * @param order calls of a batch are committed in this order, so that no two batches wait for each other
   */
  constructor(
    readonly commit: (calls: Call[]) => Promise<Result[]>,
    readonly order: (a: Call, b: Call) => number,
  ) {}

  /** Calls that have no result yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** @throws whatever `commit` throws for this call alone */
  add(call: Call): Promise<Result> {
    this.#waiting++;
    return new Promise<Result>((resolve, reject) => {
      this.#queue.push({ call, resolve, reject });
      // What comes within the same turn of the event loop is one batch.
      queueMicrotask(() => this.#send());
    }).finally(() => {
      this.#waiting--;
    });
  }

  #send(): void {
    if (this.#underWay >= underWayMax || this.#queue.length === 0) return;
    const batch = this.#queue.splice(0, batchMax).sort((a, b) => this.order(a.call, b.call));
    this.#underWay++;
    void this.#commit(batch).finally(() => {
      this.#underWay--;
      this.#send();
    });
  }

  /** Where one call of a batch fails unexpectedly, each gets a transaction of its own. */
  async #commit(batch: Waiting<Call, Result>[]): Promise<void> {
    try {
      const results = await this.commit(batch.map(({ call }) => call));
      batch.forEach(({ resolve }, index) => {
        resolve(results[index]!);
      });
    } catch (error) {
      if (batch.length === 1) batch[0]!.reject(error);
      else if (error instanceof AppError && error.code === "internal") {
        for (const each of batch) await this.#commit([each]);
      } else for (const { reject } of batch) reject(error);
    }
  }
}
