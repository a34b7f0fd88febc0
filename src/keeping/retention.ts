/** Retention: conversations that nobody has gone on with for so long are deleted, a few at a time. */
import type { Claims, Recurring } from "../claims.ts";
import type { Log } from "../log.ts";
import type { RetentionStore } from "../storage/archive-store.ts";

/** Conversations that are marked at once: each is then erased bit by bit, so that turns start and end in between. */
const atOnce = 4;
const everyMs = 3600 * 1000;
const dayMs = 24 * 3600 * 1000;

export interface RetentionServices {
  readonly store: RetentionStore;
  readonly claims: Claims;
  readonly log: Log;
}

/** @param days after its last message a conversation is kept for so long */
export const startRetention = ({ store, claims, log }: RetentionServices, days: number): Recurring =>
  claims.every("retention", everyMs, async (signal) => {
    let conversations = 0;
    try {
      for (let deleted = atOnce; deleted === atOnce && !signal.aborted; ) {
        deleted = await store.deleteInactiveConversations(Date.now() - days * dayMs, atOnce);
        conversations += deleted;
      }
    } finally {
      if (conversations > 0) {
        log.info({ event: "retention", conversations, days }, "old conversations deleted");
      }
    }
  });
