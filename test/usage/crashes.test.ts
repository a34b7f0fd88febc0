/**
 * The ledger through kill -9: its sums are those of the turns and of the conversations, whatever the process was doing.
 *
 * PARLEY_TEST_LEDGER_KILLS: how many kills, 4 if unset. TEST_SEED repeats a run as far as timing allows.
 */

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Turn } from "../../src/chat/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { startService, temporaryDirectory, testModel } from "../support/service.ts";
import { seededRandom } from "../support/turns.ts";
import { countedIn, sumOf, totalsIn, usageOf, writePrices } from "../support/usage.ts";

setDefaultTimeout(120_000);

const kills = Number(process.env.PARLEY_TEST_LEDGER_KILLS ?? 4);
const users = 16;

let model: ModelServer;
const directory = temporaryDirectory();

beforeAll(() => {
  model = startModelServer();
  model.default((all) =>
    all.reply(["Well, ", "what ", "can ", "I ", "say?"], {
      delayMs: 5,
      usage: { prompt_tokens: 50, completion_tokens: 5 },
    }),
  );
});
afterAll(async () => {
  await model.close();
  rmSync(directory, { recursive: true });
});

test("the sums are the turns' after any kill", async () => {
  const random = seededRandom();
  const prices = await writePrices(directory, { [testModel]: { prompt: 0.15, completion: 0.6 } });
  const env = {
    PARLEY_PRICES_FILE: prices,
    PARLEY_BUDGETS: "user 1000000 tokens/day, workspace 1000 usd/month",
  };
  await using service = await startService({ model, env });
  let ended = 0;
  for (let kill = 0; kill < kills; kill++) {
    let killed = false;
    const chats = Array.from({ length: users }, async (_, index) => {
      while (!killed) {
        await service
          .post("/v1/chat", { user_id: `user-${index}`, message: `Message ${index}` })
          .then(({ status }) => (ended += Number(status === 200)))
          .catch(() => {});
      }
    });
    // In the middle of everything: after some more turns have ended, however long that takes.
    const due = ended + users + Math.floor(random() * 40);
    while (ended < due) await Bun.sleep(1);
    await service.kill();
    killed = true;
    await Promise.all(chats);
    await service.restart();

    const { ledger, turns, conversations } = totalsIn(service.dataDir);
    expect(ledger).toEqual(turns);
    expect(ledger.total_tokens).toBe(conversations);
    const sum = await sumOf(service);
    expect(sum).toMatchObject({ ...turns, unpriced_turns: 0 });
    // By user, key and workspace.
    const counted = countedIn(service.dataDir);
    expect(counted).toEqual({
      used_tokens: 3 * turns.total_tokens,
      reserved_tokens: 0,
      reserved_nano_usd: 0,
    });
    const byUser = (await usageOf(service, "?group_by=user")).usage;
    expect(byUser.reduce((all, { turns }) => all + turns, 0)).toBe(turns.turns);
    // None is left running.
    const listed = await service.get<{ conversations: { active_turn_id: string | null }[] }>(
      "/v1/conversations?limit=100",
    );
    expect(listed.body.conversations.filter(({ active_turn_id }) => active_turn_id !== null)).toEqual([]);
  }
  const whole = await service.post<Turn & { usage: unknown }>("/v1/chat", { user_id: "ada", message: "Hi" });
  expect(whole.status).toBe(200);
  expect(ended).toBeGreaterThan(users);
});

test("turns from before there was a ledger are in it, also one that a process of that version left running", async () => {
  const dataDir = temporaryDirectory();
  const path = join(dataDir, "parley.db");
  copyFileSync(new URL("../fixtures/databases/v2.db", import.meta.url).pathname, path);
  const before = new Database(path);
  const { id, n, user_message_n } = before
    .query<{ id: string; n: number; user_message_n: number }, []>(
      `update turns set status = 'running', ended_at = null, total_tokens = 0, completion_tokens = 0
       where status = 'interrupted' returning id, n, user_message_n`,
    )
    .get()!;
  // What runs isn't to be found yet.
  before.query("delete from message_index where rowid in (?, ?)").run(n, user_message_n);
  const { tokens } = before
    .query<{ tokens: number }, []>("select sum(tokens_used) as tokens from conversations")
    .get()!;
  before.close();
  {
    await using service = await startService({ dataDir });
    const { ledger, turns } = totalsIn(dataDir);
    expect(ledger).toEqual(turns);
    const { body } = await service.get<Turn>(`/v1/turns/${id}`);
    expect([body.status, body.usage.total_tokens > 0]).toEqual(["interrupted", true]);
    expect(await sumOf(service)).toMatchObject(ledger);
    const byKey = (await usageOf(service, "?group_by=key")).usage;
    expect(byKey.map(({ group, turns }) => [group, turns])).toEqual([[null, turns.turns]]);
    // Of its user and workspace, because nobody knows its key.
    expect(countedIn(dataDir).used_tokens).toBe(2 * body.usage.total_tokens);
    expect(totalsIn(dataDir).conversations).toBe(tokens + body.usage.total_tokens);
  }
  rmSync(dataDir, { recursive: true });
});
