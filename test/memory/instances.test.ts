/** What is done for later turns, by several instances of one database: each piece of it by one of them. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { BackgroundMemory } from "../../src/memory/background.ts";
import { drawByModel } from "../../src/memory/drawing.ts";
import { Folding } from "../../src/memory/folding.ts";
import { summariseByModel } from "../../src/memory/summary.ts";
import { openWorkbench, type Workbench } from "../support/background.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const ada = { workspace_id: "default", user_id: "ada" };
const limits = { windowTokens: 400 };
const newDatabase = databasesOfFile();

let model: ModelServer;
let database: Bun.SQL;
let one: Workbench;
let two: Workbench;
beforeAll(async () => {
  model = startModelServer();
  const databaseUrl = await newDatabase();
  database = new Bun.SQL(databaseUrl, { max: 1 });
  one = await openWorkbench(limits, { databaseUrl, instanceId: "inst_one" });
  two = await openWorkbench(limits, { databaseUrl, instanceId: "inst_two" });
});
afterAll(async () => {
  await one?.[Symbol.asyncDispose]();
  await two?.[Symbol.asyncDispose]();
  await database?.close();
  await model.close();
});

describe("the beginning of a conversation", () => {
  const foldingOn = ({ store, claims, log, limits, modelOf }: Workbench): Folding =>
    new Folding({ store, claims, log, limits, summarising: summariseByModel(modelOf(model), null) });
  const untilDone = (folding: Folding): Promise<void> =>
    until("nothing is folded any more", () => folding.waiting === 0);

  async function longConversation(): Promise<string> {
    let conversation_id: string | null = null;
    for (let turn = 0; turn < 10; turn++) {
      const said = { message: `word ${turn}`, tokens: 20 };
      ({ conversation_id } = await one.turn("ada", said, said, { conversation_id }));
    }
    return conversation_id!;
  }
  const summaryOf = async (id: string): Promise<string> =>
    (await two.store.conversationContext(ada, id, 99, 0)).summary.text;

  test("is folded by one of two instances: the model is asked once", async () => {
    const id = await longConversation();
    const before = model.summary.requests.length;
    const held = model.summary.hold();
    const [here, there] = [foldingOn(one), foldingOn(two)];
    here.fold(ada, id, "soon");
    await held.request;
    there.fold(ada, id, "soon");
    await untilDone(there);
    expect(model.summary.requests.length).toBe(before + 1);
    expect(await summaryOf(id)).toBe("");
    held.send("What one has written.");
    held.finish();
    await untilDone(here);
    expect(await summaryOf(id)).toBe("What one has written.");
  });

  test("isn't waited for where it is urgent, whoever is at it, and what comes too late is left out", async () => {
    const id = await longConversation();
    const held = model.summary.hold();
    const [here, there] = [foldingOn(one), foldingOn(two)];
    here.fold(ada, id, "soon");
    await held.request;
    there.fold(ada, id, "now");
    await untilDone(there);
    const digest = await summaryOf(id);
    expect(digest).toContain("word 0");
    held.send("What comes too late.");
    held.finish();
    await untilDone(here);
    expect(await summaryOf(id)).toBe(digest);
  });
});

describe("a turn that is to be remembered", () => {
  const said = { message: "My name is Ada.", tokens: 5 };

  test("waits for another one of its user, whichever instance is at that, and knows what was drawn there", async () => {
    const ben = { workspace_id: "default", user_id: "ben" };
    const answer = '{"memories": [{"text": "The user lives in Porto."}]}';
    const memoryOn = ({ store, claims, log, limits, modelOf }: Workbench): BackgroundMemory => {
      const drawing = drawByModel(modelOf(model), null, limits.memoryTokens);
      return new BackgroundMemory(true, { store, claims, log, limits, drawing, summarising: null });
    };
    const [here, there] = [memoryOn(one), memoryOn(two)];
    const before = model.memory.requests.length;
    const held = model.memory.hold();
    for (const [memory, bench, message] of [
      [here, one, "I live in Porto."],
      [there, two, "As I said, I live in Porto."],
    ] as const) {
      const turn = await bench.turn("ben", { message, tokens: 5 }, said, { to_remember: true });
      memory.turnEnded({ ...turn, ...ben, message, to_remember: true, fold: null });
      await held.request;
    }
    // Long enough for the other one to try more than once.
    await Bun.sleep(1_200);
    expect(model.memory.requests.length).toBe(before + 1);
    model.memory.reply([answer]);
    held.send(answer);
    held.finish();
    await until("both are remembered", () => here.waiting.memories + there.waiting.memories === 0);
    expect(model.memory.requests.length).toBe(before + 2);
    const memories = await two.store.heldMemories(ben);
    expect(memories.map(({ text }) => text)).toEqual(["The user lives in Porto."]);
    await Promise.all([here.close(), there.close()]);
  });

  const idsOf = async ({ store }: Workbench, instanceId: string): Promise<string[]> =>
    (await store.turnsToRemember(instanceId, 100)).map(({ turn_id }) => turn_id);

  test("is its instance's for as long as that lives, then whoever's asks first", async () => {
    const turns = [];
    for (let turn = 0; turn < 3; turn++) turns.push(await one.turn("ada", said, said, { to_remember: true }));
    const ids = turns.map(({ turn_id }) => turn_id);
    expect(await idsOf(one, "inst_one")).toEqual(ids);
    expect(await idsOf(two, "inst_two")).toEqual([]);
    // It hasn't asked for long.
    await database`update claims set until = clock_timestamp() where holder = 'inst_one'`;
    const [second, third] = await Promise.all([idsOf(two, "inst_two"), idsOf(one, "inst_three")]);
    // Each is one's, and stays so.
    expect([...second!, ...third!].toSorted()).toEqual(ids);
    expect(await idsOf(two, "inst_two")).toEqual(second!);
    expect(await idsOf(one, "inst_three")).toEqual(third!);
    expect(await idsOf(one, "inst_one")).toEqual([]);
    expect([second!.length, third!.length]).toContain(ids.length);
  });
});
