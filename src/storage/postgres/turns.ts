/** Turns: how they start, are checkpointed and end, and whose they are meanwhile. The statements are in 0002_turns.sql. */
import { AppError, type ErrorCode } from "../../errors.ts";
import { exhaustedBy, neededFor, periodsAt } from "../budget-rules.ts";
import type { BudgetState } from "../budget-store.ts";
import type { Scope, Store, TurnEnd, TurnRecord, TurnStart, TurnStarted } from "../store.ts";
import { madeAndDeleted, newTurn, slotFull, turnInProgress, unknownConversation } from "../turn-answers.ts";
import { Batches } from "./batches.ts";
import { type CountedLimits, statesOfCounted } from "./budgets.ts";
import { type Database, toJson } from "./database.ts";
import { messageLexemes } from "./indexed.ts";
import { inScope, selectTurn, type TurnRow, toTurn } from "./rows.ts";

/** Each comes with its text. */
const orphansAtOnce = 64;

type TurnMethod =
  | "startTurn"
  | "checkpointReplies"
  | "renewLeases"
  | "dropLeases"
  | "endTurn"
  | "orphans"
  | "endOrphan"
  | "turn"
  | "receipt"
  | "resourceOf"
  | "deleteIdempotencyKeys";

interface Starting {
  scope: Scope;
  start: TurnStart;
}

/** What `start_turn` tells. */
type Outcome =
  | { replayed: string }
  | { refused: ErrorCode; turn_id?: string; slot?: number; budgets?: CountedLimits[] }
  | {
      conversation_id: string;
      seq: number;
      budgets: CountedLimits[] | null;
      slots: number[] | null;
      /** Where it had been committed before, and nobody knew: what it reserves is counted already. */
      repeated?: true;
    };

interface Ending {
  turn_id: string;
  instance_id: string;
  orphaned: boolean;
  end: TurnEnd;
  now_ms: number;
}

/**
 * @param writesWaitingMax starts that may wait; more are refused as overloaded. What ends a turn isn't: the turns that may
 * run bound it.
 */
export function createTurns(
  database: Database,
  writesWaitingMax: number,
): Pick<Store, TurnMethod> & { waiting(): number } {
  const startsInOrder = new Batches<Starting, Outcome>(
    async (batch) => {
      const outcomes = await database.rows<{ turn_id: string; outcome: Outcome }>(
        "select turn_id, outcome from start_turns($starts::text::json)",
        { starts: toJson(batch.map(toStart)) },
      );
      const byTurn = new Map(outcomes.map(({ turn_id, outcome }) => [turn_id, outcome]));
      return batch.map(({ start }) => byTurn.get(start.turn_id)!);
    },
    // What several of them lock is locked in one order.
    (a, b) =>
      compare(a.scope.workspace_id, b.scope.workspace_id) ||
      compare(a.start.user_id, b.start.user_id) ||
      compare(a.start.idempotency?.key ?? "", b.start.idempotency?.key ?? "") ||
      compare(a.start.conversation_id ?? "", b.start.conversation_id ?? ""),
  );
  const endsInOrder = new Batches<Ending, boolean>(
    async (batch) => {
      const ended = await database.rows<{ place: number }>("select end_turns($ends::text::json) as place", {
        ends: toJson(batch.map(toEnd)),
      });
      const places = new Set(ended.map(({ place }) => place));
      return batch.map((_, place) => places.has(place));
    },
    (a, b) => compare(a.turn_id, b.turn_id),
  );

  const turn = async (scope: Scope, id: string): Promise<TurnRecord | null> => {
    const row = await database.row<TurnRow>(`${selectTurn} where t.id = $id and ${inScope}`, {
      ...scope,
      id,
    });
    return row && toTurn(row);
  };

  return {
    async startTurn(scope, start): Promise<TurnStarted> {
      if (startsInOrder.waiting >= writesWaitingMax) throw new AppError("overloaded");
      const outcome = await startsInOrder.add({ scope, start });
      if ("replayed" in outcome) {
        const known = await turn(scope, outcome.replayed);
        if (known === null) throw madeAndDeleted("turn that this Idempotency-Key started");
        return { turn: known, replayed: true, seq: 0, budgets: [], slots: [] };
      }
      const states = outcome.budgets ? statesOfCounted(outcome.budgets, periodsAt(start.now_ms)) : [];
      if ("refused" in outcome) throw refusal(outcome, states, start);
      const budgets = outcome.repeated
        ? states
        : states.map((state) => ({
            ...state,
            reserved: state.reserved + (neededFor(state, start.reservation!) ?? 0),
          }));
      return {
        turn: newTurn(start, outcome.conversation_id),
        replayed: false,
        seq: outcome.seq,
        budgets,
        slots: outcome.slots ?? [],
      };
    },

    async checkpointReplies(checkpoints) {
      await database.rows("select checkpoint_replies($replies::text::json)", {
        replies: toJson(checkpoints),
      });
    },

    async renewLeases(instanceId, seconds) {
      const renewed = await database.row<{ lapsed: boolean; to_stop: string[] }>(
        `with before as (select lease_until from instances where id = $id for update),
           renewal as (
             insert into instances (id, lease_until)
               values ($id, clock_timestamp() + make_interval(secs => $seconds::float8))
               on conflict (id) do update set lease_until = excluded.lease_until)
         select coalesce((select lease_until <= clock_timestamp() from before), true) as lapsed,
           array(select id from turns where instance_id = $id and status = 'running' and stop_requested) as to_stop`,
        { id: instanceId, seconds },
      );
      return renewed!;
    },

    async dropLeases(instanceId) {
      // Those of dead instances that nobody misses are tidied away here, because orderly ends are rare.
      await database.rows(
        `delete from instances i where (id = $id or lease_until < clock_timestamp() - interval '1 day')
           and not exists (select from turns where instance_id = i.id and status = 'running')`,
        { id: instanceId },
      );
    },

    endTurn: (turn_id, instance_id, end, now_ms) =>
      endsInOrder.add({ turn_id, instance_id, orphaned: false, end, now_ms }),

    async orphans(instanceId) {
      const rows = await database.rows<TurnRow & { message: string }>(
        `${selectTurn.replace("select ", "select u.content as message, ")}
         where t.status = 'running' and t.lease_until <= clock_timestamp() and t.instance_id in (
           select id from instances where lease_until <= clock_timestamp() and id <> $instance_id)
         order by t.n limit ${orphansAtOnce}`,
        { instance_id: instanceId },
      );
      return rows.map(({ message, ...row }) => ({
        turn: toTurn(row),
        instance_id: row.instance_id,
        message,
      }));
    },

    endOrphan: (turn_id, instance_id, end, now_ms) =>
      endsInOrder.add({ turn_id, instance_id, orphaned: true, end, now_ms }),

    turn,

    async receipt(scope, turnId) {
      const row = await database.row<{ receipt: TurnEnd["receipt"] }>(
        `select t.receipt from turns t join messages m on m.n = t.n join conversations c on c.n = m.conversation_n
         where t.id = $id and ${inScope}`,
        { ...scope, id: turnId },
      );
      return row?.receipt ?? null;
    },

    async resourceOf({ principal_id, operation, key, body_hash }) {
      const made = await database.row<{ body_hash: string; resource_id: string }>(
        `select body_hash, resource_id from idempotency_keys
         where principal_id = $principal_id and operation = $operation and key = $key`,
        { principal_id, operation, key },
      );
      if (made !== null && made.body_hash !== body_hash) throw new AppError("idempotency_key_reused");
      return made?.resource_id ?? null;
    },

    async deleteIdempotencyKeys(before) {
      await database.rows("delete from idempotency_keys where created_at < $before::int8", { before });
    },

    waiting: () => startsInOrder.waiting + endsInOrder.waiting,
  };
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

function toStart({ scope: { workspace_id }, start }: Starting) {
  const { day, month } = periodsAt(start.now_ms);
  // Addresses and users' names are nothing to keep.
  const slots = start.slots.map(({ name, quota }) => ({ name: hashOf(name), quota }));
  return { ...start, slots, workspace_id, day: day.name, month: month.name };
}

const hashOf = (name: string): string => new Bun.CryptoHasher("sha256").update(name).digest("base64url");

/** With the words that its messages are to be found by. */
function toEnd({ turn_id, instance_id, orphaned, end, now_ms }: Ending) {
  const { usage, spent, error, receipt, message, ...rest } = end;
  const asked = messageLexemes(message);
  const answered = messageLexemes(end.response);
  const inPrompt = receipt?.chosen.filter(({ section }) => section === "memories") ?? [];
  return {
    ...rest,
    ...usage,
    ...spent,
    turn_id,
    instance_id,
    orphaned,
    error_code: error?.code ?? null,
    error_message: error?.message ?? null,
    receipt,
    used_memories: inPrompt.filter(({ score }) => score !== null && score > 0).map(({ id }) => id),
    message_words: asked.words,
    message_terms: asked.terms,
    reply_words: answered.words,
    reply_terms: answered.terms,
    now_ms,
  };
}

function refusal(
  { refused: code, turn_id, slot }: Extract<Outcome, { refused: ErrorCode }>,
  states: readonly BudgetState[],
  { reservation, slots }: TurnStart,
): AppError {
  if (slot !== undefined) return slotFull(slots[slot]!);
  if (code === "budget_exhausted" && reservation !== null) {
    const state = exhaustedBy(states, reservation);
    if (state === null) {
      return new AppError("forbidden", {
        detail: "A budget in dollars limits this turn, and a model that may answer it has no price.",
      });
    }
    return new AppError(code, { members: { state, needed: neededFor(state, reservation) } });
  }
  if (code === "not_found") return unknownConversation();
  return turn_id === undefined ? new AppError(code) : turnInProgress(turn_id);
}
