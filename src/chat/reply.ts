/**
 * A reply is a text that only grows. Watchers hold an offset into it (UTF-16 code units), never a queue, so that a
 * slow one costs no memory and a returning one needs no log.
 */
import { toNormalForm } from "../normal-form.ts";
import type { Drawn, Receipt, TurnRecord } from "../storage/store.ts";

const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff;

/** Who follows a reply. */
export interface Watcher {
  /** There is more text, or the end, or what the reply draws on is known. Must not throw. */
  readonly wake: () => void;
}

/** Wakes one waiting reader at a time; wakes that come while nobody waits are kept as one. */
export class Wake implements Watcher {
  #woken = false;
  #resolve: (() => void) | null = null;

  /** Wakes who waits, now or next. */
  readonly wake = (): void => {
    this.#woken = true;
    this.#resolve?.();
    this.#resolve = null;
  };

  /** Resolves after the next `wake`, or at once where there was one since the last wait. */
  wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#resolve = () => {
        this.#woken = false;
        resolve();
      };
      if (this.#woken) this.wake();
    });
  }
}

/** What a reply draws on. */
export type Cited = Pick<TurnRecord, "sources" | "citations" | "memories_used">;

export class Reply {
  /** Pieces and where each starts: joining at every token would make long replies quadratic. */
  #pieces: string[] = [];
  #starts: number[] = [];
  #length = 0;
  #heldBack = "";
  /** What was written and isn't shown; null while all is shown as it comes. */
  #withheld: string | null = null;
  #ended: TurnRecord | null = null;
  #cited: Cited | null = null;
  #receipt: Receipt | null = null;
  #firstMs: number | null = null;
  #finishedMs: number | null = null;
  readonly #watchers = new Set<Watcher>();
  readonly #awaitingEnd = new Set<() => void>();

  /** @param onWatched called whenever somebody begins to watch it, or to wait for its end */
  constructor(readonly onWatched: () => void = () => {}) {}

  /** The reply of a turn that has ended. */
  static of(turn: TurnRecord): Reply {
    const reply = new Reply();
    reply.end(turn);
    return reply;
  }

  /** How much text there is, in UTF-16 code units. */
  get length(): number {
    return this.#length;
  }

  /** What the reply draws on; null until that is known, which is before its first character. */
  get cited(): Cited | null {
    return this.#cited;
  }

  /** The turn as it was committed at its end; null while the reply grows. */
  get ended(): TurnRecord | null {
    return this.#ended;
  }

  get text(): string {
    if (this.#pieces.length > 1) {
      this.#pieces = [this.#pieces.join("")];
      this.#starts = [0];
    }
    return this.#pieces[0] ?? "";
  }

  /** All that was written, also what is withheld. */
  get written(): string {
    return this.#withheld === null ? this.text : this.text + this.#withheld;
  }

  /** Whether somebody watches it or waits for its end. */
  get isWatched(): boolean {
    return this.#watchers.size + this.#awaitingEnd.size > 0;
  }

  /** What went into the prompt; null until there is one, and where the turn has ended or runs elsewhere. */
  get receipt(): Receipt | null {
    return this.#receipt;
  }

  /** When its first text came, and when its last had come, by `Date.now()`; null where it hasn't (yet). */
  get writtenMs(): { first: number | null; finished: number | null } {
    return { first: this.#firstMs, finished: this.#finishedMs };
  }

  /** Tells what the reply draws on; without a receipt where its prompt was made elsewhere. */
  drawOn({ sources, citations, memories_used, receipt }: Cited & Partial<Drawn>): void {
    this.#cited = { sources, citations, memories_used };
    this.#receipt = receipt ?? null;
    if (sources.length > 0) this.#wakeAll();
  }

  /** Appends in normal form, up to `lengthMax` in all; false where that cut something off. */
  append(raw: string, lengthMax: number): boolean {
    this.#firstMs ??= Date.now();
    const joined = this.#heldBack === "" ? raw : this.#heldBack + raw;
    const splitsPair = isHighSurrogate(joined.charCodeAt(joined.length - 1));
    this.#heldBack = splitsPair ? joined.slice(-1) : "";
    return this.#push(toNormalForm(splitsPair ? joined.slice(0, -1) : joined), lengthMax);
  }

  /** What is written from now on isn't shown, until `show` or the end. */
  withhold(): void {
    this.#withheld ??= "";
  }

  /** Shows what was withheld, and what comes from now on. */
  show(): void {
    const text = this.#withheld;
    this.#withheld = null;
    if (text) this.#grow(text);
  }

  /** No more text will come: what waited for its other half becomes U+FFFD. */
  finish(lengthMax: number): void {
    this.#finishedMs ??= Date.now();
    if (this.#heldBack !== "") this.#push("\ufffd", lengthMax);
    this.#heldBack = "";
  }

  /**
   * The text from an offset on, at most so long, never ending within a surrogate pair. Walks back from the end, so
   * that following a reply costs what is new.
   */
  since(offset: number, lengthMax = Number.POSITIVE_INFINITY): string {
    let index = this.#pieces.length - 1;
    while (index > 0 && this.#starts[index]! > offset) index--;
    if (index < 0) return "";
    let text = this.#pieces[index]!.slice(offset - this.#starts[index]!);
    while (++index < this.#pieces.length && text.length < lengthMax) text += this.#pieces[index]!;
    if (text.length <= lengthMax) return text;
    return text.slice(0, isHighSurrogate(text.charCodeAt(lengthMax - 1)) ? lengthMax - 1 : lengthMax);
  }

  /**
   * Tells all watchers the end, once; what is said after that changes nothing. Where the text that was kept is another
   * one, because others ended the turn at its last checkpoint, it is shown from now on.
   */
  end(turn: TurnRecord): void {
    if (this.#ended === null) {
      this.#ended = turn;
      this.#withheld = null;
      this.#cited ??= turn;
      if (turn.response.length !== this.#length) this.#replace(turn.response);
    }
    this.#wakeAll();
    for (const tell of this.#awaitingEnd) tell();
  }

  /** Resolves to the turn as it ended, or to null when the signal says that nobody waits for it any more. */
  whenEnded(): Promise<TurnRecord>;
  whenEnded(signal: AbortSignal): Promise<TurnRecord | null>;
  whenEnded(signal?: AbortSignal): Promise<TurnRecord | null> {
    return new Promise((resolve) => {
      const settle = (): void => {
        this.#awaitingEnd.delete(settle);
        signal?.removeEventListener("abort", settle);
        resolve(this.#ended);
      };
      if (this.#ended !== null || signal?.aborted) return settle();
      this.#awaitingEnd.add(settle);
      signal?.addEventListener("abort", settle);
      this.onWatched();
    });
  }

  watch(watcher: Watcher): void {
    this.#watchers.add(watcher);
    this.onWatched();
  }

  unwatch(watcher: Watcher): void {
    this.#watchers.delete(watcher);
  }

  #replace(text: string): void {
    this.#pieces = [text];
    this.#starts = [0];
    this.#length = text.length;
  }

  #push(text: string, lengthMax: number): boolean {
    const room = lengthMax - this.#length - (this.#withheld?.length ?? 0);
    const fits = text.length <= room;
    const cut = isHighSurrogate(text.charCodeAt(room - 1)) ? room - 1 : room;
    const piece = fits ? text : text.slice(0, Math.max(0, cut));
    if (this.#withheld !== null) this.#withheld += piece;
    else if (piece !== "") this.#grow(piece);
    return fits;
  }

  #grow(piece: string): void {
    this.#pieces.push(piece);
    this.#starts.push(this.#length);
    this.#length += piece.length;
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const watcher of this.#watchers) watcher.wake();
  }
}
