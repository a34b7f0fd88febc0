import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { unanswerableKinds } from "../../../bench/retrieval/unanswerable.ts";

// It goes through all of its questions three times, which a loaded machine takes minutes for.
setDefaultTimeout(300_000);

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
  const decided = [
    ...table.matchAll(/^\| (documents|dialogues): something for (\S+) questions +\| (\d+) % /gm),
  ].map(([, set, kind, percent]) => ({ set, kind, percent: Number(percent) }));
  for (const set of ["documents", "dialogues"]) {
    const shares = decided
      .filter((row) => row.set === set)
      .map(({ kind, percent }) => [kind, percent] as const);
    expect(shares.map(([kind]) => kind)).toEqual([...unanswerableKinds]);
    // The nearer a question comes to the corpus, the harder it is to tell.
    const { "off-topic": least, "absent-attribute": most } = Object.fromEntries(shares);
    expect(least).toBeLessThan(most!);
  }
  for (const { name, figure, plain } of rows) {
    expect(figure, name).toBeWithin(0, 1 + 1e-9);
    expect(plain, name).toBeWithin(0, 1 + 1e-9);
    expect(figure, name).toBeGreaterThan(plain);
  }
});
