/**
 * What is known of a request while it is open, and what is told at its end: a line in the log, and its figures to who
 * counts. The end of a response that is streamed is the end of its stream.
 */
import type { Authenticate, Principal } from "../auth/principal.ts";
import { type AppError, statusOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { type Correlation, traceContextOf } from "../trace-context.ts";

/** A request that has been answered. */
export interface EndedRequest {
  readonly method: string;
  /** The pattern that its path matched, such as `/v1/turns/:id`; null where it matched none. */
  readonly route: string | null;
  readonly status: number;
  readonly seconds: number;
}

interface OpenRequest extends Correlation {
  readonly startedMs: number;
  principal: Principal | null;
  error: AppError | null;
  turn_id: string | null;
  route: string | null;
  status: number;
  /** Whether its handler is done. */
  isAnswered: boolean;
  isStreaming: boolean;
}

/** Asked every few seconds, by machines. */
const unlogged = new Set(["/health", "/ready", "/metrics"]);

const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

export class Requests {
  readonly #open = new WeakMap<Request, OpenRequest>();
  #streams = 0;

  /** @param onEnd hears of every request when it has ended */
  constructor(
    readonly log: Log,
    readonly onEnd: (request: EndedRequest) => void,
  ) {}

  /** Responses that are being streamed. */
  get streams(): number {
    return this.#streams;
  }

  begin(request: Request, request_id: string): void {
    this.#open.set(request, {
      request_id,
      trace: traceContextOf(request.headers),
      startedMs: performance.now(),
      principal: null,
      error: null,
      turn_id: null,
      route: null,
      status: 200,
      isAnswered: false,
      isStreaming: false,
    });
  }

  /** The same authentication; whom it finds is noted. */
  noting(authenticate: Authenticate): Authenticate {
    return async (request) => {
      const principal = await authenticate(request);
      const open = this.#open.get(request);
      if (open !== undefined) open.principal = principal;
      return principal;
    };
  }

  /** The request starts this turn, or watches it. */
  concerns(request: Request, turn_id: string): void {
    const open = this.#open.get(request);
    if (open !== undefined) open.turn_id = turn_id;
  }

  correlationOf(request: Request): Correlation {
    const { request_id = "", trace = null } = this.#open.get(request) ?? {};
    return { request_id, trace };
  }

  /** The request is answered with a problem. */
  failed(request: Request, error: AppError): void {
    const open = this.#open.get(request);
    if (open !== undefined) open.error = error;
  }

  /** The handler is done, whose response may go on as a stream. */
  answered(request: Request, route: string | null, status: number): void {
    const open = this.#open.get(request);
    if (open === undefined) return;
    open.route = route;
    open.status = status;
    open.isAnswered = true;
    if (!open.isStreaming) this.#end(request, open);
  }

  /**
   * The response is a stream, until the returned function is called: in the `finally` of its generator, which a client
   * that has gone already doesn't even begin.
   */
  streaming(request: Request): () => void {
    const open = this.#open.get(request);
    // HEAD has no body.
    if (open === undefined || request.method === "HEAD" || request.signal.aborted) return () => {};
    open.isStreaming = true;
    this.#streams++;
    return () => {
      if (!open.isStreaming) return;
      open.isStreaming = false;
      this.#streams--;
      if (open.isAnswered) this.#end(request, open);
    };
  }

  /** The pieces of a streamed response, whose end is the request's. */
  streamed<Piece>(request: Request, pieces: AsyncGenerator<Piece>): AsyncGenerator<Piece> {
    return endingWith(pieces, this.streaming(request));
  }

  #end(request: Request, open: OpenRequest): void {
    const { request_id, trace, startedMs, principal, error, turn_id, route } = open;
    const method = methods.has(request.method) ? request.method : "OTHER";
    const status = error === null ? open.status : statusOf(error.code);
    const durationMs = performance.now() - startedMs;
    this.onEnd({ method, route, status, seconds: durationMs / 1000 });
    if (route !== null && unlogged.has(route)) return;
    const level = status >= 500 ? "error" : "info";
    this.log[level](
      {
        event: "request_ended",
        request_id,
        ...(trace && { trace_id: trace.trace_id }),
        method,
        route,
        status,
        ...(principal && { workspace_id: principal.scope.workspace_id, principal_id: principal.id }),
        ...(turn_id !== null && { turn_id }),
        ...(error && { code: error.code }),
        ...(error?.cause !== undefined && { err: error.cause }),
        ...(request.signal.aborted && { client_gone: true }),
        duration_ms: Math.round(durationMs * 10) / 10,
      },
      "request ended",
    );
  }
}

async function* endingWith<Piece>(pieces: AsyncGenerator<Piece>, end: () => void): AsyncGenerator<Piece> {
  try {
    yield* pieces;
  } finally {
    end();
  }
}
