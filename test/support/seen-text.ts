/** The text that the reader of a reply holds: what a model's server waits for before it goes on. */
export class SeenText {
  #text = "";
  readonly #waiting: { text: string; resolve: () => void }[] = [];

  /** Resolves when the reader holds exactly this text. */
  readonly seen = (text: string): Promise<void> =>
    new Promise((resolve) => {
      if (this.#text === text) resolve();
      else this.#waiting.push({ text, resolve });
    });

  /** The reader has got this much more. */
  readonly add = (text: string): void => {
    this.#text += text;
    for (const waiting of this.#waiting) if (waiting.text === this.#text) waiting.resolve();
  };
}
