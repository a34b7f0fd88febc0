/** What the clients of a run share. */
import type { Service } from "../service.ts";
import type { Append } from "./history.ts";

export interface World {
  readonly instances: readonly Service[];
  readonly history: Append[];
  /** Which append a turn came from, as far as clients know. */
  readonly byTurn: Map<string, Append>;
  /** Answers that none should get, whatever fails around them. */
  readonly faults: string[];
  readonly counts: Record<Count, number>;
}

export type Count =
  | "completed"
  | "interrupted"
  | "failed"
  | "stopped"
  | "busy"
  | "refused"
  | "unreachable"
  | "broken"
  | "resumed"
  | "repeated"
  | "unknown";

export const newWorld = (instances: readonly Service[]): World => ({
  instances,
  history: [],
  byTurn: new Map(),
  faults: [],
  counts: {
    completed: 0,
    interrupted: 0,
    failed: 0,
    stopped: 0,
    busy: 0,
    refused: 0,
    unreachable: 0,
    broken: 0,
    resumed: 0,
    repeated: 0,
    unknown: 0,
  },
});
