/**
 * Draws memories from turns that have ended, in the background. The store is the queue: a turn is marked there from its
 * end until its memories are saved, so that a full queue, a failure or a crash loses none.
 */
import { createHash } from "node:crypto";
import type { Claims } from "../claims.ts";
import type { Limits } from "../config.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { ModelFailure } from "../models/model.ts";
import { rememberEverySeconds, type TurnToRemember, type UserScope } from "../storage/memory-store.ts";
import type { Store } from "../storage/store.ts";
import type { Drawing, Known } from "./drawing.ts";
import { reconcile } from "./reconcile.ts";

/** Turns that wait in memory; more are found in the store, later. */
const waitingMax = 1_000;
/**
 * How often the store is asked for turns that wait only there, those of instances that died among them, and whether it
 * works again where it failed.
 */
const scanMs = rememberEverySeconds * 1000;
/** Before it is tried again where another instance draws memories of the same user. */
const elsewhereMs = 500;
/** Before the model is asked again where it failed; after the last of them nothing is remembered of the turn. */
const retryAfterMs = [1_000, 30_000];

export interface RememberingServices {
  readonly store: Store;
  readonly claims: Claims;
  readonly log: Log;
  readonly limits: Limits;
  readonly drawing: Drawing;
}

export interface RememberingOptions {
  waitingMax?: number;
  scanMs?: number;
  retryAfterMs?: readonly number[];
}

interface Waiting {
  turn: TurnToRemember;
  /** 1 the first time. */
  attempt: number;
  /** Not before this time, in ms. */
  dueMs: number;
  /** The store failed the last time: the model isn't asked before it takes writes again. */
  checkStore?: boolean;
}

export class Remembering {
  /** By turn, in the order of the turns. */
  readonly #waiting = new Map<string, Waiting>();
  /** By user: one turn at a time, on all instances, because what is drawn depends on what is known. */
  readonly #underWay = new Map<string, { turn_id: string; done: Promise<void>; isForgotten: boolean }>();
  readonly #closing = new AbortController();
  readonly #options: Required<RememberingOptions>;
  /** Whether turns were left to the store because there was no room. */
  #overflowed = false;
  #scanning: Promise<void> | null = null;
  /** Turns that were remembered since the scan began that is under way: it may tell of them, too late. */
  readonly #doneMeanwhile = new Set<string>();
  #scanner: Timer | null = null;

  constructor(
    readonly services: RememberingServices,
    options: RememberingOptions = {},
  ) {
    this.#options = { waitingMax, scanMs, retryAfterMs, ...options };
  }

  /** Takes up what an earlier process left, and from then on what waits in the store alone. */
  start(): void {
    this.#scan();
    this.#scanner = setInterval(() => this.#scan(), this.#options.scanMs);
  }

  /**
   * Hears of a turn that has ended and is marked to be remembered. Never throws. Where no model is needed and no other
   * turn is in the way, its memories are on their way to the store before anything else is read from the network: the
   * user's next turn knows them.
   */
  add(turn: TurnToRemember): void {
    if (this.#waiting.size >= this.#options.waitingMax) this.#overflowed = true;
    else if (!this.#isKnown(turn)) this.#waiting.set(turn.turn_id, { turn, attempt: 1, dueMs: 0 });
    this.#begin();
  }

  /** Turns that wait here or are under way; the store may hold more. */
  get waiting(): number {
    return this.#waiting.size + this.#underWay.size;
  }

  /** Whether turns wait in the store alone, because there was no room here. */
  get isBehind(): boolean {
    return this.#overflowed;
  }

  /** A user who is erased: the model isn't asked about what they said any more, beyond what it is asked right now. */
  forget(user: UserScope): void {
    const key = keyOf(user);
    for (const [turn_id, { turn }] of this.#waiting) if (keyOf(turn) === key) this.#waiting.delete(turn_id);
    const underWay = this.#underWay.get(key);
    if (underWay !== undefined) underWay.isForgotten = true;
  }

  /** Ends what is under way; resolves when nothing is. What was not finished stays marked in the store. */
  async close(): Promise<void> {
    this.#closing.abort();
    if (this.#scanner !== null) clearInterval(this.#scanner);
    await this.#scanning;
    await Promise.all(Array.from(this.#underWay.values(), ({ done }) => done));
  }

  #isKnown(turn: TurnToRemember): boolean {
    return this.#waiting.has(turn.turn_id) || this.#underWay.get(keyOf(turn))?.turn_id === turn.turn_id;
  }

  /** Begins with as many waiting turns as may be under way. */
  #begin(): void {
    const now = Date.now();
    for (const [turn_id, waiting] of this.#waiting) {
      if (this.#closing.signal.aborted || this.#underWay.size >= this.services.drawing.atOnceMax) return;
      const user = keyOf(waiting.turn);
      if (waiting.dueMs > now || this.#underWay.has(user)) continue;
      this.#waiting.delete(turn_id);
      const done = this.#remember(waiting).finally(() => {
        this.#underWay.delete(user);
        if (this.#overflowed && this.#waiting.size === 0) this.#scan();
        this.#begin();
      });
      this.#underWay.set(user, { turn_id, done, isForgotten: false });
    }
  }

  async #remember({ turn, attempt, checkStore = false }: Waiting): Promise<void> {
    const { store, claims, log } = this.services;
    const { turn_id } = turn;
    const startedMs = Date.now();
    try {
      if (checkStore) await store.check();
      const drawn = await claims.during(taskOf(turn), this.#closing.signal, (signal) =>
        this.#draw(turn, attempt, signal),
      );
      if (drawn === null) {
        if (!this.#underWay.get(keyOf(turn))?.isForgotten) this.#later({ turn, attempt }, elsewhereMs);
        return;
      }
      if (this.#scanning !== null) this.#doneMeanwhile.add(turn_id);
      const duration_ms = Date.now() - startedMs;
      log.info({ event: "remembered", turn_id, ...drawn, duration_ms }, "memories drawn from a turn");
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      const failure = error instanceof ModelFailure ? { code: error.code } : { err: error };
      log.warn({ turn_id, attempt, ...failure }, "no memories drawn from a turn");
      if (this.#underWay.get(keyOf(turn))?.isForgotten) return;
      const wait = this.#options.retryAfterMs[attempt - 1];
      if (error instanceof AppError) this.#later({ turn, attempt, checkStore: true }, this.#options.scanMs);
      else if (wait !== undefined) this.#later({ turn, attempt: attempt + 1 }, wait);
      else await this.#giveUp(turn);
    }
  }

  #later(waiting: Omit<Waiting, "dueMs">, afterMs: number): void {
    this.#waiting.set(waiting.turn.turn_id, { ...waiting, dueMs: Date.now() + afterMs });
    setTimeout(() => this.#begin(), afterMs).unref();
  }

  /** Remembers nothing of a turn. Where that can't be stored, it is found again by a later scan. */
  async #giveUp({ turn_id, workspace_id, user_id }: TurnToRemember): Promise<void> {
    const { store, log, limits } = this.services;
    try {
      await store.saveMemories({ workspace_id, user_id }, [], turn_id, limits.memoriesMax, Date.now());
    } catch (error) {
      log.error({ turn_id, err: error }, "turn still to be remembered");
    }
  }

  async #draw(
    turn: TurnToRemember,
    attempt: number,
    signal: AbortSignal,
  ): Promise<{ memories: number; tokens_used: number }> {
    const { store, limits, drawing } = this.services;
    const { workspace_id, user_id, turn_id, user_message_id, created_at } = turn;
    const user = { workspace_id, user_id };
    const known = async (): Promise<Known> => {
      const [memories, profile] = await Promise.all([store.heldMemories(user), store.profile(user)]);
      return { memories, time_zone: profile?.timezone ?? "UTC" };
    };
    const { facts, tokens_used } = await drawing.draw(turn, known, attempt, signal);
    signal.throwIfAborted();
    // As they are by now: somebody may have changed them while the model wrote.
    const held = await store.heldMemories(user);
    const memories = reconcile(facts, held, { message_id: user_message_id, said_at: created_at });
    const saved = await store.saveMemories(user, memories, turn_id, limits.memoriesMax, created_at * 1000);
    return { memories: saved.length, tokens_used };
  }

  #scan(): void {
    this.#scanning ??= this.#takeFromStore().finally(() => {
      this.#scanning = null;
      this.#doneMeanwhile.clear();
    });
  }

  async #takeFromStore(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    const { store, claims, log } = this.services;
    try {
      this.#overflowed = false;
      const turns = await store.turnsToRemember(claims.instanceId, this.#options.waitingMax);
      if (turns.length === this.#options.waitingMax) this.#overflowed = true;
      for (const turn of turns) if (!this.#doneMeanwhile.has(turn.turn_id)) this.add(turn);
    } catch (error) {
      log.error({ err: error }, "turns to be remembered not read");
    }
  }
}

/** Without the user's name: a claim is left behind by who dies. */
const taskOf = (turn: TurnToRemember): string =>
  `memories ${createHash("sha256").update(keyOf(turn)).digest("base64url")}`;

const keyOf = ({ workspace_id, user_id }: UserScope): string => JSON.stringify([workspace_id, user_id]);
