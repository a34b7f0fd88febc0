/** What the tests of turns ask again and again. */
import type { ChatResponse, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { TurnRecord } from "../../src/storage/store.ts";
import type { Held, ModelServer } from "./model-server.ts";
import { type Random, randomFrom } from "./random.ts";
import { type Service, until } from "./service.ts";

export type StartedTurn = Turn & { stream_url: string };

export const turnOf = async (service: Service, id: string): Promise<Turn> =>
  (await service.get<Turn>(`/v1/turns/${id}`)).body;

export const conversationOf = async (service: Service, id: string): Promise<Conversation> =>
  (await service.get<Conversation>(`/v1/conversations/${id}`)).body;

/** Starts a turn without watching it. */
export async function startTurn(
  service: Service,
  body: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Promise<StartedTurn> {
  const answer = await service.post<StartedTurn>(
    "/v1/turns",
    { user_id: "ada", message: "Hello", ...body },
    headers,
  );
  if (answer.status !== 202) throw new Error(`the turn was not started: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** Starts a turn that waits for the test, with some text that Parley has already. */
export async function holdTurn(
  service: Service,
  model: ModelServer,
  text = "",
  body: Record<string, unknown> = {},
): Promise<{ turn: StartedTurn; held: Held }> {
  const held = model.hold();
  if (text !== "") held.send(text);
  const turn = await startTurn(service, body);
  await held.request;
  await untilText(service, turn.id, text);
  return { turn, held };
}

/** Runs a whole turn, with the reply in pieces. */
export async function wholeTurn(
  service: Service,
  model: ModelServer,
  pieces: string[],
  body: Record<string, unknown> = {},
): Promise<ChatResponse> {
  model.reply(pieces);
  const answer = await service.post<ChatResponse>("/v1/chat", { user_id: "ada", message: "Hello", ...body });
  if (answer.status !== 200) throw new Error(`the turn failed: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

export const untilText = (service: Service, id: string, text: string): Promise<void> =>
  until(
    `the turn holds ${text.length} characters`,
    async () => (await turnOf(service, id)).response === text,
  );

export const untilEnded = (service: Service, id: string): Promise<void> =>
  until("the turn has ended", async () => (await turnOf(service, id)).status !== "running");

/** The stream of a turn from an offset on. */
export const resume = (service: Service, id: string, offset: number | "end"): Promise<Response> =>
  service.fetch(`/v1/turns/${id}/stream`, { headers: { "last-event-id": `${id}:${offset}` } });

/** A turn that ended with this text, as the store gives it. */
export const endedTurn = (response: string): TurnRecord => ({
  id: "turn_1",
  conversation_id: "conv_1",
  user_message_id: "msg_1",
  message_id: "msg_2",
  status: "completed",
  response,
  finish_reason: "stop",
  model: "m",
  sources: [],
  citations: [],
  memories_used: [],
  usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true },
  error: null,
  created_at: 1,
  ended_at: 2,
});

/** A random generator that a seed repeats. The seed is printed, and `TEST_SEED` sets it. */
export function seededRandom(): Random {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`TEST_SEED=${seed}`);
  return randomFrom(seed);
}
