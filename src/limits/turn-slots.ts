/** How many turns may run at once for one key, user or address. The store counts them. */
import type { Limits } from "../config.ts";
import type { TurnSlot } from "../storage/store.ts";
import type { LimitState } from "./headers.ts";

/** Whom a turn runs for; a null address isn't counted. */
export interface TurnHolder {
  key_id: string;
  workspace_id: string;
  user_id: string;
  address: string | null;
}

type SlotLimits = Pick<Limits, "keyTurnsRunningMax" | "userTurnsRunningMax" | "addressTurnsRunningMax">;

/** What a turn is to hold: nothing where nothing is limited. */
export function slotsFor(
  { key_id, workspace_id, user_id, address }: TurnHolder,
  limits: SlotLimits,
): TurnSlot[] {
  const slots: TurnSlot[] = [
    { what: "key", quota: limits.keyTurnsRunningMax, name: `key ${key_id}` },
    { what: "user", quota: limits.userTurnsRunningMax, name: `user ${workspace_id} ${user_id}` },
    {
      what: "address",
      quota: address === null ? 0 : limits.addressTurnsRunningMax,
      name: `address ${address}`,
    },
  ];
  return slots.filter(({ quota }) => quota > 0);
}

/** @param held how many turns hold each of them */
export const slotLimits = (slots: readonly TurnSlot[], held: readonly number[]): LimitState[] =>
  slots.map(({ what, quota }, place) => ({
    name: `${what}-turns`,
    quota,
    remaining: quota - held[place]!,
    windowSeconds: null,
    resetSeconds: null,
    unit: "concurrent-requests",
  }));
