/** What the load client is told to do and what it tells back: plain data, sent between the processes as JSON. */
import type { ReplyShape } from "./reply-shape.ts";

/** How an answer is read: a turn's event stream, a turn as JSON, the model's own bytes, or any JSON at all. */
export type Answer = "turn-stream" | "turn-json" | "model-bytes" | "json";

export interface Load {
  port: number;
  /** Several servers, among which the clients take turns, in place of the one at `port`. */
  ports?: readonly number[];
  method: "GET" | "POST";
  /** The request's target. */
  path: string;
  answer: Answer;
  /** What the model says, to be found whole in the answer. */
  reply: ReplyShape;
  /** Clients, each with a connection of its own and one request at a time. */
  clients: number;
  /** Milliseconds between the starts of two clients. */
  startEveryMs: number;
  /** Requests of one client at most. */
  requestsPerClient: number;
  /** After so long no request is begun; those under way are waited for. */
  seconds: number;
  /** Each n-th answer of a client is read word for word; the others by their end alone. */
  readEvery: number;
}

export interface Quantiles {
  p50: number;
  p99: number;
}

export interface LoadResult {
  answered: number;
  failed: number;
  /** Some of what went wrong. */
  failures: string[];
  seconds: number;
  /** Milliseconds from request to first token and to the end. */
  firstToken: Quantiles;
  whole: Quantiles;
  /** The most answers that were under way, after their first token, at one time. */
  together: number;
}
