import { expect, test } from "bun:test";
import { join } from "node:path";

const root = new URL("../../..", import.meta.url).pathname;

test("the bench prints recall, nDCG and MRR for documents and dialogues, and Parley is ahead of plain BM25", async () => {
  const bench = Bun.spawn([process.execPath, join(root, "bench/main.ts"), "retrieval"], { stderr: "pipe" });
  const table = await new Response(bench.stdout).text();
  expect(await bench.exited).toBe(0);
  const rows = [...table.matchAll(/^\| (\S.+?), (Parley.*?) +\| ([\d.]+) +\| ([\d.]+) plain BM25 /gm)].map(
    ([, name, system, figure, plain]) => ({ name, system, figure: Number(figure), plain: Number(plain) }),
  );
  const measures = ["recall@5", "recall@10", "nDCG@10", "MRR@10", "no result where nothing answers"];
  expect(rows.map(({ name }) => name)).toEqual(
    ["documents", "dialogues"].flatMap((set) => measures.map((measure) => `${set}: ${measure}`)),
  );
  for (const { name, figure, plain } of rows) {
    expect(figure, name).toBeWithin(0, 1 + 1e-9);
    expect(plain, name).toBeWithin(0, 1 + 1e-9);
    expect(figure, name).toBeGreaterThan(plain);
  }
});
