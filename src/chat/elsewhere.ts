/** What the turns of this instance have to do with other instances: they are watched and stopped from there, or run there. */
import type { Log } from "../log.ts";
import type { Relay, RelayMessage } from "../storage/relay.ts";
import type { TurnRecord } from "../storage/store.ts";
import { RemoteTurns } from "./remote-turns.ts";
import { type OwnTurn, RemoteWatchers } from "./remote-watchers.ts";
import type { AbortReason } from "./running-turn.ts";

/** Watchers elsewhere are told the end of a turn before the process ends, but that waits for no broken database. */
const farewellMsMax = 2_000;

/** The turns that run here. */
export interface OwnTurns {
  /** One of them; null where it doesn't run here. One whose start is being committed is waited for. */
  find(turnId: string): Promise<(OwnTurn & { readonly abort: (reason: AbortReason) => void }) | null>;
  /** Stores what its reply draws on, and its text so far. */
  store(turnId: string): Promise<void>;
}

export class Elsewhere {
  /** Turns that run on other instances. */
  readonly turns: RemoteTurns;
  readonly #watchers: RemoteWatchers;

  constructor(
    readonly relay: Relay,
    readonly own: OwnTurns,
    readonly log: Log,
  ) {
    this.turns = new RemoteTurns(relay, log);
    this.#watchers = new RemoteWatchers(relay, own.store, log);
    relay.onMessage((message, from) => {
      this.#hear(message, from).catch((err) => log.warn({ err }, "another instance not answered"));
    });
  }

  /** Stops turns that run elsewhere, whoever they are of; resolves when none of them runs any more. */
  async stopAll(turnIds: readonly string[]): Promise<void> {
    if (turnIds.length === 0) return;
    const found = await this.relay.news(turnIds.map((turn_id) => ({ turn_id, bytes: -1 })));
    const isRunning = (turn: TurnRecord | null): turn is TurnRecord => turn?.status === "running";
    await this.turns.stop(found.map(({ turn }) => turn).filter(isRunning));
  }

  /** Tells the watchers elsewhere what there is to tell, and takes leave. */
  async close(): Promise<void> {
    await Promise.race([this.#watchers.sent(), Bun.sleep(farewellMsMax)]);
    this.turns.close();
  }

  async #hear(message: RelayMessage, from: string): Promise<void> {
    const { kind, turn_id } = message;
    if (kind === "text" || kind === "stored" || kind === "ended") return this.turns.hear(message);
    if (kind === "leave") return this.#watchers.leave(turn_id, from);
    const own = await this.own.find(turn_id);
    if (own === null) return await this.relay.send([{ to: from, message: { kind: "ended", turn_id } }]);
    if (kind === "stop") return own.abort("stopped");
    if (kind === "watch") return this.#watchers.watch(own, from, message.offset, message.drawn);
    await this.own.store(turn_id);
    await this.relay.send([{ to: from, message: { kind: "stored", turn_id } }]);
  }
}
