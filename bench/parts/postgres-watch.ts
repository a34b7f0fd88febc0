/** How much later a token is seen that is watched from another instance than the one that its turn runs on. */
import type { Bench, Part } from "../support/bench.ts";
import { paced } from "../support/reply-shape.ts";
import { quantiles } from "../support/statistics.ts";
import { milliseconds, type Row } from "../support/table.ts";

/** Turns at once, each with one who watches it from elsewhere. */
const turnsAtOnce = 20;
/** One round after the other; the first warms up. */
const rounds = 4;

interface Seen {
  /** UTF-16 units of the reply. */
  offset: number;
  atMs: number;
}

export const postgresWatch: Part = {
  name: "postgres-watch",
  async run(bench: Bench): Promise<Row[]> {
    const postgres = await bench.postgres();
    const env = { DATABASE_URL: await postgres.database() };
    const [owner, other] = await Promise.all([bench.service({ env }), bench.service({ env })]);
    await bench.shapeReplies(paced);
    const urls = { owner: `http://127.0.0.1:${owner.port}`, other: `http://127.0.0.1:${other.port}` };
    const added: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      const delays = await Promise.all(
        Array.from({ length: turnsAtOnce }, async (_, index) => {
          // Not all at the same moment: tokens of people aren't either.
          await Bun.sleep(index * 7);
          return await watchBoth(urls, `watched-${index}`);
        }),
      );
      if (round > 0) added.push(...delays.flat());
    }
    await bench.stop(owner, other);
    const { p50, p99 } = quantiles(added);
    return [
      {
        name: `a token watched from another instance, ${turnsAtOnce} at a token each ${paced.everyMs} ms: added delay`,
        figure: `p50 ${milliseconds(p50)}, p99 ${milliseconds(p99)}`,
        note: `${added.length} tokens, against the same token from the instance that runs the turn`,
      },
    ];
  },
};

/** Starts a turn, watches it from both, and gives how much later each token was seen on the other, in milliseconds. */
async function watchBoth(urls: { owner: string; other: string }, user_id: string): Promise<number[]> {
  const started = await fetch(`${urls.owner}/v1/turns`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user_id, message: "What is a turn?" }),
  });
  if (started.status !== 202) throw new Error(`a turn wasn't started: ${await started.text()}`);
  const { id } = (await started.json()) as { id: string };
  const [owned, others] = await Promise.all(
    [urls.owner, urls.other].map((url) => watch(`${url}/v1/turns/${id}/stream`)),
  );
  // The first of them were said before both watched.
  const from = Math.max(owned![0]!.offset, others![0]!.offset);
  return owned!
    .filter(({ offset }) => offset > from)
    .map(({ offset, atMs }) => others!.find((seen) => seen.offset >= offset)!.atMs - atMs);
}

/** When how much of a reply was there; the last is its whole length. */
async function watch(url: string): Promise<Seen[]> {
  const response = await fetch(url);
  if (response.status !== 200) throw new Error(`a turn can't be watched: ${await response.text()}`);
  const seen: Seen[] = [];
  let rest = "";
  let length: number | null = null;
  const decoder = new TextDecoder();
  for await (const chunk of response.body!) {
    const atMs = performance.now();
    const frames = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
    rest = frames.pop()!;
    for (const frame of frames) {
      const offset = /^id: turn_[0-9a-f-]+:(\d+)$/m.exec(frame)?.[1];
      if (offset !== undefined && frame.includes('data: {"token":'))
        seen.push({ offset: Number(offset), atMs });
      length = Number(/"done":true.*"length":(\d+)/.exec(frame)?.[1] ?? Number.NaN) || length;
    }
  }
  if (length === null || seen.at(-1)?.offset !== length) throw new Error("a stream isn't whole");
  return seen;
}
