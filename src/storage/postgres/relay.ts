/**
 * The relay between instances, by LISTEN and NOTIFY. Each instance listens on a channel of its own and on one for all, on
 * a connection that is made anew when it is lost. It has connections of its own, so that live text doesn't wait behind
 * what the store asks. Where notifications can't be had, as through a pooler, all of it comes by `news`, later.
 */
import type { ChangeTopic, HeldTurn, Relay, RelayMessage, TurnNews } from "../relay.ts";
import { Database, toJson } from "./database.ts";
import { selectTurn, type TurnRow, toTurn } from "./rows.ts";

export interface PostgresRelayOptions {
  /** So long a query may take. */
  statementSecondsMax?: number;
  /** Hears of what can't be told to a caller. */
  onFault: (fault: unknown) => void;
}

const connectionsMax = 2;
/** Queries that wait for one; what is asked for of turns is gathered before that. */
const waitingMax = 1_000;
/** So long a query waits for a connection. */
const waitSecondsMax = 5;
/** Until listening is tried again, where that failed from the start. */
const listenAgainMs = 5_000;
const farewellMsMax = 1_000;

const channelOf = (instanceId: string): string => `parley_${instanceId}`;
const channelOfAll = "parley_all";

/** What a notification holds. */
type Sent = { from: string } & (RelayMessage | { kind: "changed"; topic: ChangeTopic });

/** Resolves at once, or when it listens; messages that come before are lost. */
export async function openPostgresRelay(
  url: string,
  instanceId: string,
  { statementSecondsMax = 30, onFault }: PostgresRelayOptions,
): Promise<Relay> {
  const database = new Database(url, { connectionsMax, waitingMax, statementSecondsMax, waitSecondsMax });
  const hearMessage: ((message: RelayMessage, from: string) => void)[] = [];
  const hearReconnected: (() => void)[] = [];
  const hearChanged: [ChangeTopic, () => void][] = [];
  const subscriptions: Bun.SQL.ListenSubscription[] = [];
  let listened = false;
  let closed = false;

  /** Bun would take what is thrown for a fault of the process. */
  const safely = (work: () => void): void => {
    try {
      work();
    } catch (fault) {
      onFault(fault);
    }
  };
  const hear = (payload: string): void =>
    safely(() => {
      const sent = JSON.parse(payload) as Sent;
      if (sent.kind !== "changed") {
        for (const each of hearMessage) each(sent, sent.from);
      } else if (sent.from !== instanceId) {
        for (const [topic, each] of hearChanged) if (topic === sent.topic) each();
      }
    });
  const reconnected = (): void =>
    safely(() => {
      if (listened) for (const each of [...hearReconnected, ...hearChanged.map(([, each]) => each)]) each();
      listened = true;
    });

  const listen = async (): Promise<void> => {
    try {
      if (subscriptions.length === 0) {
        subscriptions.push(await database.sql.listen(channelOf(instanceId), hear));
      }
      // Both are subscribed again before this one tells it.
      subscriptions.push(await database.sql.listen(channelOfAll, hear, reconnected));
    } catch (fault) {
      if (closed) return;
      onFault(fault);
      setTimeout(() => void listen(), listenAgainMs).unref();
    }
  };
  await listen();

  const notify = async (notifications: { channel: string; sent: Sent }[]): Promise<void> => {
    await database.rows(
      "select pg_notify(channel, payload) from unnest($channels::text[], $payloads::text[]) as each (channel, payload)",
      {
        channels: notifications.map(({ channel }) => channel),
        payloads: notifications.map(({ sent }) => JSON.stringify(sent)),
      },
    );
  };

  return {
    instanceId,
    onMessage: (hear) => void hearMessage.push(hear),
    onReconnected: (hear) => void hearReconnected.push(hear),
    onChanged: (topic, hear) => void hearChanged.push([topic, hear]),
    changed: (topic) =>
      notify([{ channel: channelOfAll, sent: { kind: "changed", topic, from: instanceId } }]),

    send: (messages) =>
      notify(
        messages.map(({ to, message }) => ({
          channel: channelOf(to),
          sent: { ...message, from: instanceId },
        })),
      ),

    async sendToOwners(messages) {
      const running = await database.rows<{ id: string }>(
        `select t.id, pg_notify('parley_' || t.instance_id, each.payload)
         from unnest($turn_ids::text[], $payloads::text[]) as each (turn_id, payload)
           join turns t on t.id = each.turn_id and t.status = 'running'`,
        {
          turn_ids: messages.map(({ turn_id }) => turn_id),
          payloads: messages.map((message) => JSON.stringify({ ...message, from: instanceId })),
        },
      );
      return running.map(({ id }) => id);
    },

    async requestStops(turnIds) {
      await database.rows(
        `with stopped as (
           update turns set stop_requested = true where id = any($ids::text[]) and status = 'running'
           returning id, instance_id)
         select pg_notify('parley_' || instance_id,
           json_build_object('kind', 'stop', 'turn_id', id, 'from', $from::text)::text) from stopped`,
        { ids: turnIds, from: instanceId },
      );
    },

    async news(held: readonly HeldTurn[]): Promise<TurnNews[]> {
      const rows = await database.rows<TurnRow & { held_id: string; found: boolean }>(
        `select h.turn_id as held_id, r.id is not null as found, news.*
         from json_to_recordset($held::text::json) as h (turn_id text, bytes integer)
           left join turns r on r.id = h.turn_id
           left join lateral (${selectTurn} where t.id = h.turn_id
             and (t.status <> 'running' or octet_length(m.content) > h.bytes)) news on true
         where r.id is null or news.id is not null`,
        { held: toJson(held) },
      );
      return rows.map(({ held_id, found, ...row }) => ({
        turn_id: held_id,
        turn: found ? toTurn(row) : null,
      }));
    },

    async close() {
      closed = true;
      // Without this, Bun would connect again and again. Where there is nobody to say it to, the process ends anyway.
      await Promise.race([
        Promise.allSettled(subscriptions.map((subscription) => subscription.unlisten())),
        Bun.sleep(farewellMsMax),
      ]);
      await database.close();
    },
  };
}
