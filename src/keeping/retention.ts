/** Retention: conversations that nobody has gone on with for so long are deleted, a few at a time. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../log.ts";
import type { RetentionStore } from "../storage/archive-store.ts";

/** Conversations that are marked at once: each is then erased bit by bit, so that turns start and end in between. */
const atOnce = 4;
const everyMs = 3600 * 1000;
const dayMs = 24 * 3600 * 1000;

export class Retention {
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;

  /** @param days after its last message a conversation is kept for so long */
  constructor(
    readonly store: RetentionStore,
    readonly log: Log,
    readonly days: number,
  ) {
    this.#running = this.#run();
  }

  /** Resolves when nothing of it is under way. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await this.#deleteInactive().catch((err) => this.log.error({ err }, "old conversations not deleted"));
      await sleep(everyMs, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  async #deleteInactive(): Promise<void> {
    let conversations = 0;
    try {
      for (let deleted = atOnce; deleted === atOnce && !this.#closing.signal.aborted; ) {
        deleted = await this.store.deleteInactiveConversations(Date.now() - this.days * dayMs, atOnce);
        conversations += deleted;
      }
    } finally {
      if (conversations > 0) {
        this.log.info({ event: "retention", conversations, days: this.days }, "old conversations deleted");
      }
    }
  }
}
