/** The rolling summary, as the model gets to see it over whole conversations. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { countTokens } from "../../src/models/tokens.ts";
import type { Receipt } from "../../src/storage/store.ts";
import { summaryOf, toRemember } from "../support/memories.ts";
import { type ModelServer, type RecordedRequest, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testModel, testMsMax, until } from "../support/service.ts";
import { wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const windowTokens = 200;
const env = {
  PARLEY_WINDOW_TOKENS: String(windowTokens),
  PARLEY_SUMMARY_TOKENS: "80",
  PARLEY_MEMORY_MODEL: testModel,
};

let model: ModelServer;
let service: Service;
beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model, env });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const contentOf = ({ body }: RecordedRequest, index: number): string => String(body.messages[index]?.content);
/** What the model was given to summarise. */
const materialOf = (request: RecordedRequest): string => contentOf(request, 1);
/** What stood before the messages in the last prompt. */
const systemOf = (): string => contentOf(model.requests.at(-1)!, 0);
const windowOf = (): string[] =>
  model.requests
    .at(-1)!
    .body.messages.slice(1)
    .map(({ content }) => String(content));

/** Each message begins with its own word. */
const filler = "and so on and so forth, as people talk when they have time";
const question = (turn: number): string => `question${turn} ${filler}`;
const reply = (turn: number): string => `reply${turn} ${filler}`;

interface Going {
  from?: number;
  conversation_id?: string;
  on?: Service;
  body?: object;
  /** False: a summary that is due isn't waited for. */
  settled?: boolean;
}

/** So many turns; after each, what it left to be summarised has been. */
async function go(
  turns: number,
  { from = 0, conversation_id, on = service, body = {}, settled = true }: Going = {},
) {
  let id = conversation_id;
  for (let turn = from; turn < from + turns; turn++) {
    const covered = id === undefined ? 0 : summaryOf(on, id).through_seq;
    const chat = await wholeTurn(on, model, [reply(turn)], {
      message: question(turn),
      ...(id !== undefined && { conversation_id: id }),
      ...body,
    });
    id = chat.conversation_id;
    const { body: receipt } = await on.get<Receipt>(`/v1/turns/${chat.turn_id}/receipt`);
    if (settled && receipt.tokens.window > windowTokens * 0.75) await untilFolded(id, covered, on);
  }
  return id!;
}

const untilFolded = (id: string, beyond: number, on = service): Promise<void> =>
  until("the conversation is folded", () => summaryOf(on, id).through_seq > beyond);

describe("a conversation that outgrows its window", () => {
  test("is summarised by the model, from the messages that leave and the summary before", async () => {
    const before = model.summary.requests.length;
    model.summary.reply(["<think>hm</think>They began with ZERO.\n", "Then came more."]);
    const id = await go(5);
    const first = summaryOf(service, id);
    expect(first).toEqual({
      text: "They began with ZERO.\nThen came more.",
      tokens: countTokens("They began with ZERO.\nThen came more."),
      through_seq: first.through_seq,
    });
    const [request, ...more] = model.summary.requests.slice(before);
    expect(more).toEqual([]);
    expect(request!.body).toMatchObject({ model: testModel, stream: true });
    expect("response_format" in request!.body).toBe(false);
    const today = new Date().toISOString().slice(0, 10);
    expect(materialOf(request!)).toStartWith(
      `The summary so far:\nnothing\n\nWhat was said next:\n${today}, user:\n> ${question(0)}\n${today}, assistant:\n> ${reply(0)}\n`,
    );
    expect(materialOf(request!)).toEndWith("Write at most 48 words.");

    // The prompt holds the summary in the place of what it covers, and the receipt tells what it takes.
    const chat = await wholeTurn(service, model, [reply(5)], { message: question(5), conversation_id: id });
    expect(systemOf()).toContain(
      "# Summary of this conversation's beginning\n> They began with ZERO.\n> Then came more.",
    );
    const said = Array.from({ length: 5 }, (_, turn) => [question(turn), reply(turn)]).flat();
    expect(windowOf()).toEqual([...said.slice(first.through_seq), question(5)]);
    const { body: receipt } = await service.get<Receipt>(`/v1/turns/${chat.turn_id}/receipt`);
    expect(receipt.tokens.summary).toBeGreaterThan(first.tokens);
    expect(receipt.tokens.summary).toBeLessThan(first.tokens + 20);

    // The next summary goes on from it, each message given once.
    for (let turn = 6; model.summary.requests.length < before + 2; turn++) {
      await go(1, { from: turn, conversation_id: id });
    }
    expect(materialOf(model.summary.requests.at(-1)!)).toStartWith(
      "The summary so far:\n> They began with ZERO.\n> Then came more.\n\nWhat was said next:\n",
    );
    const given = (index: number): string[] =>
      materialOf(model.summary.requests[before + index]!).match(/(?:question|reply)\d+/g) ?? [];
    expect([...given(0), ...given(1)]).toEqual(
      Array.from({ length: summaryOf(service, id).through_seq / 2 }, (_, turn) => [
        `question${turn}`,
        `reply${turn}`,
      ]).flat(),
    );
  });

  test("shrinks in steps: about half a window stays, and most turns ask for no summary", async () => {
    const before = model.summary.requests.length;
    let id: string | undefined;
    const sizes: number[] = [];
    for (let turn = 0; turn < 24; turn++) {
      id = await go(1, { from: turn, ...(id !== undefined && { conversation_id: id }) });
      sizes.push(windowOf().length);
    }
    expect(Math.max(...sizes)).toBeLessThan(12);
    expect(Math.min(...sizes.slice(5))).toBeGreaterThan(4);
    expect(model.summary.requests.length - before).toBeGreaterThan(2);
    expect(model.summary.requests.length - before).toBeLessThan(12);
  });

  test("has turns in its summary that were not to be remembered: it is the same conversation", async () => {
    const before = model.summary.requests.length;
    await go(5, { body: { user_id: "private", use_memory: false } });
    expect(materialOf(model.summary.requests[before]!)).toContain("> question0");
    expect(toRemember(service)).toEqual([]);
  });

  test("is summarised within its budget, however much the model writes", async () => {
    model.summary.reply([`${"A line of the summary.\n".repeat(100)}`]);
    const id = await go(5);
    const { text, tokens } = summaryOf(service, id);
    expect(tokens).toBeLessThanOrEqual(80);
    expect(text).toMatch(/^(A line of the summary\.\n?)+$/);
  });
});

describe("a summariser", () => {
  test("that fails is stood in for by a digest, and no turn fails", async () => {
    model.summary.status(400);
    const id = await go(5);
    expect(summaryOf(service, id).text).toStartWith(`user: ${question(0)}\nassistant: ${reply(0)}`);
    await wholeTurn(service, model, ["Well."], { message: "And now?", conversation_id: id });
    expect(systemOf()).toContain(`> user: ${question(0)}\n> assistant: ${reply(0)}`);
  });

  test("that never answers delays no turn, and what it was to cover stays in the prompt", async () => {
    const held = model.summary.hold();
    const id = await go(5, { settled: false });
    const { closed } = await held.request;
    let closedBy = 0;
    let turns = 5;
    void closed.then(() => {
      closedBy = turns;
    });
    for (; closedBy === 0 && turns < 60; turns++) {
      await go(1, { from: turns, conversation_id: id, settled: false });
      if (summaryOf(service, id).through_seq > 0) break;
      // What fits is in the window; before it is told how it all began.
      expect(windowOf().at(-1)).toBe(question(turns));
      expect(windowOf().length).toBeLessThan(20);
      if (turns > 7) expect(systemOf()).toContain(`> user: ${question(0)}\n> assistant: ${reply(0)}`);
    }
    // With so much out of the window, the model isn't waited for any more.
    await closed;
    expect(turns).toBeGreaterThan(15);
    await untilFolded(id, 0);
    expect(summaryOf(service, id).text).toStartWith(`user: ${question(0)}\nassistant: ${reply(0)}`);
  });

  test("doesn't hold up the end of the service", async () => {
    await using stopped = await startService({ model, env });
    const held = model.summary.hold();
    const id = await go(5, { on: stopped, settled: false });
    const { closed } = await held.request;
    expect(await stopped.stop()).toBe(0);
    await closed;
    expect(summaryOf(stopped, id).through_seq).toBe(0);
    // The next turn of the next process asks again.
    await stopped.restart();
    await go(1, { from: 5, conversation_id: id, on: stopped });
    expect(summaryOf(stopped, id).text).toBe("A summary.");
  });
});

test("without a language model the summary is a digest, made without a request", async () => {
  await using offline = await startService({ model, env: { ...env, PARLEY_MEMORY_MODEL: "embedded" } });
  const before = model.summary.requests.length;
  const id = await go(5, { on: offline });
  expect(summaryOf(offline, id).text).toStartWith(`user: ${question(0)}\nassistant: ${reply(0)}`);
  expect(model.summary.requests.length).toBe(before);
});
