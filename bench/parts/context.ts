/**
 * What a turn costs before the model is asked: building its context in the real store, at conversations of 10 to
 * 10,000 messages and documents of 100 to 100,000 passages, alone and with 32 turns at once.
 */
import { join } from "node:path";
import { buildContext } from "../../src/chat/context.ts";
import { SystemPrompt } from "../../src/chat/prompt.ts";
import { loadConfig } from "../../src/config.ts";
import { openSqliteStore } from "../../src/storage/sqlite/store.ts";
import type { Bench, Part } from "../support/bench.ts";
import { userId } from "../support/filled.ts";
import { sentence } from "../support/sentence.ts";
import { quantiles } from "../support/statistics.ts";
import { milliseconds, type Row } from "../support/table.ts";

const turns = 300;
const atOnce = 32;
const messageCounts = [10, 1_000, 10_000];
const passageCounts = [100, 100_000];
/** The issue's own limit for growth with the conversation. */
const growthMax = 1.5;

interface Figures {
  p50: number;
  p99: number;
  loadedP99: number;
}

export const context: Part = {
  name: "context",
  async run(bench: Bench): Promise<Row[]> {
    const rows: Row[] = [];
    for (const passages of passageCounts) {
      const [base, ...others] = messageCounts;
      const reference = await figuresAt(bench, base!, passages);
      const name = (messages: number): string =>
        `context of a turn, ${messages.toLocaleString("en")} messages, ${passages.toLocaleString("en")} passages`;
      rows.push({ name: name(base!), figure: figureOf(reference) });
      for (const messages of others) {
        const figures = await figuresAt(bench, messages, passages);
        rows.push({
          name: name(messages),
          figure: figureOf(figures),
          beside: `${milliseconds(reference.p50)} at ${base}`,
          ratio: figures.p50 / reference.p50,
          ratioMax: growthMax,
        });
      }
    }
    return rows;
  },
};

const figureOf = ({ p50, p99, loadedP99 }: Figures): string =>
  `${milliseconds(p50)}, p99 ${milliseconds(p99)}; p99 with ${atOnce} at once ${milliseconds(loadedP99)}`;

async function figuresAt(bench: Bench, messages: number, passages: number): Promise<Figures> {
  const dataDir = join(bench.directory(), "data");
  const conversation_id = await bench.run("fill-context.ts", dataDir, String(messages), String(passages));
  const store = await openSqliteStore(dataDir);
  const quiet = { info() {}, warn() {}, error() {} };
  const { limits } = loadConfig({});
  const services = {
    store,
    log: quiet,
    systemPrompt: new SystemPrompt("You are helpful."),
    limits,
    questions: null,
  };
  const build = async (index: number): Promise<number> => {
    const startedAt = performance.now();
    await buildContext(
      {
        workspace_id: "default",
        user_id: userId,
        conversation_id,
        seq: messages + 1,
        message: `${sentence(1_000_000 + index, 12)}?`,
        message_tokens: 40,
        use_memory: true,
        collections: null,
      },
      services,
    );
    return performance.now() - startedAt;
  };
  const alone: number[] = [];
  for (let index = 0; index < turns; index++) {
    const ms = await build(index);
    if (index >= turns / 3) alone.push(ms);
  }
  const loaded: number[] = [];
  const work = async (worker: number): Promise<void> => {
    for (let index = 0; index < turns / 10; index++) loaded.push(await build(worker * turns + index));
  };
  await Promise.all(Array.from({ length: atOnce }, (_, worker) => work(worker)));
  await store.close();
  return { ...quantiles(alone), loadedP99: quantiles(loaded).p99 };
}
