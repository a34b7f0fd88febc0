/** What the embedded model answers over HTTP to what people ask: from what it knows, or that it found nothing. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { addDocument } from "../support/library.ts";
import { heldTexts } from "../support/memories.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const guide = `# Operations guide

## Deploying your app

To deploy your app, run \`ship app --to production\` from the main branch. Do not deploy on Fridays.

## Rolling back

Run \`ship app --previous\`. It takes a minute.

## Backups

Backups are made every night at three and kept for 30 days.

## Who to ask

Lena Novak runs the platform team.
`;
const urlaub = `# Urlaub

Alle haben 30 Urlaubstage im Jahr. Der Antrag geht an die Teamleitung.
`;

let service: Service;
const today = (): string => new Date().toISOString().slice(0, 10);

async function ask(user_id: string, message: string, conversation_id?: string): Promise<ChatResponse> {
  const { status, body } = await service.post<ChatResponse>("/v1/chat", {
    user_id,
    message,
    conversation_id,
  });
  if (status !== 200) throw new Error(JSON.stringify(body));
  return body;
}

/** All that a user asks, each in a conversation of its own, with what was answered. */
const askAll = async (user_id: string, questions: readonly string[]): Promise<[string, ChatResponse][]> =>
  await Promise.all(
    questions.map(async (question) => [question, await ask(user_id, question)] as const),
  ).then((answers) => answers.map(([question, answer]) => [question, answer]));

const quotesOf = ({ response }: ChatResponse): string[] =>
  response.split("\n").flatMap((line) => (line.startsWith("> ") ? line.slice(2) : []));

async function know(user_id: string, statements: readonly string[], memories: number): Promise<void> {
  await Promise.all(statements.map((statement) => ask(user_id, statement)));
  expect(await heldTexts(service, user_id)).toHaveLength(memories);
}

beforeAll(async () => {
  service = await startService();
  await addDocument(service, { name: "operations.md", text: guide });
  await addDocument(service, { name: "urlaub.md", text: urlaub });
  await know(
    "priya",
    [
      "My name is Priya and I live in Leeds.",
      "I'm allergic to peanuts.",
      "My sister Lena plays the cello.",
      "My birthday is on 3 May.",
      "My dog is called Rex. I like hiking.",
      "I bought a red bicycle for 300 euros.",
      "We decided to paint the kitchen in mint green.",
    ],
    7,
  );
  await know(
    "jonas",
    [
      "Ich heiße Jonas.",
      "Ich bin allergisch gegen Erdnüsse.",
      "Meine Schwester Frieda spielt Cello.",
      "Ich mag Wandern.",
      "Wir haben beschlossen, die Küche grün zu streichen.",
    ],
    4,
  );
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
});

describe("what is known of the user", () => {
  test.each([
    ["what is my name", "The user's name is Priya."],
    ["Which food am I allergic to?", "The user is allergic to peanuts."],
    ["Do I have any allergies?", "The user is allergic to peanuts."],
    ["when is my birthday", "The user's birthday is 3 May."],
    ["Where do I live?", "The user lives in Leeds."],
    ["Does my sister play an instrument?", "The user's sister Lena plays the cello."],
    ["What's my dog's name?", "The user's dog's name is Rex."],
    ["Do I have a dog?", "The user's dog's name is Rex."],
    ["What do I like?", "The user likes hiking."],
  ])("%s", async (question, memory) => {
    const answer = await ask("priya", question);
    expect(quotesOf(answer)).toEqual([memory]);
    expect([answer.response.startsWith("I know about you:"), answer.sources]).toEqual([true, []]);
  });

  test("all of it, where that is the question", async () => {
    for (const [question, answer] of await askAll("priya", ["Who am I?", "What do you know about me?"])) {
      expect([question, quotesOf(answer).length]).toEqual([question, 7]);
      expect(answer.response.split("I know about you:")).toHaveLength(2);
    }
  });

  test("in German", async () => {
    const expected = {
      "Wie heiße ich?": "The user's name is Jonas (“Ich heiße Jonas”).",
      "Wogegen bin ich allergisch?": "The user said: “Ich bin allergisch gegen Erdnüsse.”",
      "Wer ist Frieda?": "The user said: “Meine Schwester Frieda spielt Cello.”",
      "Was mag ich?": "The user said: “Ich mag Wandern.”",
    };
    for (const [question, answer] of await askAll("jonas", Object.keys(expected)))
      expect([question, quotesOf(answer)]).toEqual([question, [expected[question as keyof typeof expected]]]);
    expect(quotesOf(await ask("jonas", "Was weißt du über mich?"))).toHaveLength(4);
  });

  test("the profile too", async () => {
    const profile = { display_name: "Ada Lovelace", timezone: "Europe/London" };
    await service.send("PATCH", "/v1/users/ada/profile", profile);
    expect(quotesOf(await ask("ada", "What is my name?"))).toEqual(["The user's name is Ada Lovelace."]);
    expect(quotesOf(await ask("ada", "Which time zone am I in?"))).toEqual([
      "The user's time zone is Europe/London.",
    ]);
    expect(quotesOf(await ask("ada", "Who am I?"))).toHaveLength(2);
  });

  test("isn't told of somebody else", async () => {
    const silent = ["What is my wife's name?", "What is my cat's name?", "What is my mother's name?"];
    for (const [question, answer] of await askAll("priya", silent))
      expect([question, quotesOf(answer)]).toEqual([question, []]);
    for (const [question, answer] of await askAll("priya", [
      "When is my sister's birthday?",
      "Where does my sister live?",
    ]))
      expect([question, quotesOf(answer)]).toEqual([question, ["The user's sister Lena plays the cello."]]);
    expect(quotesOf(await ask("jonas", "Wie heißt meine Frau?"))).toEqual([]);
  });
});

describe("what was said", () => {
  test.each([
    ["priya", "what did I say about the kitchen", "We decided to paint the kitchen in mint green."],
    ["priya", "when did I buy the bicycle", "I bought a red bicycle for 300 euros."],
    ["priya", "How much did my bicycle cost?", "I bought a red bicycle for 300 euros."],
    ["jonas", "Was habe ich über die Küche gesagt?", "Wir haben beschlossen, die Küche grün zu streichen."],
  ])("%s asks: %s", async (user_id, question, said) => {
    const answer = await ask(user_id, question);
    expect(quotesOf(answer)).toEqual([said]);
    expect(answer.response).toStartWith(`You wrote on ${today()}:`);
  });

  test("earlier in the same conversation, and never what the user only asked", async () => {
    const { conversation_id } = await ask("zoe", "We moved the meeting to room 12 because of the painters.");
    for (const question of [
      "In which room is the meeting?",
      "Why did we move the meeting?",
      "And the painters?",
    ])
      expect([question, quotesOf(await ask("zoe", question, conversation_id))]).toEqual([
        question,
        ["We moved the meeting to room 12 because of the painters."],
      ]);
    expect(quotesOf(await ask("zoe", "What did we say about the meeting?"))).toEqual([
      "We moved the meeting to room 12 because of the painters.",
    ]);
  });

  test("what the user asked, where that is the question", async () => {
    await ask("yan", "How long are backups kept?");
    expect(quotesOf(await ask("yan", "What did I ask about backups?"))).toEqual([
      "How long are backups kept?",
    ]);
  });
});

describe("documents", () => {
  test.each([
    ["how do I deploy my app", "Deploying your app"],
    ["Can I deploy on a Friday?", "Deploying your app"],
    ["How do I roll back?", "Rolling back"],
    ["how long are backups kept", "Backups"],
    ["Who runs the platform team?", "Who to ask"],
  ])("%s", async (question, heading) => {
    const { response, sources, citations } = await ask("guest", question);
    expect(response).toStartWith(`operations.md, Operations guide > ${heading} says [1]:`);
    expect([sources, citations[0]!.quote.includes(`## ${heading}`)]).toEqual([["operations.md"], true]);
  });

  test("in German", async () => {
    const { response, sources } = await ask("guest", "Wie viele Urlaubstage habe ich?");
    expect([response.includes("> Alle haben 30 Urlaubstage"), sources]).toEqual([true, ["urlaub.md"]]);
  });

  test("beside what the user said of the same name", async () => {
    const answer = await ask("priya", "who is Lena?");
    expect(quotesOf(answer)).toContain("Lena Novak runs the platform team.");
    expect(quotesOf(answer)).toContain("The user's sister Lena plays the cello.");
    expect(answer.sources).toEqual(["operations.md"]);
  });
});

test("what holds much less of the question isn't quoted beside what holds all of it", async () => {
  await ask("fay", "On a Friday there is always fish for lunch.");
  const { response } = await ask("fay", "Can I deploy on a Friday?");
  expect(response).toContain("Do not deploy on Fridays.");
  expect(response).not.toContain("fish");
  expect(quotesOf(await ask("fay", "What is there on a Friday?"))).toContain(
    "On a Friday there is always fish for lunch.",
  );
});

describe("nothing is found, and nothing cited", () => {
  test("for what is about something else, or about nothing", async () => {
    const answers = await askAll("priya", [
      "What is the capital of France?",
      "How do I deploy to Heroku?",
      "Tell me a joke",
      "What's the weather like?",
      "Wie ist das Wetter?",
      "who is who",
      "what is it about?",
      "Was ist das?",
      "???",
    ]);
    for (const [question, { response, sources, citations }] of answers) {
      expect([question, response]).toEqual([question, expect.stringContaining("I found nothing about this")]);
      expect([question, sources, citations]).toEqual([question, [], []]);
    }
  });

  test.each([
    ["hello", "Hello! No language model is configured"],
    ["Guten Morgen!", "Hello! No language model is configured"],
    ["Good evening, can you help me?", "Hello! No language model is configured"],
    ["What can you do?", "No language model is configured"],
    ["Thank you very much!", "You're welcome."],
    ["Vielen Dank!", "You're welcome."],
    ["ok", "All right."],
  ])("%s is no question to look up", async (message, reply) => {
    const { response, sources } = await ask("priya", message);
    expect([response.startsWith(reply), response.includes(">"), sources]).toEqual([true, false, []]);
  });
});
