/** Everything that is stored, read from the database itself. */
import { until } from "../service.ts";
import type {
  Counter,
  LedgerEntry,
  Stored,
  StoredConversation,
  StoredMessage,
  StoredTurn,
} from "./history.ts";

/** @param url of the database; nothing may be under way in it */
export async function readStored(url: string): Promise<Stored> {
  await using sql = new Bun.SQL(url, { max: 1 });
  const rows = async <Row>(query: string): Promise<Row[]> => Array.from(await sql.unsafe<Row[]>(query));
  return {
    conversations: await rows<StoredConversation>(
      `select id, message_count, cast(tokens_used as float) as tokens_used, active_turn_id from conversations`,
    ),
    messages: await rows<StoredMessage>(
      `select c.id as conversation_id, m.turn_id, m.seq, m.role, m.content, m.status
       from messages m join conversations c on c.n = m.conversation_n`,
    ),
    turns: await rows<StoredTurn>(
      `select t.id, c.user_id, t.status, t.error_code, cast(t.usage_n as float) as usage_n, t.total_tokens
       from turns t join messages m on m.n = t.n join conversations c on c.n = m.conversation_n`,
    ),
    ledger: await rows<LedgerEntry>(
      `select cast(n as float) as n, cast(user_n as text) as "user", key_id as "key", workspace_id as workspace, status,
         total_tokens from usage where kind = 'turn'`,
    ),
    counters: await rows<Counter>(
      `select cast(sum(used_tokens) as float) as used_tokens, cast(sum(reserved_tokens) as float) as reserved_tokens,
         cast(sum(reserved_nano_usd) as float) as reserved_nano_usd
       from budget_counters where length(period) = 10 group by scope`,
    ),
  };
}

/** Waits until no turn runs any more; where one goes on running, the checker tells which. */
export async function untilAtRest(url: string, msMax: number): Promise<void> {
  await using sql = new Bun.SQL(url, { max: 1 });
  const isAtRest = async (): Promise<boolean> => {
    const running = await sql.unsafe("select id from turns where status = 'running' limit 1");
    return running.length === 0;
  };
  await until("no turn runs", isAtRest, msMax).catch(console.warn);
}
