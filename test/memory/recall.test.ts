/** Recall: what a user said in earlier conversations is before the model where it bears on their message. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";
import { wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

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

const promptOf = (): string => JSON.stringify(model.requests.at(-1)!.body.messages);
const systemOf = (): string => String(model.requests.at(-1)!.body.messages[0]!.content);
const today = (): string => new Date().toISOString().slice(0, 10);

interface Receipt {
  tokens: Record<string, number>;
  chosen: { section: string; id: string; score: number | null }[];
  dropped: { section: string; id: string }[];
}
const receiptOf = async (turnId: string): Promise<Receipt> =>
  (await service.get<Receipt>(`/v1/turns/${turnId}/receipt`)).body;

test("a message of another conversation is in the prompt, with its day and its speaker", async () => {
  const user_id = "rosa";
  await wholeTurn(service, model, ["Lovely boat."], {
    user_id,
    message: "I bought a sailboat called Albatross.",
  });
  const { turn_id } = await wholeTurn(service, model, ["Albatross."], {
    user_id,
    message: "What is the name of my sailboat?",
  });
  expect(systemOf()).toContain(`${today()}, user:\n> I bought a sailboat called Albatross.`);
  expect(systemOf()).toContain(`Today is ${today()}.`);
  const { tokens, chosen } = await receiptOf(turn_id);
  expect(tokens.recall).toBeGreaterThan(0);
  expect(chosen.filter(({ section }) => section === "recall").length).toBeGreaterThan(0);
});

test("what the window holds isn't repeated, what has left it is still before the model", async () => {
  await using narrow = await startService({ model, env: { PARLEY_WINDOW_TOKENS: "60" } });
  const first = await wholeTurn(narrow, model, ["Noted."], {
    message: "The password hint is zebra crossing.",
  });
  const { conversation_id } = first;
  await wholeTurn(narrow, model, ["Sure."], { conversation_id, message: "Tell me the password hint again." });
  expect(promptOf().split("zebra crossing").length - 1).toBe(1);
  for (const filler of ["one", "two", "three"]) {
    await wholeTurn(narrow, model, [`Filler answer ${filler} about nothing in particular at all.`], {
      conversation_id,
      message: `Filler question ${filler} about nothing in particular at all?`,
    });
  }
  await wholeTurn(narrow, model, ["Zebra."], { conversation_id, message: "And the hint of the password?" });
  const window = model.requests
    .at(-1)!
    .body.messages.slice(1)
    .map(({ content }) => String(content));
  expect(window.join("\n")).not.toContain("zebra");
  expect(systemOf()).toContain("The password hint is zebra crossing.");
});

test("a message is found by its neighbours: the question that it answers", async () => {
  const user_id = "nils";
  const first = await wholeTurn(service, model, ["Which day does your pottery course begin?"], {
    user_id,
    message: "I signed up for something at the community centre.",
  });
  await wholeTurn(service, model, ["Enjoy!"], {
    user_id,
    conversation_id: first.conversation_id,
    message: "On the ninth of March, in the evening.",
  });
  await wholeTurn(service, model, ["The ninth."], { user_id, message: "When does my pottery course begin?" });
  expect(systemOf()).toContain("> On the ninth of March, in the evening.");
});

test("nothing of another user is ever recalled", async () => {
  await wholeTurn(service, model, ["I see."], { user_id: "victim", message: "My locker code is 7-7-4-1-9." });
  await wholeTurn(service, model, ["No idea."], { user_id: "thief", message: "What is the locker code?" });
  expect(promptOf()).not.toContain("7-7-4-1-9");
});

test("use_memory: false neither recalls nor is recalled", async () => {
  const user_id = "greta";
  await wholeTurn(service, model, ["Ok."], { user_id, message: "My tulips are from Holland." });
  await wholeTurn(service, model, ["?"], {
    user_id,
    message: "Where are my tulips from?",
    use_memory: false,
  });
  expect(promptOf()).not.toContain("Holland");
  await wholeTurn(service, model, ["A secret."], {
    user_id,
    message: "My orchids are from Borneo.",
    use_memory: false,
  });
  await wholeTurn(service, model, ["?"], { user_id, message: "Where are my orchids from?" });
  expect(promptOf()).not.toContain("Borneo");
});

test("is kept within its budget, and the receipt tells what had no room", async () => {
  await using tight = await startService({ model, env: { PARLEY_RECALL_TOKENS: "60" } });
  for (let index = 0; index < 6; index++) {
    await wholeTurn(tight, model, ["Fine."], {
      message: `Note ${index} on the greenhouse: ${"it needs new glass panes. ".repeat(3)}`,
    });
  }
  const { turn_id } = await wholeTurn(tight, model, ["So."], {
    message: "What did I note on the greenhouse?",
  });
  const { body } = await tight.get<Receipt>(`/v1/turns/${turn_id}/receipt`);
  expect(body.tokens.recall).toBeLessThan(60 + 50);
  expect(body.chosen.filter(({ section }) => section === "recall").length).toBeGreaterThan(0);
  expect(body.dropped.filter(({ section }) => section === "recall").length).toBeGreaterThan(2);
  expect(systemOf().split("greenhouse").length - 1).toBeLessThan(4);
});

test("the embedded model answers from earlier conversations, and says whose words they are", async () => {
  await using offline = await startService();
  const say = async (message: string, user_id = "ada") =>
    (await offline.post<ChatResponse>("/v1/chat", { user_id, message })).body;
  await say("We decided to paint the kitchen in mint green.");
  const { response } = await say("What did we decide about the kitchen?");
  expect(response).toContain(`You wrote on ${today()}:`);
  expect(response).toContain("> We decided to paint the kitchen in mint green.");
  expect((await say("What did we decide about the kitchen?", "bob")).response).toContain(
    "I found nothing about this",
  );
});
