/**
 * Turns that run on other instances and are watched here. All who watch one here share its reply, which grows by what the
 * instance that runs it sends. Whatever gets lost is noticed by its offset, or because nothing is heard; and what isn't
 * heard at all the store tells, which is looked into once a second for all of them: text by its checkpoints, and the end.
 */
import type { Log } from "../log.ts";
import type { HeldTurn, Relay, RelayMessage } from "../storage/relay.ts";
import type { TurnRecord } from "../storage/store.ts";
import { Reply } from "./reply.ts";
import type { WatchedTurn } from "./running-turns.ts";

const tickMs = 1_000;
/** So often it is asked for text again: after so many ticks. Must stay well below the time after which watchers are forgotten. */
const ticksPerRenewal = 3;
/** Who hasn't answered for so long isn't heard. */
const answerMsMax = 1_000;
/** Where text was lost, it isn't asked for again before it has come, or this time has passed. */
const gapMs = 500;
/** Text that nobody watches is kept for so long, for who comes again. */
const keptMs = 30_000;
/** So long the instance that runs a turn has to store what it draws on. */
const storeMsMax = 2_000;

interface RemoteTurn extends WatchedTurn {
  /** Whether its text is asked for, because somebody watches it here. */
  awake: boolean;
  /** When it was asked for what hasn't come yet, by `performance.now()`; null where all questions are answered. */
  askedMs: number | null;
  /** When text was found to be lost that hasn't come since. */
  gapMs: number;
  /** When it was last watched here. */
  watchedMs: number;
}

export class RemoteTurns {
  readonly #turns = new Map<string, RemoteTurn>();
  readonly #awaitingStored = new Map<string, (() => void)[]>();
  readonly #toTell = new Map<RemoteTurn, "watch" | "leave">();
  readonly #toRead = new Map<RemoteTurn, number | null>();
  #telling = false;
  #reading = false;
  #ticks = 0;
  /** Whether the database didn't answer the last time: an outage is told once. */
  #failed = false;
  readonly #ticker: Timer;

  constructor(
    readonly relay: Relay,
    readonly log: Log,
  ) {
    this.#ticker = setInterval(() => this.#tick(), tickMs);
    relay.onReconnected(() => {
      for (const remote of this.#turns.values()) if (remote.awake) this.#ask(remote);
    });
  }

  /** The turn and its reply, which grows as soon as somebody watches it. @param stored as the store has it by now */
  of(stored: TurnRecord): WatchedTurn {
    const known = this.#turns.get(stored.id);
    if (known !== undefined) {
      this.#learn(known, stored);
      return known;
    }
    const remote: RemoteTurn = {
      turn: stored,
      reply: new Reply(() => this.#wakeUp(remote)),
      awake: false,
      askedMs: null,
      gapMs: Number.NEGATIVE_INFINITY,
      watchedMs: performance.now(),
    };
    this.#turns.set(stored.id, remote);
    this.#learn(remote, stored);
    return remote;
  }

  /** What the reply of a turn that is watched here holds by now, and whose it is; null where none watches it. */
  replyOf(turnId: string): { content: string; model: string } | null {
    const remote = this.#turns.get(turnId);
    return remote?.awake ? { content: remote.reply.text, model: remote.turn.model } : null;
  }

  /** Resolves when the instance that runs a turn has stored what it draws on, or doesn't say so. */
  async stored(turnId: string): Promise<void> {
    const told = Promise.withResolvers<void>();
    const timer = setTimeout(told.resolve, storeMsMax);
    this.#awaitingStored.set(turnId, [...(this.#awaitingStored.get(turnId) ?? []), told.resolve]);
    const running = await this.relay.sendToOwners([{ kind: "store", turn_id: turnId }]);
    if (running.length > 0) await told.promise;
    clearTimeout(timer);
    this.#awaitingStored.delete(turnId);
  }

  /** Stops turns where they run; resolves to them when they have ended. @param running as the store has them */
  async stop(running: readonly TurnRecord[]): Promise<TurnRecord[]> {
    await this.relay.requestStops(running.map(({ id }) => id));
    return await Promise.all(running.map((turn) => this.of(turn).reply.whenEnded()));
  }

  /** Takes what the instance that runs a turn says of it. */
  hear(message: RelayMessage): void {
    if (message.kind === "stored" || message.kind === "ended") {
      for (const tell of this.#awaitingStored.get(message.turn_id) ?? []) tell();
    }
    const remote = this.#turns.get(message.turn_id);
    if (remote === undefined) return;
    if (message.kind === "text") this.#take(remote, message);
    else if (message.kind === "stored") this.#read(remote, -1);
    else if (message.kind === "ended") this.#read(remote, null);
  }

  close(): void {
    clearInterval(this.#ticker);
  }

  #take(remote: RemoteTurn, { at, text, model }: Extract<RelayMessage, { kind: "text" }>): void {
    const { turn, reply } = remote;
    if (at > reply.length) {
      // Something before it was lost. What else is on its way tells the same.
      if (performance.now() - remote.gapMs < gapMs) return;
      remote.gapMs = performance.now();
      this.#ask(remote);
      return;
    }
    remote.askedMs = null;
    // What is on its way behind this is what was asked for.
    remote.gapMs = Number.NEGATIVE_INFINITY;
    turn.model = model;
    if (text === "") return;
    if (reply.cited === null) reply.drawOn({ sources: [], citations: [], memories_used: [] });
    reply.append(text.slice(reply.length - at), Number.POSITIVE_INFINITY);
  }

  /** Takes what the store has of a turn. Its text comes with what it draws on. */
  #learn(remote: RemoteTurn, stored: TurnRecord): void {
    const { turn, reply } = remote;
    if (stored.status !== "running") {
      this.#forget(remote);
      reply.end(stored);
      return;
    }
    const { response, sources, memories_used, model } = stored;
    turn.model = model;
    if (reply.cited === null && (response !== "" || sources.length > 0 || memories_used.length > 0)) {
      reply.drawOn(stored);
    }
    reply.append(response.slice(reply.length), Number.POSITIVE_INFINITY);
  }

  #wakeUp(remote: RemoteTurn): void {
    remote.watchedMs = performance.now();
    if (remote.awake || remote.reply.ended) return;
    remote.awake = true;
    this.#turns.set(remote.turn.id, remote);
    this.#ask(remote);
  }

  #forget(remote: RemoteTurn): void {
    remote.awake = false;
    this.#turns.delete(remote.turn.id);
    this.#toTell.delete(remote);
    this.#toRead.delete(remote);
  }

  #tick(): void {
    const nowMs = performance.now();
    const renews = ++this.#ticks % ticksPerRenewal === 0;
    for (const remote of this.#turns.values()) {
      if (remote.reply.isWatched) remote.watchedMs = nowMs;
      else if (remote.awake) {
        remote.awake = false;
        this.#tell(remote, "leave");
      } else if (nowMs - remote.watchedMs > keptMs) this.#forget(remote);
      if (!remote.awake) continue;
      const isHeard = remote.askedMs === null || nowMs - remote.askedMs < answerMsMax;
      this.#read(remote, isHeard ? null : Buffer.byteLength(remote.reply.text));
      if (renews) this.#ask(remote);
    }
  }

  #ask(remote: RemoteTurn): void {
    remote.askedMs ??= performance.now();
    this.#tell(remote, "watch");
  }

  /** Tells the instances that run turns; what comes meanwhile goes with the next. */
  #tell(remote: RemoteTurn, kind: "watch" | "leave"): void {
    this.#toTell.set(remote, kind);
    if (!this.#telling) void this.#tellAll();
  }

  async #tellAll(): Promise<void> {
    this.#telling = true;
    await null;
    while (this.#toTell.size > 0) {
      const told = [...this.#toTell];
      this.#toTell.clear();
      try {
        const running = new Set(
          await this.relay.sendToOwners(told.map(([remote, kind]) => question(remote, kind))),
        );
        this.#failed = false;
        for (const [remote] of told)
          if (remote.awake && !running.has(remote.turn.id)) this.#read(remote, null);
      } catch (error) {
        this.#fail(error);
      }
    }
    this.#telling = false;
  }

  /** Looks into the store for a turn. @param bytes of its text that are known; null asks for its end alone */
  #read(remote: RemoteTurn, bytes: number | null): void {
    const asked = this.#toRead.get(remote) ?? null;
    this.#toRead.set(remote, bytes === null || asked === null ? (bytes ?? asked) : Math.min(bytes, asked));
    if (!this.#reading) void this.#readAll();
  }

  async #readAll(): Promise<void> {
    this.#reading = true;
    await null;
    while (this.#toRead.size > 0) {
      const read = new Map([...this.#toRead].map(([remote, bytes]) => [remote.turn.id, { remote, bytes }]));
      this.#toRead.clear();
      const held: HeldTurn[] = [...read].map(([turn_id, { bytes }]) => ({ turn_id, bytes }));
      try {
        const news = await this.relay.news(held);
        this.#failed = false;
        for (const { turn_id, turn } of news) {
          const { remote, bytes } = read.get(turn_id)!;
          this.#learn(remote, turn ?? deleted(remote));
          // It was told to read, and goes on from there.
          if (bytes === -1 && remote.awake) this.#ask(remote);
        }
      } catch (error) {
        this.#fail(error);
      }
    }
    this.#reading = false;
  }

  #fail(err: unknown): void {
    if (!this.#failed) this.log.warn({ turns: this.#turns.size, err }, "turns of other instances not heard");
    this.#failed = true;
  }
}

const question = ({ turn, reply }: RemoteTurn, kind: "watch" | "leave"): RelayMessage =>
  kind === "leave"
    ? { kind, turn_id: turn.id }
    : { kind, turn_id: turn.id, offset: reply.length, drawn: reply.cited !== null };

/** The end of a turn that isn't stored any more: whoever deletes one that runs stops it first. */
const deleted = ({ turn, reply }: RemoteTurn): TurnRecord => ({
  ...turn,
  ...reply.cited,
  status: "stopped",
  response: reply.text,
  ended_at: Math.floor(Date.now() / 1000),
});
