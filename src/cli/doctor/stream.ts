/**
 * Whether a stream arrives while it is written. Times tell little on a busy machine, so both sides shake hands: the
 * turn is stopped as soon as its `start` is here, all by itself. If that still found the turn running, `start` came
 * before the reply was written, and nothing held it back. A model that answers at once leaves no time for that, so it
 * is tried some times.
 */
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { reasonOf } from "../service-client.ts";
import { visibleLine } from "../terminal.ts";
import { type Finding, failed, ok, warning } from "./finding.ts";
import type { Ask } from "./service.ts";

const attemptsMax = 8;
const user_id = "parley-doctor";
/** Long enough for the hands to be shaken, and stopped then. */
const message = "This tests the connection. Count from 1 to 300, one number a line, and say nothing else.";

/** What became of one stream. */
interface Attempt {
  headers: Headers;
  /** Whether `start` was here before anything else, while the turn still ran. */
  isProven: boolean;
  /** How the turn ended; null where the stream broke off before it told. */
  status: string | null;
  code: string | null;
  seconds: number;
}

/** What the service has sent hasn't come. */
class HeldBack extends Error {}

/** @param secondsMax that `start` may take */
export async function examineStream(ask: Ask, secondsMax: number): Promise<Finding[]> {
  const name = "stream";
  try {
    let attempt: Attempt;
    let attempts = 0;
    do attempt = await tryStream(ask, secondsMax);
    while (!attempt.isProven && isUntold(attempt.status) && ++attempts < attemptsMax);
    return [arrival(attempt), ...examineHeaders(attempt.headers)];
  } catch (error) {
    if (error instanceof HeldBack) return [buffered(error.message)];
    const advice = "its log tells more, under the X-Request-Id of the answer";
    return [failed(name, `no stream came: ${reasonOf(error)}`, advice)];
  } finally {
    await tidyUp(ask).catch(() => {});
  }
}

/** Whether a turn's end leaves open how its stream arrived. */
const isUntold = (status: string | null): boolean => status !== null && status !== "failed";

function arrival({ isProven, status, code, seconds }: Attempt): Finding {
  const name = "stream";
  if (status === null) {
    const advice =
      "what stands between cuts streams: raise its time limit for reading (proxy_read_timeout of nginx); Parley is never silent for longer than 10 s";
    return failed(name, `it was cut off after ${seconds.toFixed(1)} s`, advice);
  }
  if (isProven)
    return ok(name, "it arrives unbuffered: its start was here while the reply was still to be written");
  if (status === "failed") {
    return failed(
      name,
      `the model failed before anything could be seen: ${visibleLine(String(code))}`,
      "see its log, and parley doctor there",
    );
  }
  return buffered(`${attemptsMax} times its start came only together with what follows it`);
}

const buffered = (detail: string): Finding =>
  failed(
    "stream",
    `it is held back on its way: ${detail}`,
    "let the proxy pass it on at once: proxy_buffering off, without proxy_ignore_headers X-Accel-Buffering, for nginx; no cache, no compression of text/event-stream",
  );

async function tryStream(ask: Ask, secondsMax: number): Promise<Attempt> {
  const leaving = new AbortController();
  const startedMs = performance.now();
  const timer = setTimeout(() => leaving.abort(), secondsMax * 1000);
  let begun = false;
  const events: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => events.push(event) });
  const decoder = new TextDecoder();
  let isProven = false;
  let headers: Headers | null = null;
  try {
    const response = await ask("v1/chat/stream", {
      method: "POST",
      headers: { "content-type": "application/json", accept: "text/event-stream" },
      body: JSON.stringify({ user_id, message, use_memory: false, collections: [] }),
      signal: leaving.signal,
    });
    if (!response.ok) throw new Error(`the service answered with status ${response.status}`);
    ({ headers } = response);
    for await (const chunk of response.body ?? []) {
      const text = decoder.decode(chunk, { stream: true });
      parser.feed(text);
      if (begun || events.length === 0) continue;
      begun = true;
      timer.refresh();
      // A part of the next event would show that a buffer was full.
      const isAlone = events.length === 1 && text.endsWith("\n\n");
      isProven = (await stopTurn(ask, dataOf(events[0]).turn_id)) && isAlone;
    }
  } catch (error) {
    if (leaving.signal.aborted) {
      if (begun) throw new HeldBack(`its turn has ended, and that hasn't come for ${secondsMax} s`);
      if (await stopRunning(ask))
        throw new HeldBack(`its turn runs, and nothing has come for ${secondsMax} s`);
      throw new Error(`nothing has come within ${secondsMax} s`);
    }
    if (headers === null) throw error;
  } finally {
    clearTimeout(timer);
  }
  const { done, status, error } = dataOf(events.at(-1));
  const seconds = (performance.now() - startedMs) / 1000;
  const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : null;
  return { headers: headers!, isProven, status: done === true ? String(status) : null, code, seconds };
}

function dataOf(event: EventSourceMessage | undefined): Record<string, unknown> {
  try {
    return JSON.parse(event?.data ?? "{}") as Record<string, unknown>;
  } catch {
    return {};
  }
}

/** Whether that ended it: it was still running. */
async function stopTurn(ask: Ask, id: unknown): Promise<boolean> {
  const stopped = await ask(`v1/turns/${encodeURIComponent(String(id))}/stop`, { method: "POST" });
  const { status } = (await stopped.json()) as { status?: unknown };
  return status === "stopped";
}

interface Conversation {
  id: string;
  active_turn_id: string | null;
}

async function ownConversations(ask: Ask): Promise<Conversation[]> {
  const answer = await ask(`v1/conversations?user_id=${user_id}&limit=${attemptsMax}`);
  const { conversations } = (await answer.json()) as { conversations?: Conversation[] };
  return conversations ?? [];
}

/** Stops what still runs; whether anything did. */
async function stopRunning(ask: Ask): Promise<boolean> {
  const running = (await ownConversations(ask)).flatMap(({ active_turn_id }) => active_turn_id ?? []);
  await Promise.all(running.map((id) => stopTurn(ask, id)));
  return running.length > 0;
}

/** Nothing of an examination is kept. */
async function tidyUp(ask: Ask): Promise<void> {
  for (const { id } of await ownConversations(ask)) {
    await ask(`v1/conversations/${encodeURIComponent(id)}`, { method: "DELETE" });
  }
}

function examineHeaders(headers: Headers): Finding[] {
  const name = "stream headers";
  const type = headers.get("content-type") ?? "none";
  const cache = headers.get("cache-control") ?? "none";
  const encoding = headers.get("content-encoding");
  const findings: Finding[] = [];
  if (!/^text\/event-stream\b/.test(type)) {
    const advice = "let the proxy pass Content-Type on as it is: browsers' EventSource refuses any other";
    findings.push(failed(name, `Content-Type is ${visibleLine(type)}`, advice));
  } else if (!/\bno-transform\b/.test(cache)) {
    const advice =
      "let the proxy pass Cache-Control on: without no-transform, others on the way may compress or keep it";
    findings.push(warning(name, `Cache-Control is ${visibleLine(cache)}`, advice));
  } else {
    // nginx keeps it to itself when it has done what it says.
    const accel = headers.has("x-accel-buffering")
      ? "X-Accel-Buffering: no too"
      : "X-Accel-Buffering was taken off";
    findings.push(ok(name, `Content-Type and Cache-Control came through, ${accel}`));
  }
  if (encoding !== null) {
    const advice =
      "leave text/event-stream out of compression (gzip_types): it costs much and saves little, and many hold events back for it";
    findings.push(warning("stream compression", `it comes as ${visibleLine(encoding)}`, advice));
  } else {
    findings.push(ok("stream compression", "there is none"));
  }
  return findings;
}
