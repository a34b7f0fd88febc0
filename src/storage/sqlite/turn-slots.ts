/** Counts in memory what running turns hold: whoever holds the lock on the directory runs all of them. */
import type { TurnStart } from "../store.ts";
import { slotFull } from "../turn-answers.ts";

export class TurnSlots {
  /** By name; only what is held is kept. */
  readonly #held = new Map<string, number>();
  /** Names by turn. */
  readonly #ofTurns = new Map<string, string[]>();

  /** Holds the slots of a turn; how many turns hold each, this one included. @throws rate_limited */
  hold({ turn_id, slots }: TurnStart): number[] {
    if (slots.length === 0) return [];
    const full = slots.find(({ name, quota }) => (this.#held.get(name) ?? 0) >= quota);
    if (full !== undefined) throw slotFull(full);
    this.#ofTurns.set(
      turn_id,
      slots.map(({ name }) => name),
    );
    return slots.map(({ name }) => {
      const held = (this.#held.get(name) ?? 0) + 1;
      this.#held.set(name, held);
      return held;
    });
  }

  /** Gives back what a turn holds; called again, it does nothing. */
  release(turnId: string): void {
    for (const name of this.#ofTurns.get(turnId) ?? []) {
      const left = this.#held.get(name)! - 1;
      if (left === 0) this.#held.delete(name);
      else this.#held.set(name, left);
    }
    this.#ofTurns.delete(turnId);
  }
}
