/**
 * The port between instances that share a database. What it brings may be lost, and nothing that is promised depends on
 * it: it makes sooner what the store would tell later. No method throws but where its comment says so; those that ask the
 * database reject with `storage_unavailable` or `overloaded`, as the store's do.
 */
import type { TurnRecord } from "./store.ts";

/** What instances tell each other of a turn. The first four go to who runs it, the others to who watches it. */
export type RelayMessage =
  /** Send the text from an offset on, now and as it grows. It is asked for again and again while somebody watches. */
  | {
      kind: "watch";
      turn_id: string;
      offset: number /** Whether it is known what the reply draws on. */;
      drawn: boolean;
    }
  /** Nobody watches it here any more. */
  | { kind: "leave"; turn_id: string }
  | { kind: "stop"; turn_id: string }
  /** Store what the reply draws on. */
  | { kind: "store"; turn_id: string }
  /** A piece of the text, by the offset where it starts; an empty one says that there is no more by now. */
  | { kind: "text"; turn_id: string; at: number; text: string; model: string }
  /** What the reply draws on is in the store. */
  | { kind: "stored"; turn_id: string }
  /** The turn doesn't run there any more. */
  | { kind: "ended"; turn_id: string };

/** So many bytes of JSON a message may have, in UTF-8. */
export const messageBytesMax = 7_800;

/** What others keep in their memory, and read again when it has changed. */
export type ChangeTopic = "keys" | "budgets";

/** A turn that is watched, and how much of its text is known: where that is null, none is asked for. */
export interface HeldTurn {
  turn_id: string;
  bytes: number | null;
}

/** A turn of which there is something new: an end, or more text; null where there is no such turn any more. */
export interface TurnNews {
  turn_id: string;
  turn: TurnRecord | null;
}

export interface Relay {
  /** Of this instance. */
  readonly instanceId: string;
  /** Hears what other instances, and this one, send to this one. */
  onMessage(hear: (message: RelayMessage, from: string) => void): void;
  /** Hears that messages may have been lost, because what brings them was connected anew. */
  onReconnected(hear: () => void): void;
  /** Sends messages to instances, in order. */
  send(messages: readonly { to: string; message: RelayMessage }[]): Promise<void>;
  /** Sends messages about turns to the instances that run them; gives the turns that run. */
  sendToOwners(messages: readonly RelayMessage[]): Promise<string[]>;
  /** Asks for running turns to be stopped, so that their instances learn of it, at once or when they renew their leases. */
  requestStops(turnIds: readonly string[]): Promise<void>;
  /** Looks into the store for turns whose ids a scope has given, also in conversations that are being deleted. */
  news(held: readonly HeldTurn[]): Promise<TurnNews[]>;
  /** Tells all other instances that something has changed. */
  changed(topic: ChangeTopic): Promise<void>;
  /** Hears when another instance says so, and whenever it may have been missed. */
  onChanged(topic: ChangeTopic, hear: () => void): void;
  close(): Promise<void>;
}
