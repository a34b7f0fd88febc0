/**
 * No message falls between summary and window, and no step costs more because a conversation is long: the background
 * work on a real store, with a model that writes summaries, fails, is slow, or isn't there.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { buildContext } from "../../src/chat/context.ts";
import { SystemPrompt } from "../../src/chat/prompt.ts";
import { newId } from "../../src/ids.ts";
import { Folding, type Urgency, unfoldedMax } from "../../src/memory/folding.ts";
import { summariseByModel } from "../../src/memory/summary.ts";
import { countTokens } from "../../src/models/tokens.ts";
import type { ConversationContext } from "../../src/storage/memory-store.ts";
import { openWorkbench, type Workbench } from "../support/background.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { testMsMax, until } from "../support/service.ts";
import { seededRandom } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

/** Conversations that are tried. */
const runs = Number(process.env.PARLEY_TEST_FOLDS ?? 3);
const ada = { workspace_id: "default", user_id: "ada" };
const anySeq = Number.MAX_SAFE_INTEGER;

/** One whose scripts are all used, and one that is left with some. */
let model: ModelServer;
let moody: ModelServer;
beforeAll(() => {
  model = startModelServer();
  moody = startModelServer();
});
afterAll(() => Promise.all([model.close(), moody.close()]));

const foldingOn = ({ store, claims, log, limits, modelOf }: Workbench, server: ModelServer | null): Folding =>
  new Folding({
    store,
    claims,
    log,
    limits,
    summarising: server && summariseByModel(modelOf(server), null),
  });

const stateOf = (
  { store, limits }: Workbench,
  id: string,
  tokens = limits.windowTokens,
): Promise<ConversationContext> => store.conversationContext(ada, id, anySeq, tokens);

/** What the next turn would ask for. */
async function urgencyOf({ store, log, limits }: Workbench, id: string, seq: number, message_tokens: number) {
  const turn = {
    workspace_id: "default",
    user_id: "ada",
    conversation_id: id,
    seq,
    message: "?",
    message_tokens,
    use_memory: false,
    collections: [],
  };
  const services = { store, log, limits, systemPrompt: new SystemPrompt(""), questions: null };
  return (await buildContext(turn, services)).fold;
}

describe("whatever the lengths of messages, the model and restarts", () => {
  test(
    "each message is in the window, in the summary, or in what is between them",
    async () => {
      const random = seededRandom();
      const below = (count: number): number => Math.floor(random() * count);
      for (let run = 0; run < runs; run++) {
        await using bench = await openWorkbench({ windowTokens: 200 + below(600), summaryTokens: 60 });
        const server = run % 3 === 2 ? null : moody;
        let folding = foldingOn(bench, server);
        let conversation_id: string | null = null;
        const turns = 15 + below(45);
        const tiny = run % 2 === 0;
        for (let turn = 0; turn < turns; turn++) {
          const seq = 2 * turn + 1;
          // Mostly small, now and then nearly a window or more.
          const tokensOf = () => (random() < 0.07 ? below(1_000) : below(tiny ? 5 : 60));
          const said = { message: `q${seq} ${"word ".repeat(below(20))}`, tokens: tokensOf() };
          if (conversation_id !== null) {
            const budget = bench.limits.windowTokens - said.tokens;
            const { summary, window, between } = await bench.store.conversationContext(
              ada,
              conversation_id,
              seq,
              budget,
            );
            const held = [...between, ...window].map(({ seq }) => seq);
            const covered = Array.from({ length: summary.through_seq }, (_, index) => index + 1);
            expect([...covered, ...held]).toEqual(Array.from({ length: seq - 1 }, (_, index) => index + 1));
            // It ends with a whole turn, and never with the newest.
            expect(summary.through_seq % 2).toBe(0);
            expect(summary.through_seq).toBeLessThanOrEqual(Math.max(0, seq - 3));
            expect(held.length).toBeLessThanOrEqual(2 * unfoldedMax(bench.limits));
            const fold: Urgency | null = await urgencyOf(bench, conversation_id, seq, said.tokens);
            if (fold !== null) {
              const way = random();
              if (way < 0.25) moody.summary.status(500);
              else if (way < 0.35) moody.summary.silence();
              else if (way < 0.45) moody.summary.reply([""]);
              folding.fold(ada, conversation_id, fold);
            }
          }
          ({ conversation_id } = await bench.turn(
            "ada",
            said,
            { message: `a${seq + 1}`, tokens: tokensOf() },
            { conversation_id },
          ));
          // Some turns come at once, others after a while.
          if (random() < 0.3) await Bun.sleep(below(20));
          if (random() < 0.05) {
            await folding.close();
            await bench.reopen();
            folding = foldingOn(bench, server);
          }
        }
        await folding.close();
      }
    },
    runs * testMsMax,
  );
});

/** A conversation as it was before summaries existed, written past the store. */
async function longConversation(bench: Workbench, messages: number, tokens = 20): Promise<string> {
  const { conversation_id } = await bench.turn("ada", { message: "q1", tokens }, { message: "a2", tokens });
  using db = new Database(join(bench.dataDir, "parley.db"), { strict: true });
  const insert = db.query(
    `insert into messages (id, conversation_n, turn_id, seq, role, content, status, tokens, created_at)
     select $id, n, 'turn_old', $seq, $role, $content, 'completed', $tokens, created_at from conversations where id = $conversation_id`,
  );
  db.transaction(() => {
    for (let seq = 3; seq <= messages; seq++) {
      const role = seq % 2 === 1 ? "user" : "assistant";
      insert.run({
        id: newId("message"),
        seq,
        role,
        content: `${role[0]}${seq} says something.`,
        tokens,
        conversation_id,
      });
    }
    db.run("update conversations set message_count = ? where id = ?", [messages, conversation_id]);
  })();
  return conversation_id;
}

describe("a conversation of 10,000 messages that has no summary", () => {
  test("is folded in steps of bounded size, without asking the model, and then costs what a short one does", async () => {
    await using bench = await openWorkbench();
    const id = await longConversation(bench, 10_000);
    const asked = model.summary.requests.length;
    const folding = foldingOn(bench, model);
    expect(await urgencyOf(bench, id, 10_001, 10)).toBe("now");
    folding.fold(ada, id, "now");
    await until("all is folded", async () => (await urgencyOf(bench, id, 10_001, 10)) === null, 25_000);
    await folding.close();
    const steps = bench.logged.filter(({ event }) => event === "folded");
    expect(steps.every(({ messages }) => Number(messages) <= 64)).toBe(true);
    const { summary, window, between } = await stateOf(bench, id);
    expect(steps.reduce((sum, { messages }) => sum + Number(messages), 0)).toBe(summary.through_seq);
    expect(between).toEqual([]);
    expect(window.length).toBeLessThanOrEqual(unfoldedMax(bench.limits));
    expect(summary.through_seq + window.length).toBe(10_000);
    expect(summary.tokens).toBeLessThanOrEqual(bench.limits.summaryTokens);
    // The digest has the beginning, and the newest of what is covered.
    expect(summary.text).toStartWith("user: q1\n");
    expect(summary.text).toContain(`says something.`);
    expect(summary.text.split("\n").at(-1)).toBe(`assistant: a${summary.through_seq} says something.`);
    expect(model.summary.requests.length).toBe(asked);
  });
});

describe("a summary", () => {
  /** Turns of 20 tokens a message until a fold is due. */
  async function filled(bench: Workbench): Promise<{ id: string; turns: number }> {
    let id: string | null = null;
    for (let turn = 0; ; turn++) {
      ({ conversation_id: id } = await bench.turn(
        "ada",
        { message: `q${turn}`, tokens: 20 },
        { message: `a${turn}`, tokens: 20 },
        { conversation_id: id },
      ));
      if ((await urgencyOf(bench, id, 2 * turn + 3, 1)) !== null) return { id, turns: turn + 1 };
    }
  }

  test("is written on when a window is three quarters full, and leaves half a window", async () => {
    await using bench = await openWorkbench({ windowTokens: 400 });
    const { id, turns } = await filled(bench);
    // 24 tokens a message in the prompt.
    expect(turns).toBe(7);
    const folding = foldingOn(bench, null);
    folding.fold(ada, id, "soon");
    await until("it is folded", async () => (await stateOf(bench, id)).summary.through_seq > 0);
    await folding.close();
    const { summary, window } = await stateOf(bench, id);
    expect(window.length).toBe(10);
    expect(summary).toEqual({
      text: "user: q0\nassistant: a0\nuser: q1\nassistant: a1",
      tokens: countTokens("user: q0\nassistant: a0\nuser: q1\nassistant: a1"),
      through_seq: 4,
    });
  });

  test("is also written on where messages are many, however short they are", async () => {
    await using bench = await openWorkbench();
    const id = await longConversation(bench, unfoldedMax(bench.limits), 1);
    const next = unfoldedMax(bench.limits) + 1;
    expect(await urgencyOf(bench, id, next, 1)).toBeNull();
    await bench.turn(
      "ada",
      { message: "q", tokens: 1 },
      { message: "a", tokens: 1 },
      { conversation_id: id },
    );
    expect(await urgencyOf(bench, id, next + 2, 1)).toBe("soon");
    const folding = foldingOn(bench, null);
    folding.fold(ada, id, "soon");
    await until(
      "it is folded",
      async () => (await stateOf(bench, id)).window.length <= unfoldedMax(bench.limits) / 2,
    );
    await folding.close();
  });

  test("never covers a turn that runs, nor the newest one", async () => {
    await using bench = await openWorkbench({ windowTokens: 30, summaryTokens: 60 });
    const folding = foldingOn(bench, null);
    const { conversation_id } = await bench.turn(
      "ada",
      { message: "q", tokens: 90 },
      { message: "a", tokens: 90 },
    );
    folding.fold(ada, conversation_id, "now");
    await bench.turn("ada", { message: "q", tokens: 90 }, { message: "a", tokens: 90 }, { conversation_id });
    folding.fold(ada, conversation_id, "now");
    await until(
      "the first is folded",
      async () => (await stateOf(bench, conversation_id)).summary.through_seq === 2,
    );
    await bench.store.startTurn(
      { workspace_id: "default", user_id: "ada" },
      {
        turn_id: newId("turn"),
        user_message_id: newId("message"),
        message_id: newId("message"),
        conversation_id,
        new_conversation_id: newId("conversation"),
        user_id: "ada",
        message: "runs",
        message_tokens: 90,
        model: "m",
        title: "t",
        metadata: null,
        instance_id: "i",
        lease_seconds: 60,
        use_memory: true,
        idempotency: null,
        key_id: "key_test",
        reservation: null,
        slots: [],
        now_ms: Date.now(),
      },
    );
    folding.fold(ada, conversation_id, "now");
    await until(
      "the second is folded",
      async () => (await stateOf(bench, conversation_id)).summary.through_seq === 4,
    );
    folding.fold(ada, conversation_id, "now");
    await folding.close();
    expect((await stateOf(bench, conversation_id)).summary.through_seq).toBe(4);
  });

  test("that the model takes too long for is left to a digest once it can't wait any more", async () => {
    await using bench = await openWorkbench({ windowTokens: 400 });
    const { id } = await filled(bench);
    const held = model.summary.hold();
    const folding = foldingOn(bench, model);
    folding.fold(ada, id, "soon");
    const { closed } = await held.request;
    // The one that is under way does, until it is urgent.
    folding.fold(ada, id, "soon");
    expect((await stateOf(bench, id)).summary.through_seq).toBe(0);
    folding.fold(ada, id, "now");
    await closed;
    await until("it is folded", async () => (await stateOf(bench, id)).summary.through_seq > 0);
    expect((await stateOf(bench, id)).summary.text).toStartWith("user: q0\nassistant: a0\n");
    await folding.close();
  });

  test("is replaced only where it is still the one that was written on", async () => {
    await using bench = await openWorkbench({ windowTokens: 400 });
    const { id } = await filled(bench);
    const held = model.summary.hold();
    const folding = foldingOn(bench, model);
    folding.fold(ada, id, "soon");
    await held.request;
    const other = { text: "by another instance", tokens: 3, through_seq: 2 };
    expect(await bench.store.replaceSummary(ada, id, 0, other)).toBe(true);
    expect(await bench.store.replaceSummary(ada, id, 0, { ...other, text: "too late" })).toBe(false);
    held.send("Too late as well.");
    held.finish();
    // Another begins when the first has ended, and goes on from what is there.
    const asked = model.summary.requests.length;
    await until("it is asked again", () => {
      folding.fold(ada, id, "soon");
      return model.summary.requests.length > asked;
    });
    expect(String(model.summary.requests.at(-1)!.body.messages[1]!.content)).toContain(
      "> by another instance",
    );
    await until("it is folded", async () => (await stateOf(bench, id)).summary.text === "A summary.");
    await folding.close();
  });
});
