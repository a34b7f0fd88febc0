/** Reads lines and bytes from stdin, always one read ahead, so that its end is noticed at once. */

const newline = 0x0a;

export class StdinReader {
  readonly #reader = Bun.stdin.stream().getReader();
  #held: Uint8Array = new Uint8Array();
  #next: Promise<Uint8Array>;

  /** @param onEnd is called when stdin has ended; nothing resolves after that */
  constructor(readonly onEnd: () => void) {
    this.#next = this.#read();
  }

  async line(): Promise<string> {
    for (;;) {
      const end = this.#held.indexOf(newline);
      if (end >= 0) return Buffer.from(this.#take(end + 1)).toString("utf8", 0, end);
      this.#held = Buffer.concat([this.#held, await this.#chunk()]);
    }
  }

  /** Exactly so many bytes, in a buffer of their own. */
  async bytes(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      if (this.#held.length === 0) this.#held = await this.#chunk();
      const part = this.#take(Math.min(this.#held.length, length - filled));
      bytes.set(part, filled);
      filled += part.length;
    }
    return bytes;
  }

  #take(length: number): Uint8Array {
    const taken = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    return taken;
  }

  async #chunk(): Promise<Uint8Array> {
    const chunk = await this.#next;
    this.#next = this.#read();
    return chunk;
  }

  async #read(): Promise<Uint8Array> {
    const { done, value } = await this.#reader.read();
    if (!done) return value;
    this.onEnd();
    return await new Promise(() => {});
  }
}
