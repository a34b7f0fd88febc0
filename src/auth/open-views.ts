/** Connections that watch for long, and end when their key is revoked, or their key or token expires. */
import { type Principal, unauthorized } from "./principal.ts";

interface OpenView {
  readonly principal: Principal;
  readonly end: () => void;
}

export interface View {
  /** Says that the client has gone, or that it may watch no more. */
  readonly signal: AbortSignal;
  /** Whether it is the latter. */
  readonly ended: () => boolean;
  /** To be called when nothing is watched any more. */
  readonly close: () => void;
}

export class OpenViews {
  readonly #open = new Set<OpenView>();

  /** @param principal null where a ticket stands for it, which is valid by itself */
  view(principal: Principal | null, { signal }: Request): View {
    if (principal === null || (principal.key_id === undefined && principal.expires_at === undefined)) {
      return { signal, ended: () => false, close() {} };
    }
    const controller = new AbortController();
    let ended = false;
    const entry: OpenView = {
      principal,
      end: () => {
        ended = true;
        controller.abort();
      },
    };
    const leave = (): void => {
      close();
      controller.abort();
    };
    const close = (): void => {
      this.#open.delete(entry);
      signal.removeEventListener("abort", leave);
    };
    this.#open.add(entry);
    signal.addEventListener("abort", leave);
    if (signal.aborted) leave();
    return { signal: controller.signal, ended: () => ended, close };
  }

  /**
   * A file, piece by piece, for as long as its reader may have it; then the connection breaks, so that nobody takes a
   * part for the whole.
   */
  async *file<Piece>(
    principal: Principal,
    request: Request,
    pieces: AsyncIterable<Piece>,
  ): AsyncGenerator<Piece, void, void> {
    const view = this.view(principal, request);
    try {
      for await (const piece of pieces) {
        if (view.ended()) throw unauthorized();
        yield piece;
      }
    } finally {
      view.close();
    }
  }

  /** Ends those of revoked keys, and those whose key or token has expired. The turns that they watch run on. */
  endDue(revokedKeys: readonly string[], nowSeconds: number): void {
    if (this.#open.size === 0) return;
    const revoked = new Set(revokedKeys);
    for (const view of this.#open) {
      const { key_id, expires_at } = view.principal;
      const isRevoked = key_id !== undefined && revoked.has(key_id);
      if (!isRevoked && (expires_at === undefined || expires_at > nowSeconds)) continue;
      this.#open.delete(view);
      view.end();
    }
  }
}
