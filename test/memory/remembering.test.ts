/** The background work of remembering on a real store: order, bounds, retries, and giving up. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { BackgroundMemory } from "../../src/memory/background.ts";
import { drawByModel, drawByPatterns } from "../../src/memory/drawing.ts";
import type { RememberingOptions } from "../../src/memory/remembering.ts";
import { write } from "../../src/memory/writing.ts";
import { ModelFailure } from "../../src/models/model.ts";
import { openWorkbench, type StoredTurn, type Workbench } from "../support/background.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
beforeAll(() => {
  model = startModelServer();
});
afterAll(() => model.close());

const scope = (user_id: string) => ({ workspace_id: "default", user_id });

/** The background work of a service whose model is the scripted one, or that has none. */
function memoryOn(
  bench: Workbench,
  server: ModelServer | null,
  options: RememberingOptions = {},
): BackgroundMemory {
  const { store, claims, log, limits, modelOf } = bench;
  const drawing = server === null ? drawByPatterns : drawByModel(modelOf(server), null, limits.memoryTokens);
  return new BackgroundMemory(true, { store, claims, log, limits, drawing, summarising: null }, options);
}

const said = (message: string) => ({ message, tokens: 5 });
const turnOf = (
  bench: Workbench,
  user_id: string,
  message: string,
  now_ms = Date.now(),
): Promise<StoredTurn> => bench.turn(user_id, said(message), said("Noted."), { to_remember: true, now_ms });

const untilDone = ({ store, instanceId }: Workbench): Promise<void> =>
  until("all is remembered", async () => (await store.turnsToRemember(instanceId, 1)).length === 0);

const textsOf = async ({ store }: Workbench, user_id: string): Promise<string[]> =>
  (await store.heldMemories(scope(user_id))).map(({ text }) => text).reverse();

const answer = (...texts: string[]): string => JSON.stringify({ memories: texts.map((text) => ({ text })) });

describe("turns that wait in the store", () => {
  test("are all drawn from in the end, however many there are, oldest first for each user", async () => {
    await using bench = await openWorkbench();
    for (let turn = 0; turn < 15; turn++) {
      await turnOf(bench, `user ${turn % 2}`, `I live in ${"ABCDEFGHIJKLMNO"[turn]}town.`);
    }
    const memory = memoryOn(bench, null, { waitingMax: 4 });
    memory.start();
    await untilDone(bench);
    await memory.close();
    expect(await textsOf(bench, "user 0")).toEqual(["The user lives in Otown."]);
    expect(await textsOf(bench, "user 1")).toEqual(["The user lives in Ntown."]);
  });

  test("are looked for again and again, so that a full queue loses none", async () => {
    await using bench = await openWorkbench();
    const memory = memoryOn(bench, null, { scanMs: 20 });
    memory.start();
    await turnOf(bench, "ada", "My name is Ada.");
    await untilDone(bench);
    await memory.close();
    expect(await textsOf(bench, "ada")).toEqual(["The user's name is Ada."]);
  });

  test("carry the time at which they were said", async () => {
    await using bench = await openWorkbench();
    await turnOf(bench, "ada", "My name is Ada.", 1_700_000_000_000);
    const memory = memoryOn(bench, null);
    memory.start();
    await untilDone(bench);
    await memory.close();
    expect((await bench.store.heldMemories(scope("ada")))[0]!.created_at).toBe(1_700_000_000);
  });

  test("don't supersede what was said after them", async () => {
    await using bench = await openWorkbench();
    const late = await turnOf(bench, "ada", "I live in Zurich. I like tea.", 1_700_000_000_000);
    const early = await turnOf(bench, "ada", "I live in Bern.", 1_700_000_900_000);
    const memory = memoryOn(bench, null);
    const ended = (turn: StoredTurn, message: string) => ({
      ...scope("ada"),
      ...turn,
      message,
      to_remember: true,
      fold: null,
    });
    memory.turnEnded(ended(early, "I live in Bern."));
    memory.turnEnded(ended(late, "I live in Zurich. I like tea."));
    await untilDone(bench);
    await memory.close();
    expect(await textsOf(bench, "ada")).toEqual(["The user lives in Bern.", "The user likes tea."]);
  });

  test("of a conversation that was deleted are forgotten with it", async () => {
    await using bench = await openWorkbench();
    const { conversation_id } = await turnOf(bench, "ada", "My name is Ada.");
    const held = model.memory.hold();
    const memory = memoryOn(bench, model);
    memory.start();
    await held.request;
    await bench.store.deleteConversation(scope("ada"), conversation_id);
    held.send(answer("The user's name is Ada."));
    held.finish();
    await until("it is drawn", () => bench.logged.some(({ event }) => event === "remembered"));
    await memory.close();
    expect(await textsOf(bench, "ada")).toEqual([]);
  });
});

describe("a drawing that fails", () => {
  test("is tried again a few times, then nothing is remembered of the turn, and the next one isn't kept from it", async () => {
    await using bench = await openWorkbench({ modelFirstByteSeconds: 0.2 });
    const before = model.memory.requests.length;
    await turnOf(bench, "ada", "My name is Ada.");
    await turnOf(bench, "ada", "I live in Bern.");
    model.memory.reply(["The user's name is Ada, I think."]);
    // The second turn comes before the first one's next try.
    model.memory.reply([answer("The user lives in Bern.")]);
    model.memory.silence();
    model.memory.status(400, { body: { error: { code: "content_filter" } } });
    const memory = memoryOn(bench, model, { retryAfterMs: [5, 5] });
    memory.start();
    await untilDone(bench);
    await memory.close();
    expect(await textsOf(bench, "ada")).toEqual(["The user lives in Bern."]);
    const failed = bench.logged.filter(
      ({ attempt, turn_id }) => attempt !== undefined && turn_id !== undefined,
    );
    expect(failed.map(({ attempt, code }) => [attempt, code])).toEqual([
      [1, "model_bad_response"],
      [2, "model_timeout"],
      [3, "model_rejected"],
    ]);
    expect(model.memory.requests.length - before).toBe(4);
    expect(JSON.stringify(bench.logged)).not.toContain("Ada");
  });

  test("of a user who is erased is not tried again, nor is what of theirs still waits", async () => {
    await using bench = await openWorkbench();
    for (const message of ["My name is Ada.", "I live in Bern."]) await turnOf(bench, "ada", message);
    const held = model.memory.hold();
    const before = model.memory.requests.length;
    const memory = memoryOn(bench, model, { retryAfterMs: [1] });
    memory.start();
    await held.request;
    await bench.store.cutOffUser(scope("ada"));
    memory.forget(scope("ada"));
    held.send("The user's name is Ada, I think.");
    held.finish();
    await until("the drawing has failed", () => bench.logged.some(({ attempt }) => attempt === 1));
    // Somebody else's turn comes after all that was there to do.
    await turnOf(bench, "ben", "My name is Ben.");
    model.memory.reply([answer("The user's name is Ben.")]);
    const [last] = await bench.store.turnsToRemember(bench.instanceId, 1);
    memory.turnEnded({ ...last!, conversation_id: "", to_remember: true, fold: null });
    await until("it is remembered", () => bench.logged.some(({ event }) => event === "remembered"));
    await Bun.sleep(50);
    await memory.close();
    const asked = model.memory.requests.slice(before).map(({ body }) => body.messages.at(-1)!.content);
    expect(asked.map((content) => String(content).split("\n> ")[1])).toEqual([
      "My name is Ada.",
      "My name is Ben.",
    ]);
    expect(await textsOf(bench, "ada")).toEqual([]);
  });

  test("may succeed at last", async () => {
    await using bench = await openWorkbench();
    await turnOf(bench, "ada", "My name is Ada.");
    model.memory.reply(["no"]);
    model.memory.reply(["{"]);
    model.memory.reply([answer("The user's name is Ada.")]);
    const memory = memoryOn(bench, model, { retryAfterMs: [5, 5] });
    memory.start();
    await untilDone(bench);
    await memory.close();
    expect(await textsOf(bench, "ada")).toEqual(["The user's name is Ada."]);
  });

  test("because of the store is tried again until it takes it, and the model isn't asked in vain", async () => {
    await using bench = await openWorkbench();
    await turnOf(bench, "ada", "My name is Ada.");
    using db = new Database(join(bench.dataDir, "parley.db"));
    db.run("pragma busy_timeout = 5000");
    db.run("create trigger refuse before insert on memories begin select raise(abort, 'refused'); end");
    db.run("create trigger broken before update on settings begin select raise(abort, 'broken'); end");
    db.run("create trigger broken_too before insert on settings begin select raise(abort, 'broken'); end");
    const before = model.memory.requests.length;
    model.memory.reply([answer("The user's name is Ada.")]);
    model.memory.reply([answer("The user's name is Ada.")]);
    const memory = memoryOn(bench, model, { scanMs: 10, retryAfterMs: [] });
    memory.start();
    const failures = () => bench.logged.filter(({ attempt }) => attempt !== undefined).length;
    await until("it was tried in vain", () => failures() > 3);
    expect(model.memory.requests.length - before).toBe(1);
    for (const trigger of ["refuse", "broken", "broken_too"]) db.run(`drop trigger ${trigger}`);
    await untilDone(bench);
    await memory.close();
    expect(await textsOf(bench, "ada")).toEqual(["The user's name is Ada."]);
    expect(model.memory.requests.length - before).toBe(2);
  });

  test("that waits for its next try is left to the next process", async () => {
    await using bench = await openWorkbench();
    await turnOf(bench, "ada", "My name is Ada.");
    model.memory.reply(["no"]);
    const memory = memoryOn(bench, model, { retryAfterMs: [1_000_000] });
    memory.start();
    await until("it has failed", () =>
      bench.logged.some(({ attempt, turn_id }) => attempt === 1 && turn_id !== undefined),
    );
    await memory.close();
    await bench.reopen();
    const next = memoryOn(bench, null);
    next.start();
    await untilDone(bench);
    await next.close();
    expect(await textsOf(bench, "ada")).toEqual(["The user's name is Ada."]);
  });
});

describe("what the model writes", () => {
  const task = { model: null, instructions: "Write.", material: "Now." };
  const never = new AbortController().signal;

  test("may take so long in all, however steadily it comes", async () => {
    await using bench = await openWorkbench();
    const held = model.hold();
    const writing = write(bench.modelOf(model), task, never, 0.3).catch((error: unknown) => error);
    const { closed } = await held.request;
    const trickling = setInterval(() => held.send("word "), 5);
    const failure = await writing;
    clearInterval(trickling);
    expect(failure).toBeInstanceOf(ModelFailure);
    expect((failure as ModelFailure).code).toBe("model_timeout");
    await closed;
  });

  test("may be so long, and is cut off there", async () => {
    await using bench = await openWorkbench();
    model.reply(Array.from({ length: 60 }, () => "x".repeat(1_000)));
    const failure = await write(bench.modelOf(model), task, never).catch((error: unknown) => error);
    expect((failure as ModelFailure).code).toBe("model_bad_response");
  });

  test("is dropped where the caller aborts, with the signal's reason", async () => {
    await using bench = await openWorkbench();
    const held = model.hold();
    const stop = new AbortController();
    const writing = write(bench.modelOf(model), task, stop.signal).catch((error: unknown) => error);
    const { closed } = await held.request;
    stop.abort("enough");
    expect(await writing).toBe("enough");
    await closed;
  });
});
