/**
 * What a turn costs before the model is asked: building its context in the real store, at conversations of 10 to
 * 10,000 messages and documents of 100 to 100,000 passages, alone and with 32 turns at once. The users have had earlier
 * conversations, of 1,000 messages in all, so that there is something to recall whatever the conversation's length.
 */
import { join } from "node:path";
import { buildContext } from "../../src/chat/context.ts";
import { SystemPrompt } from "../../src/chat/prompt.ts";
import { loadConfig } from "../../src/config.ts";
import { openSqliteStore } from "../../src/storage/sqlite/store.ts";
import type { Store } from "../../src/storage/store.ts";
import type { Bench, Part } from "../support/bench.ts";
import { userOf } from "../support/filled.ts";
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
      const dataDir = join(bench.directory(), "data");
      const filled = await bench.run(
        "fill-context.ts",
        dataDir,
        String(passages),
        ...messageCounts.map(String),
      );
      const conversations = filled.trim().split(" ");
      const store = await openSqliteStore(dataDir);
      const subjects = messageCounts.map((messages, index) =>
        builder(store, conversations[index]!, messages),
      );
      const figures = await figuresOf(subjects);
      const reference = figures[0]!;
      for (const [index, messages] of messageCounts.entries()) {
        rows.push({
          name: `context of a turn, ${messages.toLocaleString("en")} messages, ${passages.toLocaleString("en")} passages`,
          figure: figureOf(figures[index]!),
          ...(index > 0 && {
            beside: `${milliseconds(reference.p50)} at ${messageCounts[0]}`,
            ratio: figures[index]!.p50 / reference.p50,
            ratioMax: growthMax,
          }),
        });
      }
      await store.close();
    }
    return rows;
  },
};

const figureOf = ({ p50, p99, loadedP99 }: Figures): string =>
  `${milliseconds(p50)}, p99 ${milliseconds(p99)}; p99 with ${atOnce} at once ${milliseconds(loadedP99)}`;

/** Builds the context of one more turn; how long that took, in milliseconds. */
type Build = (index: number) => Promise<number>;

function builder(store: Store, conversation_id: string, messages: number): Build {
  const quiet = { info() {}, warn() {}, error() {} };
  const { limits } = loadConfig({});
  const services = {
    store,
    log: quiet,
    systemPrompt: new SystemPrompt("You are helpful."),
    limits,
    questions: null,
  };
  return async (index) => {
    const startedAt = performance.now();
    await buildContext(
      {
        workspace_id: "default",
        user_id: userOf(messages),
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
}

/** Alone in turn, so that what else the machine does falls on all alike; then each with many turns at once. */
async function figuresOf(builds: readonly Build[]): Promise<Figures[]> {
  const alone = builds.map((): number[] => []);
  for (let index = 0; index < turns; index++) {
    for (const [which, build] of builds.entries()) {
      const ms = await build(index);
      if (index >= turns / 3) alone[which]!.push(ms);
    }
  }
  const figures: Figures[] = [];
  for (const [which, build] of builds.entries()) {
    const loaded: number[] = [];
    const work = async (worker: number): Promise<void> => {
      for (let index = 0; index < turns / 10; index++) loaded.push(await build(worker * turns + index));
    };
    await Promise.all(Array.from({ length: atOnce }, (_, worker) => work(worker)));
    figures.push({ ...quantiles(alone[which]!), loadedP99: quantiles(loaded).p99 });
  }
  return figures;
}
