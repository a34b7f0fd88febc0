/**
 * A model made of models: tries the first one again where that may help, then the others in order, and only for
 * as long as nothing of the reply has been given away.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../log.ts";
import { blamesRequest, type Model, ModelFailure, type ModelPiece, type ModelRequest } from "./model.ts";
import type { ModelObserver } from "./observer.ts";

export interface RetryOptions {
  log: Log;
  observer?: ModelObserver;
  /** Further attempts at one model. */
  retriesMax?: number;
  /** The wait before the first retry, on top of what a server asks for; it doubles, less up to half by chance. */
  backoffMs?: number;
  /** A server that asks for a longer wait isn't waited for. */
  retryAfterSecondsMax?: number;
}

/**
 * @param models at least one; the first is the configured one, the others are its fallbacks
 * A reply rejects with the last failure, once no model is left.
 */
export function withRetries(models: readonly Model[], options: RetryOptions): Model {
  const { log, observer, retriesMax = 2, backoffMs = 500, retryAfterSecondsMax = 10 } = options;
  const configured = models[0]!;

  async function reply(
    request: ModelRequest,
    signal: AbortSignal,
    onPiece: (piece: ModelPiece) => void,
  ): Promise<void> {
    const order = inOrder(models, request.model);
    for (const [index, model] of order.entries()) {
      const last = index === order.length - 1;
      // The first is asked for the model by the name in the request; the fallbacks keep their own names.
      const asked = index === 0 ? request : { ...request, model: null };
      const named = (piece: ModelPiece) => (index > 0 ? { ...piece, model: model.name } : piece);
      for (let attempt = 1; ; attempt++) {
        let started = false;
        const startedMs = performance.now();
        const seconds = (): number => (performance.now() - startedMs) / 1000;
        // Usage that comes before the answer is kept with it: another attempt may write the answer that counts.
        let begin: ModelPiece = {};
        try {
          await model.reply(asked, signal, (piece) => {
            if (started) return onPiece(piece);
            begin = { ...begin, ...piece };
            started = piece.text !== undefined || piece.finish_reason !== undefined;
            if (!started) return;
            observer?.answered(seconds());
            onPiece(named(begin));
          });
          if (!started) {
            observer?.answered(seconds());
            onPiece(named(begin));
          }
          return;
        } catch (error) {
          if (!(error instanceof ModelFailure)) throw error;
          const waitMs = started ? null : waitBefore(error, attempt);
          const fallsBack = waitMs === null && !started && !last && !blamesRequest(error);
          observer?.failed(error, seconds(), waitMs !== null ? "retry" : fallsBack ? "fallback" : "none");
          log.warn(
            {
              event: "model_attempt_failed",
              model: model.name,
              attempt,
              code: error.code,
              upstream: error.upstream,
              ...(waitMs !== null && { retry_in_ms: waitMs }),
            },
            "model attempt failed",
          );
          if (waitMs === null) {
            if (fallsBack) break;
            if (!started) onPiece(begin);
            throw error;
          }
          await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
        }
      }
    }
  }

  /** Milliseconds before this model is tried again, more than it asked for; null where it isn't. */
  function waitBefore(error: ModelFailure, attempt: number): number | null {
    if (attempt > retriesMax || !isTransient(error)) return null;
    const { retryAfterSeconds = 0 } = error;
    if (retryAfterSeconds > retryAfterSecondsMax) return null;
    const backoff = backoffMs * 2 ** (attempt - 1) * (1 - Math.random() / 2);
    return Math.ceil(retryAfterSeconds * 1000 + backoff);
  }

  const answersAs = (requested: string | null) => inOrder(models, requested)[0]!.answersAs(requested);
  return { name: configured.name, writes: models.some(({ writes }) => writes), answersAs, reply };
}

/** The model that was asked for by name, or else the first, then the others as configured. */
function inOrder(models: readonly Model[], name: string | null): Model[] {
  const chosen = models.find((model) => model.name === name) ?? models[0]!;
  return [chosen, ...models.filter((model) => model !== chosen)];
}

/** Whether the same request to the same server may well succeed in a moment. */
function isTransient({ code, upstream }: ModelFailure): boolean {
  if (code === "model_overloaded" || code === "model_unreachable" || code === "model_stream_incomplete")
    return true;
  // A server's own 500 and 504; not our timers, and not an answer that makes no sense.
  return (code === "model_bad_response" || code === "model_timeout") && Number(upstream.status) >= 500;
}
