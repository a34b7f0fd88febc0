/**
 * A store that several instances share, with what is kept of it in memory: whoever changes that tells the others, and
 * where they don't hear of it, they look again a moment later.
 */
import type { ChangeTopic, Relay } from "./relay.ts";
import { remembered } from "./remembered.ts";
import type { Store } from "./store.ts";

type Changes = Pick<Relay, "changed" | "onChanged">;

/**
 * @param onFault hears of what couldn't be told to the others
 * @param rememberMs what another instance has set is noticed here within this time at the latest
 */
export function sharedStore(
  store: Store,
  relay: Changes,
  onFault: (fault: unknown) => void,
  rememberMs = 1_000,
): Store {
  // Every turn asks for it.
  const hasBudgets = remembered((workspaceId) => store.hasBudgets(workspaceId), rememberMs);
  relay.onChanged("budgets", hasBudgets.forget);

  /** Nobody waits for the others to hear of it. */
  async function telling<T>(topic: ChangeTopic, change: Promise<T>): Promise<T> {
    try {
      return await change;
    } finally {
      if (topic === "budgets") hasBudgets.forget();
      relay.changed(topic).catch(onFault);
    }
  }

  return {
    ...store,
    hasBudgets: (workspaceId) => hasBudgets.of(workspaceId),
    setBudget: (...set) => telling("budgets", store.setBudget(...set)),
    deleteBudget: (...deleted) => telling("budgets", store.deleteBudget(...deleted)),
    createKey: (...created) => telling("keys", store.createKey(...created)),
    revokeKey: (...revoked) => telling("keys", store.revokeKey(...revoked)),
    cutOffUser: (...user) => telling("keys", telling("budgets", store.cutOffUser(...user))),
  };
}
