/** What the service remembers of its users by itself, without a language model. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Receipt } from "../../src/storage/store.ts";
import { allMemories, heldTexts, toRemember } from "../support/memories.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());

/** A turn to its end, in a new conversation unless one is named. */
async function say(user_id: string, message: string, body: object = {}, to = service): Promise<ChatResponse> {
  const answer = await to.post<ChatResponse>("/v1/chat", { user_id, message, ...body });
  expect(answer.status).toBe(200);
  return answer.body;
}

/** The same, of whose answer one word is enough. */
const tell = (user_id: string, message: string, body: object = {}, to = service): Promise<ChatResponse> =>
  say(user_id, message, { max_tokens: 1, ...body }, to);

const notFound = "I found nothing about this.";

describe("what a user says about themselves", () => {
  test("is known to their next turn, in any conversation", async () => {
    await tell("ada", "My name is Ada");
    const { response, memories_used } = await say("ada", "What is my name?");
    expect(response).toBe("I know about you:\n\n> The user's name is Ada.");
    const [memory] = await allMemories(service, "ada");
    expect(memories_used).toEqual([memory!.id]);
  });

  test("is kept with its message, time and kind", async () => {
    const { turn_id } = await tell("meta", "Please always answer in German. I live in Bern.");
    const { body: turn } = await service.get<{ user_message_id: string; created_at: number }>(
      `/v1/turns/${turn_id}`,
    );
    const common = {
      source_message_id: turn.user_message_id,
      created_at: turn.created_at,
      superseded_by: null,
      uses: 0,
      used_at: null,
    };
    expect(await allMemories(service, "meta")).toMatchObject([
      { ...common, text: "The user asked: “Please always answer in German.”", kind: "instruction" },
      { ...common, text: "The user lives in Bern.", kind: "fact", slot: "home" },
    ]);
    expect((await allMemories(service, "meta")).every(({ tokens }) => tokens > 3)).toBe(true);
  });

  test("answers questions in other words", async () => {
    await tell("kin", "My daughter Lena plays the cello, and I'm allergic to nuts.");
    await tell("kin", "Ich wohne in Bern.");
    expect((await say("kin", "What does Lena play?")).response).toContain("cello");
    expect((await say("kin", "What am I allergic to?")).response).toContain("nuts");
    expect((await say("kin", "Wo wohne ich?")).response).toContain("Ich wohne in Bern.");
  });

  test("is nobody else's", async () => {
    await tell("owner", "My cat is called Isis.");
    const { response, memories_used } = await say("stranger", "What is my cat called?");
    expect(response).toStartWith(notFound);
    expect(memories_used).toEqual([]);
    expect(await allMemories(service, "stranger")).toEqual([]);
  });

  test("is superseded by what contradicts it, and only that", async () => {
    await tell("mover", "I live in Zurich. My name is Eve.");
    await tell("mover", "I moved to Bern.");
    expect(await heldTexts(service, "mover")).toEqual([
      "The user's name is Eve.",
      "The user moved to Bern and lives there.",
    ]);
    const [zurich, , bern] = await allMemories(service, "mover");
    expect(zurich).toMatchObject({ text: "The user lives in Zurich.", superseded_by: bern!.id });
    const { response } = await say("mover", "Where do I live?");
    expect(response).toContain("Bern");
    expect(response).not.toContain("Zurich");
    await tell("mover", "I no longer live in Bern.");
    expect(await heldTexts(service, "mover")).toEqual([
      "The user's name is Eve.",
      "The user no longer lives in Bern.",
    ]);
    await tell("mover", "I no longer live in Basel.");
    expect(await heldTexts(service, "mover")).toContain("The user no longer lives in Bern.");
  });

  test("of one of several stays when another is told of; of whom there is one, the last holds", async () => {
    await tell("owner of two", "My dog is called Rex. My wife is called Anna.");
    await tell("owner of two", "My dog is called Bella. My wife is called Eva.");
    await tell("owner of two", "My dog is called Rex.");
    expect(await heldTexts(service, "owner of two")).toEqual([
      "The user's dog's name is Rex.",
      "The user's dog's name is Bella.",
      "The user's wife's name is Eva.",
    ]);
    const { response } = await say("owner of two", "What are my dog's names?");
    expect([response.includes("Rex"), response.includes("Bella"), response.includes("Eva")]).toEqual([
      true,
      true,
      false,
    ]);
  });

  test("is kept once, however often it is said, and again only with what is new", async () => {
    for (const message of [
      "I have a dog.",
      "I have a dog",
      "Hi! I have a dog.",
      "I have a dog called Rex.",
      "I have a dog.",
    ]) {
      await tell("again", message);
    }
    expect(await heldTexts(service, "again")).toEqual(["The user has a dog called Rex."]);
    expect((await allMemories(service, "again")).length).toBe(2);
  });

  test("counts as used where it bore on what the user asked, and not where it only had room", async () => {
    await tell("user", "I live in Oslo. I like jazz.");
    await tell("user", "Hello again!");
    const usesOf = async () => (await allMemories(service, "user")).map(({ text, uses }) => [text, uses]);
    expect(await usesOf()).toEqual([
      ["The user lives in Oslo.", 0],
      ["The user likes jazz.", 0],
    ]);
    const { turn_id } = await tell("user", "Where do I live?");
    const { body: receipt } = await service.get<Receipt>(`/v1/turns/${turn_id}/receipt`);
    expect(receipt.chosen.filter(({ section }) => section === "memories").length).toBe(2);
    expect(await usesOf()).toEqual([
      ["The user lives in Oslo.", 1],
      ["The user likes jazz.", 0],
    ]);
    expect((await allMemories(service, "user"))[0]!.used_at).toBeGreaterThan(1_700_000_000);
  });
});

describe("nothing is remembered", () => {
  test("of a turn that asks for that, and nothing is used in it", async () => {
    await tell("private", "My name is Eve");
    await tell("private", "My dog is called Rex. I live in Rome.", { use_memory: false });
    expect(await heldTexts(service, "private")).toEqual(["The user's name is Eve."]);
    const { response, memories_used } = await say("private", "What is my name?", { use_memory: false });
    expect(response).toStartWith(notFound);
    expect(memories_used).toEqual([]);
    expect((await say("private", "What is my dog called?")).response).toStartWith(notFound);
  });

  test("of a message that says nothing about the user: it isn't even marked", async () => {
    await using quiet = await startService();
    for (const message of ["What is a cello?", "My name is Eve", "Thanks"])
      await tell("ada", message, {}, quiet);
    expect(await heldTexts(quiet)).toEqual(["The user's name is Eve."]);
    expect(await quiet.stop()).toBe(0);
    expect(quiet.logs.filter((line) => line.includes('"event":"remembered"')).length).toBe(1);
  });

  test("of the reply: what is recalled or known is never taken for something new", async () => {
    const { conversation_id } = await tell("echo", "My name is Eve");
    await tell("echo", "What is my name?", { conversation_id });
    await tell("echo", "And what was that again, my name?", { conversation_id });
    expect((await allMemories(service, "echo")).length).toBe(1);
  });

  test("where PARLEY_MEMORY is off: none is drawn, used or recalled, also later", async () => {
    await using off = await startService({ env: { PARLEY_MEMORY: "off" } });
    await tell("ada", "My name is Ada", {}, off);
    expect((await say("ada", "What is my name?", {}, off)).response).toStartWith(notFound);
    expect([await allMemories(off), toRemember(off)]).toEqual([[], []]);
    await off.stop();
    await off.restart({ PARLEY_MEMORY: "on" });
    expect((await say("ada", "What is my name?", {}, off)).response).toStartWith(notFound);
    expect(await allMemories(off)).toEqual([]);
  });
});

describe("beyond PARLEY_MEMORIES_MAX", () => {
  test("the least useful go first: superseded ones, then those that were never of use", async () => {
    await using small = await startService({ env: { PARLEY_MEMORIES_MAX: "3" } });
    await tell("ada", "I speak Thai.", {}, small);
    await tell("ada", "I live in Rome.", {}, small);
    await tell("ada", "I live in Oslo.", {}, small);
    expect((await allMemories(small)).length).toBe(3);
    await tell("ada", "Which languages do I speak?", {}, small);
    await tell("ada", "Where do I live?", {}, small);
    await tell("ada", "I play the cello.", {}, small);
    expect((await allMemories(small)).map(({ text }) => text)).toEqual([
      "The user speaks Thai.",
      "The user lives in Oslo.",
      "The user plays the cello.",
    ]);
    // What is new has its chance, though everything else was of use before.
    await tell("ada", "I collect stamps.", {}, small);
    expect(await heldTexts(small)).toEqual([
      "The user speaks Thai.",
      "The user lives in Oslo.",
      "The user collects stamps.",
    ]);
  });
});

describe("with a language model", () => {
  let model: ModelServer;
  beforeAll(() => {
    model = startModelServer();
  });
  afterAll(() => model.close());

  test("the patterns do, where PARLEY_MEMORY_MODEL is embedded, and what the model replies is no source", async () => {
    await using other = await startService({ model, env: { PARLEY_MEMORY_MODEL: "embedded" } });
    model.default((to) => to.reply(["My name is Robot. I live in the cloud. Remember that I am Bob."]));
    await tell("ada", "My name is Ada", {}, other);
    await tell("ada", "Who are you?", {}, other);
    expect(await heldTexts(other)).toEqual(["The user's name is Ada."]);
    expect(model.memory.requests).toEqual([]);
    expect(model.requests.at(-1)!.body.messages[0]!.content).toMatch(
      /\n- \d{4}-\d\d-\d\d: The user's name is Ada\.\n/,
    );
  });
});
