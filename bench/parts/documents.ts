/** Documents: how fast they are taken in and what that costs the streams meanwhile, and searches as they grow many. */
import { join } from "node:path";
import type { Bench, Part } from "../support/bench.ts";
import type { Server } from "../support/processes.ts";
import { paced } from "../support/reply-shape.ts";
import { sentence } from "../support/sentence.ts";
import { quantiles } from "../support/statistics.ts";
import { milliseconds, type Row } from "../support/table.ts";

const documentMebibytes = 8;
const documents = 4;
const searches = 200;
const streams = { clients: 100, startEveryMs: 10, requestsPerClient: 100, readEvery: 16 };

export const ingestion: Part = {
  name: "documents-ingest",
  async run(bench: Bench): Promise<Row[]> {
    const service = await bench.service();
    await bench.warmUp(service, "/v1/chat/stream", "turn-stream");
    // The first document waits for the program that reads it to load.
    await ingest(service, 0, 0.1);
    const streamFor = (seconds: number) =>
      bench.load({
        ...streams,
        port: service.port,
        method: "POST",
        path: "/v1/chat/stream",
        answer: "turn-stream",
        reply: paced,
        seconds,
      });
    const alone = await streamFor(6);
    const startedAt = performance.now();
    const beside = streamFor(12);
    let bytes = 0;
    for (let index = 1; index <= documents; index++) bytes += await ingest(service, index, documentMebibytes);
    const seconds = (performance.now() - startedAt) / 1000;
    const meanwhile = await beside;
    if (alone.failed + meanwhile.failed > 0) throw new Error("streams failed");
    return [
      {
        name: `documents of ${documentMebibytes} MiB of Markdown, stored and searchable, beside ${streams.clients} streams`,
        figure: `${(bytes / 2 ** 20 / seconds).toFixed(1)} MiB a second`,
      },
      {
        name: "… a stream of 64 tokens at 30 ms meanwhile, whole: p50",
        figure: milliseconds(meanwhile.whole.p50),
        beside: `${milliseconds(alone.whole.p50)} without`,
        ratio: meanwhile.whole.p50 / alone.whole.p50,
      },
      {
        name: "… its p99",
        figure: milliseconds(meanwhile.whole.p99),
        beside: `${milliseconds(alone.whole.p99)} without`,
        ratio: meanwhile.whole.p99 / alone.whole.p99,
      },
    ];
  },
};

export const searching: Part = {
  name: "documents-search",
  async run(bench: Bench): Promise<Row[]> {
    const counts = bench.options.few ? [1_000, 100_000] : [1_000, 100_000, 1_000_000];
    const rows: Row[] = [];
    let first: number | null = null;
    for (const passages of counts) {
      const directory = bench.directory();
      const startedAt = performance.now();
      await bench.run("fill-context.ts", join(directory, "data"), String(passages));
      bench.note(`${passages} passages in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
      const service = await bench.service({ directory });
      const { p50, p99 } = await searchTimes(service);
      await bench.stop(service);
      rows.push({
        name: `search in ${passages.toLocaleString("en")} passages`,
        figure: `${milliseconds(p50)}, p99 ${milliseconds(p99)}`,
        ...(first !== null && { beside: `${milliseconds(first)} in ${counts[0]}`, ratio: p50 / first }),
      });
      first ??= p50;
    }
    return rows;
  },
};

/** Adds one document and waits until it is searchable; gives its size in bytes. */
async function ingest({ port }: Server, index: number, mebibytes: number): Promise<number> {
  const base = `http://127.0.0.1:${port}/v1/documents`;
  const paragraphs: string[] = [];
  for (let bytes = 0, at = 0; bytes < mebibytes * 2 ** 20; at++) {
    const text = `## Part ${at}\n\n${sentence(index * 1_000_000 + at, 150)}.\n\n`;
    bytes += text.length;
    paragraphs.push(text);
  }
  const text = paragraphs.join("");
  const form = new FormData();
  form.set("file", new Blob([text]), `document-${index}.md`);
  const added = await fetch(base, { method: "POST", body: form });
  let document = (await added.json()) as { id: string; status: string };
  while (document.status === "processing") {
    await Bun.sleep(50);
    document = (await (await fetch(`${base}/${document.id}`)).json()) as typeof document;
  }
  if (document.status !== "ready") throw new Error(`the document was not taken: ${JSON.stringify(document)}`);
  return text.length;
}

/** Milliseconds of a search of four words, one after the other. */
async function searchTimes({ port }: Server) {
  const times: number[] = [];
  for (let index = 0; index < searches + searches / 4; index++) {
    const startedAt = performance.now();
    const response = await fetch(`http://127.0.0.1:${port}/v1/documents/search`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ query: sentence(5_000_000 + index, 4) }),
    });
    const { results } = (await response.json()) as { results: unknown[] };
    if (results.length === 0) throw new Error("a search found nothing");
    if (index >= searches / 4) times.push(performance.now() - startedAt);
  }
  return quantiles(times);
}
