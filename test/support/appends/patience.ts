/** How long a client waits for a word, and when it breaks off by itself. */
export class Patience {
  readonly #controller = new AbortController();
  readonly #breaking: Timer | null;
  #silence: Timer | null = null;

  constructor(
    readonly silenceMs: number,
    breaksAfterMs: number | null,
  ) {
    this.#breaking =
      breaksAfterMs === null ? null : setTimeout(() => this.#controller.abort(), breaksAfterMs);
  }

  /** For a stream: aborts where nothing comes for a while. */
  silence(): AbortSignal {
    this.heard();
    return this.#controller.signal;
  }

  /** For an answer, which comes when the turn has ended. */
  overall(): AbortSignal {
    this.#silence = setTimeout(() => this.#controller.abort(), 2 * this.silenceMs);
    return this.#controller.signal;
  }

  heard(): void {
    if (this.#silence !== null) clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#controller.abort(), this.silenceMs);
  }

  end(): void {
    if (this.#breaking !== null) clearTimeout(this.#breaking);
    if (this.#silence !== null) clearTimeout(this.#silence);
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "";

/** Nothing was sent. */
export const isRefusedConnection = (error: unknown): boolean =>
  /^(ECONNREFUSED|ConnectionRefused|FailedToOpenSocket)/.test(codeOf(error));

export const isBroken = (error: unknown): boolean =>
  /^(ECONN|EPIPE|ConnectionClosed)/.test(codeOf(error)) ||
  (error instanceof Error && ["AbortError", "TimeoutError"].includes(error.name)) ||
  // An answer that broke off in the middle of its JSON.
  error instanceof SyntaxError;
