/**
 * The instances that watch turns which run here. Each is sent the text from its offset on, all of them in one statement;
 * what gathers while that is under way goes with the next. A turn that nobody watches from elsewhere costs nothing.
 */
import type { Log } from "../log.ts";
import { messageBytesMax, type Relay, type RelayMessage } from "../storage/relay.ts";
import type { Reply, Watcher } from "./reply.ts";

/** Who hasn't asked again for so long is forgotten. Must be well above the period in which `RemoteTurns` asks. */
const watchMsMax = 15_000;
/** Messages of one statement at most. */
const messagesMax = 64;
/** What a message needs beside its text. */
const frameBytesMax = 600;
const textBytesMax = messageBytesMax - frameBytesMax;

/** A turn that runs here. */
export interface OwnTurn {
  readonly turn: { readonly id: string; readonly model: string };
  readonly reply: Reply;
}

interface RemoteWatcher {
  /** What it has been sent. */
  offset: number;
  /** Whether it knows what the reply draws on. */
  drawn: boolean;
  /** It has asked, and was told nothing since. */
  asked: boolean;
  /** It was told to read in the store what the reply draws on. */
  sentThere: boolean;
  /** By `performance.now()`. */
  untilMs: number;
}

interface Watched extends OwnTurn {
  readonly watchers: Map<string, RemoteWatcher>;
  readonly wake: Watcher;
  /** Whether the store has what the reply draws on; null while that is being stored. */
  stored: boolean | null;
}

interface Addressed {
  to: string;
  message: RelayMessage;
}

export class RemoteWatchers {
  readonly #watched = new Map<string, Watched>();
  readonly #due = new Set<Watched>();
  /** Resolves when all has been sent; null while there is nothing to send. */
  #sending: PromiseWithResolvers<void> | null = null;

  /** @param store stores what the reply of a turn draws on, and its text so far */
  constructor(
    readonly relay: Relay,
    readonly store: (turnId: string) => Promise<void>,
    readonly log: Log,
  ) {}

  /** An instance watches a turn, from what it holds of its text on; again, it goes on from there. */
  watch(own: OwnTurn, from: string, offset: number, drawn: boolean): void {
    let watched = this.#watched.get(own.turn.id);
    if (watched === undefined) {
      const made: Watched = {
        ...own,
        watchers: new Map(),
        wake: { wake: () => this.#wake(made) },
        stored: false,
      };
      watched = made;
      this.#watched.set(own.turn.id, made);
      own.reply.watch(made.wake);
    }
    const untilMs = performance.now() + watchMsMax;
    watched.watchers.set(from, { offset, drawn, asked: true, sentThere: false, untilMs });
    this.#wake(watched);
  }

  leave(turnId: string, from: string): void {
    const watched = this.#watched.get(turnId);
    watched?.watchers.delete(from);
    if (watched?.watchers.size === 0) this.#forget(watched);
  }

  /** Resolves when what there is has been sent, or couldn't be. */
  async sent(): Promise<void> {
    await this.#sending?.promise;
  }

  #forget(watched: Watched): void {
    watched.reply.unwatch(watched.wake);
    this.#watched.delete(watched.turn.id);
    this.#due.delete(watched);
  }

  #wake(watched: Watched): void {
    this.#due.add(watched);
    if (this.#sending !== null) return;
    this.#sending = Promise.withResolvers();
    void this.#send();
  }

  async #send(): Promise<void> {
    // What comes within the same turn of the event loop goes together.
    await null;
    while (this.#due.size > 0) {
      const messages: Addressed[] = [];
      for (const watched of [...this.#due]) {
        if (messages.length >= messagesMax) break;
        this.#due.delete(watched);
        for (const [to, watcher] of watched.watchers) this.#gather(watched, to, watcher, messages);
        if (watched.watchers.size === 0) this.#forget(watched);
      }
      if (messages.length === 0) continue;
      try {
        await this.relay.send(messages);
      } catch (error) {
        // Who misses it asks again.
        this.log.warn({ messages: messages.length, err: error }, "text not sent to other instances");
      }
    }
    this.#sending?.resolve();
    this.#sending = null;
  }

  /** What a watcher is to be sent, as far as there is room. */
  #gather(watched: Watched, to: string, watcher: RemoteWatcher, messages: Addressed[]): void {
    const { turn, reply, watchers } = watched;
    if (watcher.untilMs < performance.now()) return void watchers.delete(to);
    const tell = (message: RelayMessage): void => {
      watcher.asked = false;
      messages.push({ to, message });
    };
    const { cited } = reply;
    const drawsOn = cited !== null && cited.sources.length + cited.memories_used.length > 0;
    if (drawsOn && !watcher.drawn && !reply.ended) {
      // It may be longer than any message. Whoever has read it asks for the text.
      if (watched.stored === false) this.#store(watched);
      else if (watched.stored && !watcher.sentThere) {
        watcher.sentThere = true;
        tell({ kind: "stored", turn_id: turn.id });
      }
      return;
    }
    while (messages.length < messagesMax && (watcher.asked || watcher.offset < reply.length)) {
      const text = pieceOf(reply, watcher.offset);
      tell({ kind: "text", turn_id: turn.id, at: watcher.offset, text, model: turn.model });
      watcher.offset += text.length;
    }
    if (watcher.asked || watcher.offset < reply.length) {
      this.#due.add(watched);
    } else if (reply.ended) {
      tell({ kind: "ended", turn_id: turn.id });
      watchers.delete(to);
    }
  }

  #store(watched: Watched): void {
    watched.stored = null;
    this.store(watched.turn.id).then(
      () => {
        watched.stored = true;
        this.#wake(watched);
      },
      (error) => {
        watched.stored = false;
        this.log.warn({ turn_id: watched.turn.id, err: error }, "what a reply draws on was not stored");
      },
    );
  }
}

/** The text from an offset on, as much as a message holds. It never ends within a surrogate pair. */
function pieceOf(reply: Reply, offset: number): string {
  for (let length = textBytesMax; ; ) {
    const text = reply.since(offset, length);
    const bytes = Buffer.byteLength(JSON.stringify(text));
    if (bytes <= textBytesMax) return text;
    length = Math.floor((text.length * textBytesMax) / bytes) - 1;
  }
}
