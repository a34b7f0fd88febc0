/**
 * `bun bench/main.ts [part…] [--binary] [--few]`: runs the parts and prints one table. Its verdicts decide nothing.
 */
import { parseArgs } from "node:util";
import { chat } from "./parts/chat.ts";
import { context } from "./parts/context.ts";
import { ingestion, searching } from "./parts/documents.ts";
import { list } from "./parts/list.ts";
import { postgresInstances, postgresTurns } from "./parts/postgres.ts";
import { postgresQueries } from "./parts/postgres-queries.ts";
import { postgresWatch } from "./parts/postgres-watch.ts";
import { fusedRetrieval, retrieval, retrievalDecisions } from "./parts/retrieval.ts";
import { start } from "./parts/start.ts";
import { streamBurst, streamPaced } from "./parts/stream.ts";
import { streams5000 } from "./parts/streams-5000.ts";
import { Bench, type Part } from "./support/bench.ts";
import { formatTable, type Row } from "./support/table.ts";

const parts: readonly Part[] = [
  streamBurst,
  streamPaced,
  chat,
  streams5000,
  start,
  list,
  context,
  retrieval,
  retrievalDecisions,
  fusedRetrieval,
  ingestion,
  searching,
  postgresTurns,
  postgresInstances,
  postgresWatch,
  postgresQueries,
];

const { values: options, positionals } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: {
    binary: { type: "boolean", default: false },
    few: { type: "boolean", default: false },
  },
});
// `stream` means both parts that begin so.
const chosen = parts.filter(
  ({ name }) => positionals.length === 0 || positionals.some((wanted) => name.startsWith(wanted)),
);
if (chosen.length === 0) {
  console.error(`Parts: ${parts.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

const bench = new Bench(options);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    bench.killAll();
    process.exit(1);
  });
}

const rows: Row[] = [];
for (const part of chosen) {
  console.error(part.name);
  try {
    rows.push(...(await part.run(bench)));
  } catch (error) {
    rows.push({ name: part.name, figure: "did not finish", note: "see above" });
    console.error(error);
  } finally {
    await bench.stopAll();
  }
}
console.log(formatTable(rows));
