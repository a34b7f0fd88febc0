/** How far a command has come. */

const width = 24;
/** Between two pictures of the same: a terminal takes no more. */
const everyMs = 50;

/** A bar on the terminal; nothing where stderr is none. */
export class ProgressBar {
  #shownMs = 0;
  #isShown = false;

  /** @param part 0 to 1 @param words what stands behind the bar, without control characters */
  show(part: number, words: string): void {
    const nowMs = performance.now();
    if (!process.stderr.isTTY || (nowMs - this.#shownMs < everyMs && part < 1)) return;
    this.#shownMs = nowMs;
    this.#isShown = true;
    const filled = Math.round(width * part);
    const bar = "█".repeat(filled) + "░".repeat(width - filled);
    const room = Math.max(0, (process.stderr.columns ?? 80) - width - 2);
    process.stderr.write(`\r\x1b[K${bar} ${words.slice(0, room)}`);
  }

  end(): void {
    if (this.#isShown) process.stderr.write("\r\x1b[K");
    this.#isShown = false;
  }
}
