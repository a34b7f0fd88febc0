/** What a running service has remembered, as its database holds it. */
import { Database } from "bun:sqlite";
import { join } from "node:path";
import type { MemoryRecord, Summary } from "../../src/storage/memory-store.ts";
import { type Service, until } from "./service.ts";

function all<Row>(service: Pick<Service, "dataDir">, sql: string, ...values: string[]): Row[] {
  using db = new Database(join(service.dataDir, "parley.db"), { readonly: true });
  db.run("pragma busy_timeout = 5000");
  return db.query<Row, string[]>(sql).all(...values);
}

/** All memories of a user, oldest first, superseded ones too, once nothing is left to be remembered. */
export async function allMemories(service: Service, user_id = "ada"): Promise<MemoryRecord[]> {
  await untilRemembered(service);
  return all(
    service,
    `select m.id, text, kind, slot, tokens, source_message_id, superseded_by, uses, used_at, m.created_at, m.updated_at
     from memories m join users u on u.n = m.user_n where u.user_id = ? order by m.n`,
    user_id,
  );
}

/** The texts of those of them that hold. */
export const heldTexts = async (service: Service, user_id = "ada"): Promise<string[]> =>
  (await allMemories(service, user_id))
    .filter(({ superseded_by }) => superseded_by === null)
    .map(({ text }) => text);

/** Turns that are still to be remembered. */
export const toRemember = (service: Pick<Service, "dataDir">): string[] =>
  all<{ id: string }>(service, "select id from turns where to_remember = 1 order by n").map(({ id }) => id);

export const untilRemembered = (service: Service): Promise<void> =>
  until("no turn is left to be remembered", () => toRemember(service).length === 0, 20_000);

export const summaryOf = (service: Pick<Service, "dataDir">, conversation_id: string): Summary =>
  all<Summary>(
    service,
    "select summary as text, summary_tokens as tokens, summary_through_seq as through_seq from conversations where id = ?",
    conversation_id,
  )[0]!;
