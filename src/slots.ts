/** So many pieces of work at once; the others wait in the order in which they came. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(max: number) {
    this.#free = max;
  }

  /** @throws the signal's reason, where it is aborted before there is a place; what the work throws */
  async use<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await this.#place(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#free++;
      else next();
    }
  }

  /** Resolves when a place was handed over. */
  #place(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.#waiting.delete(take);
        signal.removeEventListener("abort", leave);
      };
      const take = (): void => {
        settle();
        resolve();
      };
      const leave = (): void => {
        settle();
        reject(signal.reason);
      };
      this.#waiting.add(take);
      signal.addEventListener("abort", leave);
    });
  }
}
