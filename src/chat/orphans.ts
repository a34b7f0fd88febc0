/** Turns whose instances have died. */
import { countTokens } from "../models/tokens.ts";
import type { Orphan, Store, TurnEnd } from "../storage/store.ts";
import type { Prices } from "../usage/prices.ts";
import { estimatedUsage } from "./turn-end.ts";

export interface OrphanServices {
  readonly store: Store;
  readonly instanceId: string;
  readonly prices: Prices;
}

/** Ends what dead instances left running as `interrupted`, with the text of their last checkpoints. */
export async function endOrphans({ store, instanceId, prices }: OrphanServices): Promise<number> {
  for (let count = 0; ; ) {
    const orphans = await store.orphans(instanceId);
    const ended = await Promise.all(
      orphans.map((orphan) =>
        store.endOrphan(
          orphan.turn.id,
          orphan.instance_id,
          interruptedEnd(orphan, processDied, prices),
          Date.now(),
        ),
      ),
    );
    const endedHere = ended.filter(Boolean).length;
    // Others may be at it too.
    if (endedHere === 0) return count;
    count += endedHere;
  }
}

const processDied: TurnError = {
  code: "turn_interrupted",
  message: "The process that wrote the reply died.",
};

type TurnError = NonNullable<TurnEnd["error"]>;

/** The end of a turn that nobody runs, with the text that is stored. */
export function interruptedEnd(
  { turn, message }: Pick<Orphan, "turn" | "message">,
  error: TurnError,
  prices: Prices,
): TurnEnd {
  const response_tokens = countTokens(turn.response);
  const usage = estimatedUsage(0, response_tokens);
  return {
    ...turn,
    status: "interrupted",
    usage,
    spent: {
      cached_tokens: 0,
      reasoning_tokens: 0,
      cost_nano_usd: prices.costOf(turn.model, { ...usage, cached_tokens: 0 }),
      first_token_ms: null,
      duration_ms: null,
    },
    response_tokens,
    error,
    receipt: null,
    to_remember: true,
    reply_recallable: true,
    message,
  };
}
