/** A timer of a process that is well fires no later than this. */
const punctualMs = 20;

/**
 * One coarse timer for one stream: `extend` is called for every network chunk and only notes a time; the
 * timer itself wakes about once per limit, sees how far the deadline has moved, and sleeps again.
 *
 * A timer that fires late shows that this process was held up (paused, suspended, starved of CPU), which says nothing
 * about the other side: what it sent meanwhile hasn't been read yet. It gets the lost time back.
 */
export class StallTimer {
  #deadline = 0;
  #wakesAt = 0;
  #timer: Timer | undefined;

  /** @param onStall called once, when a deadline has passed without being moved */
  constructor(private readonly onStall: () => void) {}

  /** Moves the deadline to `seconds` from now, earlier or later. */
  extend(seconds: number): void {
    this.#deadline = performance.now() + seconds * 1000;
    if (this.#timer === undefined || this.#deadline < this.#wakesAt) this.#sleep(seconds * 1000);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #sleep(ms: number): void {
    clearTimeout(this.#timer);
    // setTimeout turns a delay beyond 31 bits into 1 ms.
    const delay = Math.min(Math.ceil(ms), 2 ** 31 - 1);
    this.#wakesAt = performance.now() + delay;
    this.#timer = setTimeout(() => {
      const now = performance.now();
      const lateMs = now - this.#wakesAt;
      if (lateMs > punctualMs) this.#deadline = Math.max(this.#deadline, now + lateMs);
      const leftMs = this.#deadline - now;
      if (leftMs > 0) return this.#sleep(leftMs);
      this.stop();
      this.onStall();
    }, delay);
  }
}
