/**
 * What is done for later turns after a turn has ended: memories are drawn from it, and the conversation's beginning is
 * folded into its summary. Nothing here delays or fails a turn.
 */
import type { TurnToRemember, UserScope } from "../storage/memory-store.ts";
import type { Drawing } from "./drawing.ts";
import { Folding, type FoldingServices, type Urgency } from "./folding.ts";
import { Remembering, type RememberingOptions, type RememberingServices } from "./remembering.ts";

export interface EndedTurn extends TurnToRemember {
  conversation_id: string;
  /** As it was committed with the turn's end. */
  to_remember: boolean;
  fold: Urgency | null;
}

export type BackgroundServices = FoldingServices & RememberingServices;

export class BackgroundMemory {
  readonly #folding: Folding;
  readonly #remembering: Remembering;
  readonly #drawing: Drawing;

  /** @param enabled false: nothing is remembered, as if every turn asked for that */
  constructor(
    readonly enabled: boolean,
    services: BackgroundServices,
    options: RememberingOptions = {},
  ) {
    this.#folding = new Folding(services);
    this.#remembering = new Remembering(services, options);
    this.#drawing = services.drawing;
  }

  /** Whether a turn with this message is to be remembered: with patterns alone most say nothing that could be. */
  mayHold(message: string): boolean {
    return this.enabled && this.#drawing.mayFind(message);
  }

  /** Begins with what earlier processes left undone. */
  start(): void {
    if (this.enabled) this.#remembering.start();
  }

  turnEnded({ fold, to_remember, conversation_id, ...turn }: EndedTurn): void {
    if (!this.enabled) return;
    if (to_remember) this.#remembering.add(turn);
    const { workspace_id, user_id } = turn;
    if (fold !== null) this.#folding.fold({ workspace_id, user_id }, conversation_id, fold);
  }

  /** How much waits or is under way, by kind. */
  get waiting(): { memories: number; summaries: number } {
    return { memories: this.#remembering.waiting, summaries: this.#folding.waiting };
  }

  /** Whether turns end faster than their memories are drawn and their conversations folded. */
  get isBehind(): boolean {
    return this.#remembering.isBehind || this.#folding.isBehind;
  }

  /** Does nothing more for a user who is erased. */
  forget(user: UserScope): void {
    this.#remembering.forget(user);
  }

  /** Ends what is under way, soon; what wasn't finished is done by the next process. */
  async close(): Promise<void> {
    await Promise.all([this.#remembering.close(), this.#folding.close()]);
  }
}
