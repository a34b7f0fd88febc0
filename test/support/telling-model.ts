/**
 * A model server whose reply follows from the message alone, text and pace, so that whoever knows the message knows
 * what must be in the store. No script is needed, however many ask at once.
 */
import type { ModelServer } from "./model-server.ts";
import { listen } from "./raw-http.ts";

const words = [
  "turn ",
  "resume ",
  "漢字",
  "😀 ",
  "naïve ",
  "checkpoint,\n",
  "offset ",
  "👩‍🚀",
  "reply. ",
  "ß ",
];

export interface Telling {
  pieces: string[];
  text: string;
  /** Before each piece. */
  delayMs: number;
  usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
}

/** What the model says to a message. One in three comes in a burst, the others at a pace of some milliseconds a piece. */
export function tellingOf(message: string): Telling {
  const seed = Number(Bun.hash.xxHash32(message));
  const count = 5 + (seed % 40);
  const pieces = Array.from({ length: count }, (_, index) => words[(seed + index * index) % words.length]!);
  const delayMs = seed % 3 === 0 ? 0 : 5 + ((seed >>> 8) % 60);
  const usage = {
    prompt_tokens: message.length,
    completion_tokens: count,
    total_tokens: message.length + count,
  };
  return { pieces, text: pieces.join(""), delayMs, usage };
}

export interface TellingModel extends Pick<ModelServer, "url" | "close"> {
  /** How often each message was asked. */
  readonly asked: Map<string, number>;
  /** Whoever asks from now on isn't answered until the returned function is called. */
  pause(): () => void;
}

/** Listens on a free loopback port. */
export function startTellingModel(): TellingModel {
  const asked = new Map<string, number>();
  let opened = Promise.resolve();
  const listener = listen(async (request, connection) => {
    const { model, messages } = JSON.parse(request.body) as {
      model: string;
      messages: { content: string }[];
    };
    const message = messages.at(-1)!.content;
    asked.set(message, (asked.get(message) ?? 0) + 1);
    const { pieces, delayMs, usage } = tellingOf(message);
    const write = (choices: object[], rest: object = {}): void => {
      const chunk = {
        id: "chatcmpl-1",
        object: "chat.completion.chunk",
        created: 1,
        model,
        choices,
        ...rest,
      };
      connection.write(`data: ${JSON.stringify(chunk)}\n\n`);
    };
    let gone = false;
    void request.closed.then(() => {
      gone = true;
    });
    connection.start({ status: 200, headers: { "content-type": "text/event-stream" } });
    await opened;
    for (const content of pieces) {
      if (delayMs > 0) await Bun.sleep(delayMs);
      if (gone) return;
      write([{ index: 0, delta: { content }, finish_reason: null }]);
    }
    write([{ index: 0, delta: {}, finish_reason: "stop" }]);
    write([], { usage });
    connection.write("data: [DONE]\n\n");
    connection.end();
  });
  return {
    url: `http://127.0.0.1:${listener.port}/v1`,
    asked,
    pause() {
      const gate = Promise.withResolvers<void>();
      opened = gate.promise;
      return gate.resolve;
    },
    close: () => listener.close(),
  };
}
