/**
 * The turns of this instance: starts them, keeps them while they run, checkpoints them, stops them; and the way to those
 * of other instances.
 * A turn is here from before its start is committed until after its end is: who knows of it from the store finds it.
 */

import { titleFrom } from "../conversations/title.ts";
import { AppError } from "../errors.ts";
import { newId } from "../ids.ts";
import { budgetLimits, toBudgetError } from "../limits/budgets.ts";
import type { LimitState } from "../limits/headers.ts";
import { slotLimits, slotsFor } from "../limits/turn-slots.ts";
import { countTokens } from "../models/tokens.ts";
import type {
  Drawn,
  Idempotency,
  Metadata,
  Receipt,
  Scope,
  TurnRecord,
  TurnStart,
} from "../storage/store.ts";
import type { Correlation } from "../trace-context.ts";
import { DoubtfulStarts } from "./doubtful-starts.ts";
import { Elsewhere } from "./elsewhere.ts";
import { endedTurn } from "./ended-turn.ts";
import { Leases, leaseSeconds } from "./leases.ts";
import { Reply } from "./reply.ts";
import { replyTokensMax, reservationOf } from "./reservation.ts";
import type { RunningTurn, TurnServices } from "./running-turn.ts";
import { runTurn } from "./turn.ts";

const checkpointMs = 500;
/** Checkpoints are spread over their period, so that many turns make no wave. */
const tickMs = 100;

export interface NewTurn {
  message: string;
  user_id: string;
  conversation_id: string | null;
  metadata: Metadata | null;
  model: string | null;
  temperature: number | null;
  max_tokens: number | null;
  use_memory: boolean;
  collections: string[] | null;
  correlation: Correlation;
  idempotency: Idempotency | null;
  /** The principal that pays for it. */
  key_id: string;
  /** Where it was asked for; null where no limit asks for that. */
  address: string | null;
}

/** A turn and its reply, growing or whole: all that a view of it needs. */
export interface WatchedTurn {
  turn: TurnRecord;
  reply: Reply;
}

/** A turn that was asked for and, where it is a new one, how what limits it stands. */
export interface StartedTurn extends WatchedTurn {
  limits?: readonly LimitState[];
}

interface Entry extends RunningTurn {
  readonly scope: { workspace_id: string; user_id: string };
  checkpointedLength: number;
  checkpointedMs: number;
  /** Whether it is stored what the reply draws on. */
  drawnStored: boolean;
}

export class RunningTurns {
  readonly #entries = new Map<string, Entry>();
  readonly #idle: PromiseWithResolvers<void> = Promise.withResolvers();
  /** Turns whose start is being committed. */
  readonly #starting = new Map<string, Promise<unknown>>();
  #closed = false;
  #checkpointing: Promise<void> | null = null;
  readonly #ticker: Timer;
  readonly #leases: Leases;
  readonly #doubtful: DoubtfulStarts;
  /** Null where no other instance shares the storage. */
  readonly #elsewhere: Elsewhere | null;

  constructor(readonly services: TurnServices) {
    const { relay, log } = services;
    this.#ticker = setInterval(() => this.#tick(), tickMs);
    this.#leases = new Leases(services, {
      ids: () => [...this.#entries.keys()],
      stop: (id) => this.#entries.get(id)?.abort("stopped"),
      lose: (id) => this.#entries.get(id)?.abort("lost"),
      show: () => {
        for (const { reply, signal } of this.#entries.values()) {
          if (signal.reason !== "lost") reply.show();
        }
      },
    });
    this.#doubtful = new DoubtfulStarts(services);
    this.#elsewhere =
      relay && new Elsewhere(relay, { find: (id) => this.#find(id), store: (id) => this.#store(id) }, log);
  }

  get count(): number {
    return this.#entries.size;
  }

  /**
   * Commits a new turn and lets it run, or finds the one that its idempotency key started.
   * @throws overloaded, shutting_down, not_found, turn_in_progress, idempotency_key_reused, storage_unavailable,
   * rate_limited, budget_exhausted, forbidden where dollars are limited and a model has no price
   */
  async start(workspace_id: string, request: NewTurn): Promise<StartedTurn> {
    const scope = { workspace_id, user_id: request.user_id };
    const started = await this.#startedBefore(scope, request.idempotency);
    if (started !== null) return started;
    if (this.#closed) throw new AppError("shutting_down");
    if (this.#entries.size + this.#starting.size >= this.services.limits.turnsRunningMax) {
      throw new AppError("overloaded");
    }
    const turn_id = newId("turn");
    const starting = this.#start(turn_id, scope, request);
    this.#starting.set(turn_id, starting);
    try {
      return await starting;
    } finally {
      this.#starting.delete(turn_id);
      this.#settleIdle();
    }
  }

  /**
   * The turn and its reply: while it runs from here, or from the instance where it does, and from the store after; null
   * where the scope has no such turn.
   */
  async watch(scope: Scope, turnId: string): Promise<WatchedTurn | null> {
    const entry = await this.#entryOf(scope, turnId);
    if (entry) return entry;
    const turn = await this.services.store.turn(scope, turnId);
    if (turn?.status === "running" && this.#elsewhere !== null) return this.#elsewhere.turns.of(turn);
    return turn && { turn, reply: Reply.of(turn) };
  }

  /** What went into a turn's prompt; null where the scope has no such turn, or it has no prompt (yet). */
  async receipt(scope: Scope, turnId: string): Promise<Receipt | null> {
    const { store } = this.services;
    const entry = await this.#entryOf(scope, turnId);
    if (entry?.reply.receipt) return entry.reply.receipt;
    const stored = await store.receipt(scope, turnId);
    if (stored !== null || entry !== null || this.#elsewhere === null) return stored;
    const turn = await store.turn(scope, turnId);
    if (turn?.status === "running") await this.#elsewhere.turns.stored(turnId);
    return turn && (await store.receipt(scope, turnId));
  }

  /**
   * What the reply of a turn that runs here, or is watched here, holds by now, and whose it is; null where the store
   * knows as much.
   */
  replyOf(turnId: string): { content: string; model: string } | null {
    const entry = this.#entries.get(turnId);
    if (entry) return { content: entry.reply.text, model: entry.turn.model };
    return this.#elsewhere?.turns.replyOf(turnId) ?? null;
  }

  /** Stops a running turn, wherever it runs; one that has ended stays as it is. Null where the scope has no such turn. */
  async stop(scope: Scope, turnId: string): Promise<TurnRecord | null> {
    const entry = await this.#entryOf(scope, turnId);
    if (entry) {
      entry.abort("stopped");
      return await entry.reply.whenEnded();
    }
    const turn = await this.services.store.turn(scope, turnId);
    if (turn?.status !== "running" || this.#elsewhere === null) return turn;
    const [stopped] = await this.#elsewhere.turns.stop([turn]);
    return stopped ?? turn;
  }

  /** Stops turns of which the store told, wherever they run, and although no scope has them any more. */
  async stopAll(turnIds: readonly string[]): Promise<void> {
    const here = await Promise.all(turnIds.map((id) => this.#find(id)));
    for (const entry of here) entry?.abort("stopped");
    await Promise.all([
      this.#elsewhere?.stopAll(turnIds.filter((_, index) => here[index] === null)),
      ...here.map((entry) => entry?.reply.whenEnded()),
    ]);
  }

  /** Takes no more turns, gives the running ones so long to end, then interrupts them; resolves when all have ended. */
  async close(graceSeconds: number): Promise<void> {
    this.#closed = true;
    this.#settleIdle();
    const timer = setTimeout(() => {
      for (const entry of this.#entries.values()) entry.abort("shutdown");
    }, graceSeconds * 1000);
    await this.#idle.promise;
    clearTimeout(timer);
    clearInterval(this.#ticker);
    await this.#elsewhere?.close();
    this.#doubtful.close();
    await this.#leases.close();
  }

  /** A turn that runs here; null where there is none such. One that is being committed is waited for. */
  async #find(turnId: string): Promise<Entry | null> {
    await this.#starting.get(turnId)?.catch(() => {});
    return this.#entries.get(turnId) ?? null;
  }

  /** The same, where the scope has it. */
  async #entryOf(scope: Scope, turnId: string): Promise<Entry | null> {
    const entry = await this.#find(turnId);
    return entry && isWithin(scope, entry) ? entry : null;
  }

  /**
   * The turn that an idempotency key started; null where it is new. Nothing is written, so that clients who come back
   * again and again load nobody, and find their turn when no other may start.
   */
  async #startedBefore(scope: Entry["scope"], idempotency: Idempotency | null): Promise<WatchedTurn | null> {
    const id = idempotency === null ? null : await this.services.store.resourceOf(idempotency);
    return id === null ? null : await this.watch(scope, id);
  }

  async #start(turn_id: string, scope: Entry["scope"], request: NewTurn): Promise<StartedTurn> {
    const { store, model, memory, instanceId, limits } = this.services;
    const {
      message,
      model: requested,
      temperature,
      max_tokens,
      collections,
      address,
      correlation,
      ...rest
    } = request;
    const use_memory = request.use_memory && memory.enabled;
    const nowMs = Date.now();
    const message_tokens = countTokens(message);
    const answering = model.answersAs(requested);
    const asked = { ...request, use_memory, message_tokens };
    const reservation = await reservationOf(scope, asked, answering, this.services);
    const slots = slotsFor({ ...request, ...scope }, limits);
    const start: TurnStart = {
      ...rest,
      use_memory,
      reservation,
      slots,
      turn_id,
      user_message_id: newId("message"),
      message_id: newId("message"),
      new_conversation_id: newId("conversation"),
      message,
      message_tokens,
      model: answering,
      title: titleFrom(message),
      instance_id: instanceId,
      lease_seconds: leaseSeconds,
      now_ms: nowMs,
    };
    const started = await store.startTurn(scope, start).catch((error: unknown) => {
      this.#doubtful.failed(start, error);
      throw toBudgetError(error, nowMs);
    });
    const { turn, seq, budgets } = started;
    if (started.replayed) {
      return (await this.watch(scope, turn.id)) ?? { turn, reply: Reply.of(turn) };
    }

    const controller = new AbortController();
    const entry: Entry = {
      scope,
      turn,
      input: {
        ...scope,
        conversation_id: turn.conversation_id,
        seq,
        message,
        message_tokens,
        use_memory,
        collections,
      },
      options: {
        model: requested,
        temperature,
        max_tokens: budgets.length > 0 ? replyTokensMax(request, limits) : max_tokens,
        trace: correlation.trace,
      },
      reply: new Reply(),
      correlation,
      signal: controller.signal,
      abort: (reason) => controller.abort(reason),
      mayBeLost: () => this.#leases.mayBeLost,
      startedMs: nowMs,
      checkpointedLength: 0,
      checkpointedMs: nowMs,
      drawnStored: false,
    };
    this.#entries.set(turn.id, entry);
    void this.#run(entry);
    const states = [...slotLimits(slots, started.slots), ...budgetLimits(budgets, nowMs)];
    return { turn, reply: entry.reply, limits: states };
  }

  async #run(entry: Entry): Promise<void> {
    const spent = await runTurn(entry, this.services);
    this.#entries.delete(entry.turn.id);
    this.#settleIdle();
    this.services.onTurnEnd(endedTurn(entry, spent));
  }

  /** Checkpoints the replies that are due and ends the turns that take too long. */
  #tick(): void {
    const nowMs = Date.now();
    const due: Entry[] = [];
    const { turnSecondsMax } = this.services.limits;
    for (const entry of this.#entries.values()) {
      if (nowMs - entry.startedMs > turnSecondsMax * 1000) entry.abort("too_slow");
      const grew = entry.reply.length > entry.checkpointedLength;
      if (grew && nowMs - entry.checkpointedMs >= checkpointMs) due.push(entry);
    }
    if (due.length === 0 || this.#checkpointing !== null) return;
    this.#checkpoint(due, drawsOnSomething).catch((error) => {
      // They are due again, also where no more text comes.
      for (const entry of due) entry.checkpointedLength = 0;
      this.services.log.error({ turns: due.length, err: error }, "checkpoints not stored");
    });
  }

  /** One at a time, so that no older text comes after a newer one. */
  async #checkpoint(entries: Entry[], storesDrawn: (entry: Entry) => boolean): Promise<void> {
    while (this.#checkpointing !== null) await this.#checkpointing;
    const done = Promise.withResolvers<void>();
    this.#checkpointing = done.promise;
    const storing = entries.filter((entry) => !entry.drawnStored && storesDrawn(entry));
    const checkpoints = entries.map((entry) => {
      entry.checkpointedMs = Date.now();
      entry.checkpointedLength = entry.reply.length;
      const drawn = storing.includes(entry) ? drawnOf(entry.reply) : null;
      return {
        turn_id: entry.turn.id,
        text: entry.reply.text,
        model: entry.turn.model,
        ...(drawn && { drawn }),
      };
    });
    try {
      await this.services.store.checkpointReplies(checkpoints);
      for (const entry of storing) entry.drawnStored = true;
    } finally {
      this.#checkpointing = null;
      done.resolve();
    }
  }

  /** Stores what the reply of a turn draws on, for another instance. */
  async #store(turnId: string): Promise<void> {
    const entry = this.#entries.get(turnId);
    if (entry && !entry.drawnStored) await this.#checkpoint([entry], () => true);
  }

  #settleIdle(): void {
    if (this.#closed && this.#entries.size + this.#starting.size === 0) this.#idle.resolve();
  }
}

const isWithin = (scope: Scope, { scope: owner }: Entry): boolean =>
  owner.workspace_id === scope.workspace_id && (scope.user_id === null || scope.user_id === owner.user_id);

/** Replies that draw on nothing are as well off with what is stored at their start. */
const drawsOnSomething = ({ reply: { cited } }: Entry): boolean =>
  cited !== null && cited.sources.length + cited.memories_used.length > 0;

const drawnOf = ({ cited, receipt }: Reply): Drawn | null => cited && receipt && { ...cited, receipt };
