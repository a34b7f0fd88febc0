/** What the model is sent: the system prompt, the newest messages within the window, the message, and nothing else. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { countTokens } from "../../src/models/tokens.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testModel, testMsMax } from "../support/service.ts";
import { conversationOf, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const system = { role: "system" as const, content: "You are a helpful assistant." };

let model: ModelServer;
let service: Service;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const lastRequest = () => model.requests.at(-1)!.body;

test("the first message goes with the system prompt alone, and asks for a stream with usage", async () => {
  await wholeTurn(service, model, ["Hi"], { message: "Hello there" });
  expect(lastRequest()).toEqual({
    model: testModel,
    messages: [system, { role: "user", content: "Hello there" }],
    stream: true,
    stream_options: { include_usage: true },
  });
});

test("model, temperature and max_tokens are passed on", async () => {
  const { model: answered } = await wholeTurn(service, model, ["Hi"], {
    model: "another-model",
    temperature: 0.3,
    max_tokens: 77,
  });
  expect(lastRequest()).toMatchObject({ model: "another-model", temperature: 0.3, max_tokens: 77 });
  expect(answered).toBe("another-model");
});

test("user_id, metadata and ids are not", async () => {
  await wholeTurn(service, model, ["Hi"], {
    user_id: "private-name",
    metadata: { secret_key: "secret value" },
  });
  const { headers, body } = model.requests.at(-1)!;
  const sent = JSON.stringify([body, [...headers]]);
  for (const secret of ["private-name", "secret_key", "secret value", "conv_", "turn_"]) {
    expect(sent).not.toContain(secret);
  }
});

test("a conversation goes on with its messages in order", async () => {
  const { conversation_id } = await wholeTurn(service, model, ["answer 1"], { message: "question 1" });
  await wholeTurn(service, model, ["answer 2"], { message: "question 2", conversation_id });
  await wholeTurn(service, model, ["answer 3"], { message: "question 3", conversation_id });
  expect(lastRequest().messages).toEqual([
    system,
    { role: "user", content: "question 1" },
    { role: "assistant", content: "answer 1" },
    { role: "user", content: "question 2" },
    { role: "assistant", content: "answer 2" },
    { role: "user", content: "question 3" },
  ]);
});

describe("the window", () => {
  test("holds the newest messages that fit PARLEY_WINDOW_TOKENS together with the message", async () => {
    const windowTokens = 120;
    await using narrow = await startService({
      model,
      // Or else the summary would cover the messages that are first to leave the window.
      env: {
        PARLEY_WINDOW_TOKENS: String(windowTokens),
        PARLEY_SYSTEM_PROMPT: "Short.",
        PARLEY_MEMORY: "off",
      },
    });
    let conversation_id: string | undefined;
    const spoken: string[] = [];
    for (let round = 0; round < 12; round++) {
      const message = `Question number ${round}: ${"how so? ".repeat(round % 4)}`;
      const answer = `Answer ${round}. ${"Because. ".repeat((round * 5) % 7)}`;
      const chat = await wholeTurn(narrow, model, [answer], {
        message,
        ...(conversation_id && { conversation_id }),
      });
      conversation_id = chat.conversation_id;
      const { messages } = lastRequest();
      // The newest that fit: walking back until the next one would not.
      const expected = [message];
      let tokens = countTokens(message);
      for (const earlier of spoken.toReversed()) {
        tokens += countTokens(earlier);
        if (tokens > windowTokens) break;
        expected.unshift(earlier);
      }
      const [{ content: before } = { content: "" }, ...window] = messages;
      expect(window.map(({ content }) => content)).toEqual(expected);
      expect(before).toStartWith("Short.");
      // What fell out of the window is told of before it.
      const out = spoken.slice(0, spoken.length - (expected.length - 1));
      for (const earlier of out) expect(before).toContain(earlier.slice(0, 8));
      spoken.push(message, answer);
    }
    expect(lastRequest().messages.length).toBeLessThan(20);
    expect(lastRequest().messages.length).toBeGreaterThan(3);
  });

  test("always holds the message, however long it is", async () => {
    await using narrow = await startService({ model, env: { PARLEY_WINDOW_TOKENS: "10" } });
    const message = "many words ".repeat(200);
    const { conversation_id } = await wholeTurn(narrow, model, ["Hi"], { message: "Before" });
    await wholeTurn(narrow, model, ["Hi"], { message, conversation_id });
    const [before, ...window] = lastRequest().messages;
    expect(window).toEqual([{ role: "user", content: message }]);
    expect(before!.content).toContain("> user: Before\n> assistant: Hi");
  });

  test("holds nothing of other conversations, of the same user neither", async () => {
    await wholeTurn(service, model, ["SECRET-REPLY"], { message: "SECRET-MESSAGE" });
    await wholeTurn(service, model, ["Hi"], { message: "What do you know?" });
    expect(JSON.stringify(lastRequest())).not.toContain("SECRET");
  });
});

test("without a system prompt none is sent", async () => {
  await using bare = await startService({ model, env: { PARLEY_SYSTEM_PROMPT: "" } });
  await wholeTurn(bare, model, ["Hi"], { message: "Alone" });
  expect(lastRequest().messages).toEqual([{ role: "user", content: "Alone" }]);
});

describe("the title", () => {
  test.each([
    ["Plan a trip to Lisbon", "Plan a trip to Lisbon"],
    ["  First line \n second line", "First line"],
    ["tabs\tand   spaces", "tabs and spaces"],
    ["これは日本語です", "これは日本語です"],
  ])("of a first message %j is %j", async (message, title) => {
    const { conversation_id } = await wholeTurn(service, model, ["Hi"], { message });
    expect((await conversationOf(service, conversation_id)).title).toBe(title);
  });

  test("of a long message is cut at a word, and never inside of a character", async () => {
    for (const message of ["word ".repeat(60), "👩‍👧".repeat(60), "a".repeat(500)]) {
      const { conversation_id } = await wholeTurn(service, model, ["Hi"], { message });
      const title = (await conversationOf(service, conversation_id)).title!;
      expect(title.length).toBeLessThanOrEqual(80);
      expect(title).toEndWith("…");
      expect(title.isWellFormed()).toBe(true);
      expect(message).toStartWith(title.slice(0, -1));
      if (message.startsWith("word")) expect(title.slice(0, -1)).toMatch(/^(word )*word$/);
      if (message.startsWith("👩")) expect(title.slice(0, -1)).toMatch(/^(👩‍👧)+$/u);
    }
  });

  test("stays as it was given or first made", async () => {
    const { body } = await service.post<{ id: string }>("/v1/conversations", {
      user_id: "ada",
      title: "Mine",
    });
    await wholeTurn(service, model, ["Hi"], { message: "Something else", conversation_id: body.id });
    expect((await conversationOf(service, body.id)).title).toBe("Mine");
    const { body: untitled } = await service.post<{ id: string }>("/v1/conversations", { user_id: "ada" });
    await wholeTurn(service, model, ["Hi"], { message: "The first", conversation_id: untitled.id });
    await wholeTurn(service, model, ["Hi"], { message: "The second", conversation_id: untitled.id });
    expect((await conversationOf(service, untitled.id)).title).toBe("The first");
  });
});
