/**
 * A client of many instances, with the retry that standard clients have: where one refuses or can't be reached, it asks
 * another; a stream that breaks goes on elsewhere from the last event's id; a turn whose answer was lost is asked for
 * again with the same Idempotency-Key. It writes down all that it is told, and never gives up before it knows the end.
 */
import type { ChatResponse, Turn } from "../../../src/chat/schema.ts";
import type { Problem } from "../../../src/http/problem.ts";
import { between, oneOf, type Random } from "../random.ts";
import type { Service } from "../service.ts";
import { type DoneData, offsetOf, type StartData, sseEvents } from "../sse.ts";
import type { StartedTurn } from "../turns.ts";
import type { Append, End, Read } from "./history.ts";
import { isBroken, isRefusedConnection, Patience } from "./patience.ts";
import type { Count, World } from "./world.ts";

/** How a turn is asked for and watched. */
type View = "json" | "stream" | "event source" | "turn";
const views: readonly View[] = ["json", "stream", "event source", "turn"];

export interface ClientOptions {
  /** Parts of all turns, from 0 to 1. */
  stops: number;
  /** Connections that the client itself breaks off in the middle. */
  breaks: number;
  /** The same key again, at the same time or after the end. */
  repeats: number;
  /** Turns without a key, which aren't asked for again. */
  keyless: number;
  /** So long a client waits for a word before it goes elsewhere. */
  silenceMs: readonly [from: number, to: number];
}

/** An end must be known after so long, whatever fails. */
const appendMsMax = 60_000;
/** So often a conversation may be found busy before its client leaves it. */
const busyMax = 40;

/** What one try came to. */
type Tried =
  | { is: "ended" }
  /** The connection broke, or was broken off: whether anything came of it isn't known. */
  | { is: "broken" }
  /** The service said that nothing came of it. */
  | { is: "refused" }
  | { is: "busy"; turn_id: string };

export class AppendClient {
  #sent = 0;

  constructor(
    readonly world: World,
    readonly name: string,
    readonly user_id: string,
    readonly random: Random,
    readonly options: ClientOptions,
  ) {}

  /** Sends a message and stays with it to its end. Gives what it was told; `null` starts a new conversation. */
  async append(conversation_id: string | null): Promise<Append> {
    const { random, options, world } = this;
    const append: Append = {
      message: `${this.name}, message ${++this.#sent}: ${Math.floor(random() * 1e9)}`,
      user_id: this.user_id,
      conversation_id,
      sentMs: performance.now(),
      told: [],
      reads: [],
      ends: [],
      endedMs: null,
      stopped: false,
      outcome: "unknown",
    };
    world.history.push(append);
    const asking = new Asking(this, append, oneOf(random, views), random() >= options.keyless);
    const beside: Promise<unknown>[] = [];
    if (random() < options.stops) beside.push(asking.stopLater(between(random, 0, 1_200)));
    const isRepeated = asking.isKeyed && random() < options.repeats;
    if (isRepeated && random() < 0.3) beside.push(asking.repeat());
    await asking.follow();
    await Promise.all(beside);
    if (isRepeated && append.told.length > 0) await asking.repeat();
    append.outcome = asking.outcome;
    if (append.told.length > 0 && random() < 0.1) await asking.look();
    world.counts[this.#outcomeOf(append)]++;
    return append;
  }

  #outcomeOf({ outcome, ends }: Append): Count {
    if (outcome !== "acknowledged") return outcome;
    const { status, error_code } = ends[0] ?? {};
    if (status === "completed" || status === "interrupted" || status === "stopped") return status;
    return error_code === "turn_interrupted" || error_code === "shutting_down" ? "interrupted" : "failed";
  }
}

/** One message and all requests for it. */
class Asking {
  readonly #key = Bun.randomUUIDv7();
  readonly #giveUpAt = performance.now() + appendMsMax;
  readonly #known = Promise.withResolvers<void>();
  #tries = 0;
  /** Whether all tries so far were refused before anything came of them. */
  #surely = true;

  constructor(
    readonly client: AppendClient,
    readonly append: Append,
    readonly view: View,
    readonly isKeyed: boolean,
  ) {}

  get #turnId(): string | null {
    return this.append.told[0]?.turn_id ?? null;
  }

  /** Until its end is known, or it is sure that there is no turn, or nobody can know. */
  async follow(): Promise<void> {
    const { append, client } = this;
    const { counts, faults } = client.world;
    for (let busy = 0; ; ) {
      const tried = await this.#try();
      if (tried.is === "ended") break;
      counts[tried.is]++;
      if (this.#turnId === null) {
        if (tried.is === "busy") await this.#onBusy(tried.turn_id);
        if (!this.isKeyed && !this.#surely) break;
        if (tried.is === "busy" && ++busy >= busyMax) break;
      }
      if (performance.now() > this.#giveUpAt) {
        faults.push(`"${append.message}" had no end after ${appendMsMax} ms, ${this.#turnId}, ${tried.is}`);
        break;
      }
      await Bun.sleep(between(client.random, 30, 100) * Math.min(++this.#tries, 8));
    }
    this.#known.resolve();
  }

  get outcome(): Append["outcome"] {
    if (this.#turnId !== null) return "acknowledged";
    return this.#surely ? "refused" : "unknown";
  }

  /** Asks once, for the turn or, where it is known, for what is missing of it. */
  async #try(): Promise<Tried> {
    const { client, append, view } = this;
    const instance = oneOf(client.random, client.world.instances);
    const id = this.#turnId;
    if (id !== null) {
      client.world.counts.resumed++;
      return await this.#request(instance, (signal) => this.#watch(instance, id, this.#held(), signal));
    }
    const { user_id, message, conversation_id } = append;
    const body = { user_id, message, ...(conversation_id !== null && { conversation_id }) };
    const post = {
      method: "POST",
      // Bun sends a request again by itself where a kept connection turns out to be closed.
      keepalive: this.isKeyed,
      headers: { "content-type": "application/json", ...(this.isKeyed && { "idempotency-key": this.#key }) },
      body: JSON.stringify(body),
    };
    return await this.#request(instance, async (patience) => {
      const stream = async (at: Service, path: string, init: RequestInit = {}): Promise<Tried> =>
        await this.#readStream(await at.fetch(path, { ...init, signal: patience.silence() }), 0, patience);
      if (view === "stream") return await stream(instance, "/v1/chat/stream", post);
      if (view === "event source") {
        const query = new URLSearchParams({ ...body, ...(this.isKeyed && { idempotency_key: this.#key }) });
        return await stream(instance, `/v1/chat/stream?${query}`, { keepalive: this.isKeyed });
      }
      const path = view === "json" ? "/v1/chat" : "/v1/turns";
      const response = await instance.fetch(path, { ...post, signal: patience.overall() });
      if (response.status !== 202) return await this.#readAnswer(response);
      const started = (await response.json()) as StartedTurn;
      this.#told(started.id, started.conversation_id);
      return await stream(oneOf(client.random, client.world.instances), started.stream_url);
    });
  }

  /** Runs a request; what breaks it is an outcome. */
  async #request(instance: Service, ask: (patience: Patience) => Promise<Tried>): Promise<Tried> {
    const { random, options, world } = this.client;
    const breaksAfterMs = random() < options.breaks ? between(random, 0, 800) : null;
    const patience = new Patience(between(random, ...options.silenceMs), breaksAfterMs);
    try {
      return await ask(patience);
    } catch (error) {
      if (isRefusedConnection(error)) {
        world.counts.unreachable++;
        return { is: "refused" };
      }
      if (isBroken(error)) {
        this.#surely = false;
        return { is: "broken" };
      }
      throw new Error(`"${this.append.message}" at ${instance.url}`, { cause: error });
    } finally {
      patience.end();
    }
  }

  /** How much of the reply this client holds. */
  #held(): number {
    return this.append.reads.reduce((held, { from, text }) => Math.max(held, from + text.length), 0);
  }

  async #watch(instance: Service, id: string, held: number, patience: Patience): Promise<Tried> {
    const { random } = this.client;
    // One in four has lost some of what it held.
    const from = random() < 0.25 ? between(random, 0, held) : held;
    const headers = { "last-event-id": `${id}:${from}` };
    const response = await instance.fetch(`/v1/turns/${id}/stream`, { headers, signal: patience.silence() });
    return await this.#readStream(response, from, patience);
  }

  /** Of `POST /v1/chat`, and of any request that got no stream. */
  async #readAnswer(response: Response): Promise<Tried> {
    if (response.status === 200) {
      const body = (await response.json()) as ChatResponse;
      this.#told(body.turn_id, body.conversation_id);
      this.#ended({ status: body.status, text: body.response, total_tokens: body.tokens_used });
      return { is: "ended" };
    }
    return this.#onProblem(response.status, response.headers, (await response.json()) as Problem);
  }

  #onProblem(status: number, headers: Headers, problem: Problem): Tried {
    const { code, turn_id, conversation_id, response } = problem;
    if (status === 409 && turn_id !== undefined) return { is: "busy", turn_id };
    if (turn_id !== undefined && response !== undefined && [502, 503].includes(status)) {
      this.#told(turn_id, conversation_id ?? null);
      this.#ended({ error_code: code, text: response });
      return { is: "ended" };
    }
    if (status === 503 && headers.has("retry-after")) {
      // Where the storage failed, nobody knows what it did before.
      if (code === "storage_unavailable") this.#surely = false;
      return { is: "refused" };
    }
    this.#surely = false;
    this.client.world.faults.push(
      `"${this.append.message}", ${this.#turnId}: ${status} ${JSON.stringify(problem)}`,
    );
    return { is: "broken" };
  }

  async #readStream(response: Response, from: number, patience: Patience): Promise<Tried> {
    if (response.status !== 200) return await this.#readAnswer(response);
    const read: Read = { from, text: "", lastMs: performance.now() };
    this.append.reads.push(read);
    for await (const { id, event, data } of sseEvents(response)) {
      patience.heard();
      if (event === "sources") continue;
      if (event === "start") {
        const { turn_id, conversation_id } = JSON.parse(data) as StartData;
        this.#told(turn_id, conversation_id);
        if (id !== `${turn_id}:${from}`)
          throw new Error(`the stream starts at ${id}, asked for from ${from}`);
        continue;
      }
      const { token, done, ...end } = JSON.parse(data) as DoneData & { token?: string };
      if (token !== undefined) {
        read.text += token;
        read.lastMs = performance.now();
        if (offsetOf(id!) !== from + read.text.length)
          throw new Error(`the id ${id} at ${from + read.text.length}`);
      }
      if (!done) continue;
      this.#told(end.turn_id, end.conversation_id);
      const { status, error, length, tokens_used } = end;
      this.#ended({ status, error_code: error?.code ?? null, length, total_tokens: tokens_used });
      return { is: "ended" };
    }
    this.#surely = false;
    return { is: "broken" };
  }

  #told(turn_id: string, conversation_id: string | null): void {
    this.append.told.push({ turn_id, conversation_id });
    this.client.world.byTurn.set(turn_id, this.append);
    this.#known.resolve();
  }

  #ended(end: End): void {
    this.append.ends.push(end);
    this.append.endedMs ??= performance.now();
  }

  /** Someone else's turn is in the way: waited for, or now and then stopped. */
  async #onBusy(turn_id: string): Promise<void> {
    const { random, world } = this.client;
    const other = world.byTurn.get(turn_id);
    if (other !== undefined && random() < 0.05) await this.#stop(other, turn_id);
    else await Bun.sleep(between(random, 50, 400));
  }

  /** Stops the turn a while after it is known, at any instance. */
  async stopLater(ms: number): Promise<void> {
    await this.#known.promise;
    await Bun.sleep(ms);
    if (this.#turnId !== null) await this.#stop(this.append, this.#turnId);
  }

  async #stop(append: Append, turn_id: string): Promise<void> {
    append.stopped = true;
    const instance = oneOf(this.client.random, this.client.world.instances);
    await this.#request(instance, async (patience) => {
      const init = { method: "POST", signal: patience.overall() };
      const response = await instance.fetch(`/v1/turns/${turn_id}/stop`, init);
      if (response.status === 200) this.#noteTurn(append, (await response.json()) as Turn);
      else if (response.status !== 503) {
        this.client.world.faults.push(`stop of ${turn_id}: ${response.status} ${await response.text()}`);
      }
      return { is: "ended" };
    });
  }

  /** The same request with the same key, until it is answered. */
  async repeat(): Promise<void> {
    const { client, append } = this;
    client.world.counts.repeated++;
    const asJson = client.random() < 0.5;
    const { user_id, message, conversation_id } = append;
    const body = JSON.stringify({ user_id, message, ...(conversation_id !== null && { conversation_id }) });
    const headers = { "content-type": "application/json", "idempotency-key": this.#key };
    for (let busy = 0; performance.now() < this.#giveUpAt && busy < busyMax; ) {
      const instance = oneOf(client.random, client.world.instances);
      const tried = await this.#request(instance, async (patience) => {
        const init = { method: "POST", headers, body };
        return asJson
          ? await this.#readAnswer(await instance.fetch("/v1/chat", { ...init, signal: patience.overall() }))
          : await this.#readStream(
              await instance.fetch("/v1/chat/stream", { ...init, signal: patience.silence() }),
              0,
              patience,
            );
      });
      if (tried.is === "ended") return;
      if (tried.is === "busy") busy++;
      await Bun.sleep(between(client.random, 100, 400));
    }
  }

  /** How any instance tells of the turn. */
  async look(): Promise<void> {
    const id = this.#turnId!;
    const instance = oneOf(this.client.random, this.client.world.instances);
    await this.#request(instance, async (patience) => {
      const response = await instance.fetch(`/v1/turns/${id}`, { signal: patience.overall() });
      if (response.status !== 200) return await this.#readAnswer(response);
      this.#noteTurn(this.append, (await response.json()) as Turn);
      return { is: "ended" };
    });
  }

  #noteTurn(
    append: Append,
    { id, conversation_id, status, response, error, length, tokens_used }: Turn,
  ): void {
    append.told.push({ turn_id: id, conversation_id });
    if (status === "running") append.reads.push({ from: 0, text: response, lastMs: performance.now() });
    else {
      const error_code = error?.code ?? null;
      append.ends.push({ status, error_code, text: response, length, total_tokens: tokens_used });
      append.endedMs ??= performance.now();
    }
  }
}
