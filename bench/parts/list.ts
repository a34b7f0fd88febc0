/** A page of conversations and a search, at 1,000 conversations and at 1,000,000: what growth costs. */
import { join } from "node:path";
import type { Bench, Part } from "../support/bench.ts";
import { commonPrefix, commonWord, oldWord, rareWord, userId } from "../support/filled.ts";
import type { Server } from "../support/processes.ts";
import { burst } from "../support/reply-shape.ts";
import { milliseconds, type Row } from "../support/table.ts";

const few = 1000;
/** How far into the list the deep page lies, where the list is that long. */
const deepest = 100_000;
const requests = 200;
const secondsMax = 10;

const searches = {
  "search, a rare word": rareWord,
  "search, a word of every third": commonWord,
  "search, its prefix": commonPrefix,
  "search, a word of the oldest 2%": oldWord,
  "search, two words": `${commonWord} ${rareWord}`,
  "search, a word of none": "xyzzy",
};

export const list: Part = {
  name: "list",
  async run(bench: Bench): Promise<Row[]> {
    const many = bench.options.few ? 100_000 : 1_000_000;
    const atFew = await medians(bench, few);
    const atMany = await medians(bench, many);
    return Object.entries(atMany).map(([name, ms]) => ({
      name: `${name}, at ${many.toLocaleString("en")}`,
      figure: milliseconds(ms),
      beside: `${milliseconds(atFew[name]!)} at ${few.toLocaleString("en")}`,
      ratio: ms / atFew[name]!,
    }));
  },
};

const path = (query: Record<string, string>): string =>
  `/v1/conversations?${new URLSearchParams({ user_id: userId, limit: "20", ...query })}`;

/** The cursor that so many conversations lie before. */
async function cursorAt({ port }: Server, depth: number): Promise<string> {
  let after: string | null = null;
  for (let seen = 0; seen < depth; seen += 100) {
    const query = path({ limit: "100", ...(after !== null && { after }) });
    const page = (await (await fetch(`http://127.0.0.1:${port}${query}`)).json()) as { next_after: string };
    after = page.next_after;
  }
  return after!;
}

/** Median latency in milliseconds of each kind of page. */
async function medians(bench: Bench, conversations: number): Promise<Record<string, number>> {
  const directory = bench.directory();
  const startedAt = performance.now();
  await bench.run("fill.ts", join(directory, "data"), String(conversations));
  bench.note(`${conversations} conversations in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  const service = await bench.service({ directory });
  const paths: Record<string, string> = {
    "page of 20, the first": path({}),
    "page of 20, deep": path({ after: await cursorAt(service, Math.min(deepest, conversations / 2)) }),
  };
  for (const [name, q] of Object.entries(searches)) paths[name] = path({ q });

  const figures: Record<string, number> = {};
  for (const [name, path] of Object.entries(paths)) {
    const { failed, whole } = await bench.load({
      port: service.port,
      method: "GET",
      path,
      answer: "json",
      reply: burst,
      clients: 1,
      startEveryMs: 0,
      requestsPerClient: requests,
      seconds: secondsMax,
      readEvery: 1,
    });
    if (failed > 0) throw new Error(`${name}: ${failed} answers failed`);
    figures[name] = whole.p50;
  }
  await bench.stop(service);
  return figures;
}
