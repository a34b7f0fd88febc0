import { expect, test } from "bun:test";
import { join } from "node:path";

const root = new URL("../../..", import.meta.url).pathname;

test("the bench prints recall, nDCG and MRR of plain BM25 for documents and dialogues, all between 0 and 1", async () => {
  const bench = Bun.spawn([process.execPath, join(root, "bench/main.ts"), "retrieval"], { stderr: "pipe" });
  const table = await new Response(bench.stdout).text();
  expect(await bench.exited).toBe(0);
  const figures = [...table.matchAll(/^\| (\S.+?) +\| +\| ([\d.]+) plain BM25 /gm)].map(
    ([, name, figure]) => [name!, Number(figure)] as const,
  );
  const measures = ["recall@5", "recall@10", "nDCG@10", "MRR@10", "no result where nothing answers"];
  expect(figures.map(([name]) => name)).toEqual(
    ["documents", "dialogues"].flatMap((set) => measures.map((measure) => `${set}: ${measure}`)),
  );
  for (const [name, figure] of figures) expect(figure, name).toBeWithin(0, 1 + 1e-9);
  for (const [name, figure] of figures) if (name.includes("@")) expect(figure, name).toBeGreaterThan(0.1);
});
