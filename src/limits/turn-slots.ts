/** How many turns may run at once for one key, user or address. */
import type { Limits } from "../config.ts";
import { AppError } from "../errors.ts";
import type { LimitState } from "./headers.ts";

/** When it is worth to ask again: nobody knows how long a turn takes. */
const retryAfterSeconds = 5;

/** Whom a turn runs for; a null address isn't counted. */
export interface TurnHolder {
  key_id: string;
  workspace_id: string;
  user_id: string;
  address: string | null;
}

export interface HeldSlots {
  /** How the limits stand, this turn included. */
  states: LimitState[];
  /** Gives the slots back; called again, it does nothing. */
  release(): void;
}

/**
 * In memory an instance counts its own turns; where several are to count together, an adapter counts the running ones in
 * their database.
 */
export interface TurnSlots {
  /** @throws rate_limited where one of them has as many turns as it may */
  hold(holder: TurnHolder): Promise<HeldSlots>;
}

type SlotLimits = Pick<Limits, "keyTurnsRunningMax" | "userTurnsRunningMax" | "addressTurnsRunningMax">;

export function turnSlots(limits: SlotLimits): TurnSlots {
  /** By whom; only those that hold some are kept. */
  const held = new Map<string, number>();

  return {
    async hold({ key_id, workspace_id, user_id, address }) {
      const wanted = [
        { what: "key", quota: limits.keyTurnsRunningMax, name: `key ${key_id}` },
        { what: "user", quota: limits.userTurnsRunningMax, name: `user ${workspace_id} ${user_id}` },
        {
          what: "address",
          quota: address === null ? 0 : limits.addressTurnsRunningMax,
          name: `address ${address}`,
        },
      ].filter(({ quota }) => quota > 0);
      const full = wanted.find(({ name, quota }) => (held.get(name) ?? 0) >= quota);
      if (full !== undefined) {
        throw new AppError("rate_limited", {
          detail: `The ${full.what} has ${full.quota} turns running, which is as many as may.`,
          headers: { "retry-after": String(retryAfterSeconds) },
        });
      }
      for (const { name } of wanted) held.set(name, (held.get(name) ?? 0) + 1);
      const states = wanted.map(
        ({ what, name, quota }): LimitState => ({
          name: `${what}-turns`,
          quota,
          remaining: quota - held.get(name)!,
          windowSeconds: null,
          resetSeconds: null,
          unit: "concurrent-requests",
        }),
      );
      let released = false;
      const release = (): void => {
        if (released) return;
        released = true;
        for (const { name } of wanted) {
          const left = held.get(name)! - 1;
          if (left === 0) held.delete(name);
          else held.set(name, left);
        }
      };
      return { states, release };
    },
  };
}
