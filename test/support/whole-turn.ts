/** A turn with all that a turn may ask of its store: an idempotency key, memories, recall and documents. */
import type { ChatResponse } from "../../src/chat/schema.ts";
import { addDocument } from "./library.ts";
import { countRoundTrips } from "./round-trips.ts";
import { startService, until } from "./service.ts";

/** What an instance asks now and then for all that it does, or for a turn after its end. */
const beside = [
  /^with before as \(select lease_until from instances/,
  /^update messages m set content = r\.text/,
  /^select exists \(select from keys\)|^select id from keys where revoked_at/,
  /where t\.status = 'running' and t\.lease_until <= /,
  /\bt\.to_remember\b|save_memories|\bclaims\b/,
];

const user_id = "ada";

/**
 * Runs such a turn, in a conversation that there was before, on a service of its own that has run others.
 * @returns what its service asked of PostgreSQL from the request to its answer, a query for each round trip
 */
export async function queriesOfWholeTurn(databaseUrl: string): Promise<string[]> {
  await using roundTrips = await countRoundTrips(databaseUrl);
  await using service = await startService({ env: { DATABASE_URL: roundTrips.url } });
  const chat = async (message: string, conversation_id?: string): Promise<ChatResponse> => {
    const { status, body } = await service.post<ChatResponse>(
      "/v1/chat",
      { user_id, message, conversation_id },
      { "idempotency-key": crypto.randomUUID() },
    );
    if (status !== 200) throw new Error(`a turn wasn't answered: ${JSON.stringify(body)}`);
    return body;
  };
  /** What is drawn from a turn is drawn after it. */
  await using sql = new Bun.SQL(databaseUrl, { max: 1 });
  const remembered = (): Promise<void> =>
    until("nothing is left to be remembered", async () => {
      const [left] = await sql<
        { found: boolean }[]
      >`select exists (select from turns where to_remember) as found`;
      return !left!.found;
    });
  await addDocument(service, {
    name: "handbook.md",
    text: "The Falcon drone has a warranty of three years.",
  });
  await chat("I live in Zurich and my cat is called Bello.");
  const { conversation_id } = await chat("I like my Falcon drone.");
  await remembered();
  const question = "What is the warranty of the Falcon drone in Zurich?";
  await chat(question, conversation_id);
  await remembered();

  const before = roundTrips.queries.length;
  const answer = await chat(question, conversation_id);
  const asked = roundTrips.queries.slice(before);
  if (answer.sources.length === 0 || answer.memories_used.length === 0) {
    throw new Error(`the turn didn't use all: ${JSON.stringify(answer)}`);
  }
  return asked.filter((query) => !beside.some((pattern) => pattern.test(query)));
}
