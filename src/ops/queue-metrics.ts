/** What waits and what is open, read when the metrics are. */
import type { RunningTurns } from "../chat/running-turns.ts";
import type { DocumentLibrary } from "../documents/library.ts";
import type { Requests } from "../http/requests.ts";
import type { BackgroundMemory } from "../memory/background.ts";
import type { Store } from "../storage/store.ts";
import type { Metrics } from "./metrics.ts";

export interface Watched {
  readonly store: Store;
  readonly turns: RunningTurns;
  readonly memory: BackgroundMemory;
  readonly library: DocumentLibrary;
  readonly requests: Requests;
}

export function watchQueues(metrics: Metrics, { store, turns, memory, library, requests }: Watched): void {
  metrics.watch("parley_turns_running", "Turns that run here.", () => turns.count);
  metrics.watch("parley_http_streams_open", "Responses that are being streamed.", () => requests.streams);
  metrics.watchEach("parley_queue_depth", "What waits or is under way, by queue.", "queue", () => ({
    ...store.waiting(),
    ...memory.waiting,
    documents: library.waiting,
  }));
}
