/** From the start of the process to its first answer, and the memory it holds when idle. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { residentBytes } from "../support/accounting.ts";
import { type Bench, binaryCommand, binaryPath, type Part, scriptCommand } from "../support/bench.ts";
import { median } from "../support/statistics.ts";
import { mebibytes, milliseconds, type Row } from "../support/table.ts";

const starts = 7;
/** After the collections and releases that follow a start. */
const idleMs = 2000;

interface Start {
  ms: number;
  bytes: number;
}

const bareCommand = [process.execPath, join(import.meta.dir, "../support/bare-server.ts")];

export const start: Part = {
  name: "start",
  async run(bench: Bench): Promise<Row[]> {
    const bare = await startOften(bench, bareCommand);
    const rows = rowsOf("script", await startOften(bench, scriptCommand), bare);
    if (!existsSync(binaryPath))
      return [...rows, { name: "start, binary", figure: "not built (bun run build)" }];
    return [...rows, ...rowsOf("binary", await startOften(bench, binaryCommand), bare)];
  },
};

/** Starts on a data directory that exists already, as after the first time. */
async function startOften(bench: Bench, command: string[]): Promise<Start> {
  const directory = bench.directory();
  const ms: number[] = [];
  let bytes = 0;
  for (let count = 0; count < starts; count += 1) {
    const startedAt = performance.now();
    const server = await bench.service({ directory, command });
    ms.push(performance.now() - startedAt);
    if (count === starts - 1) {
      await Bun.sleep(idleMs);
      bytes = residentBytes(server.pid);
    }
    await bench.stop(server);
  }
  return { ms: median(ms), bytes };
}

const rowsOf = (name: string, own: Start, bare: Start): Row[] => [
  {
    name: `start to first answer, ${name}`,
    figure: milliseconds(own.ms),
    beside: `${milliseconds(bare.ms)} bare Bun.serve`,
    ratio: own.ms / bare.ms,
  },
  {
    name: `memory when idle, ${name}`,
    figure: mebibytes(own.bytes),
    beside: `${mebibytes(bare.bytes)} bare Bun.serve`,
    ratio: own.bytes / bare.bytes,
  },
];
