/** One turn in all the views of it: its stream, the JSON answer, the turn and the message that are stored. */
import type { ChatResponse, Message, Turn } from "../../src/chat/schema.ts";
import type { Conversation } from "../../src/conversations/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import type { Answer, Service } from "./service.ts";
import { sseEvents, type Transcript, toTranscript } from "./sse.ts";

export interface Views {
  stream: Transcript;
  /** Of `POST /v1/chat`. */
  json: Answer<ChatResponse | Problem>;
  turn: Turn;
  /** The turn's reply as a message of its conversation. */
  message: Message;
  conversation: Conversation;
}

/**
 * Asks `POST /v1/chat` and `POST /v1/chat/stream` at once, as one turn: whichever comes first starts it, and the other
 * is attached to it. Reads both to the end, then what is stored. The text is told as it comes.
 */
export async function viewTurn(
  service: Service,
  body: { user_id: string; message: string },
  onText: (text: string) => void = () => {},
): Promise<Views> {
  const key = { "idempotency-key": crypto.randomUUID() };
  const asked = service.post<Views["json"]["body"]>("/v1/chat", body, key);
  const response = await service.fetch("/v1/chat/stream", {
    method: "POST",
    headers: { "content-type": "application/json", ...key },
    body: JSON.stringify(body),
  });
  const events = [];
  for await (const event of sseEvents(response)) {
    events.push(event);
    const { token } = JSON.parse(event.data) as { token?: string };
    if (token !== undefined) onText(token);
  }
  const stream = toTranscript(events);
  const json = await asked;
  const { turn_id, conversation_id } = stream.start;
  const [{ body: turn }, { body: conversation }] = await Promise.all([
    service.get<Turn>(`/v1/turns/${turn_id}`),
    service.get<Conversation & { messages: Message[] }>(`/v1/conversations/${conversation_id}`),
  ]);
  const message = conversation.messages.find(({ id }) => id === stream.start.message_id)!;
  return { stream, json, turn, message, conversation };
}
