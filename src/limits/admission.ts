/**
 * Who may ask how often: by address before anything is known of a request, by key and user once they are. Addresses that
 * keep asking without a valid key are turned away before their bodies are read and their keys are looked up.
 */
import type { Server } from "bun";
import type { Authenticate, Principal } from "../auth/principal.ts";
import type { Limits } from "../config.ts";
import { AppError } from "../errors.ts";
import { clientAddress } from "./address.ts";
import { type LimitState, limitHeaders } from "./headers.ts";
import type { RateLimiter, Taken } from "./rate-limiter.ts";

const windowSeconds = 60;
/** Keys that were valid a while ago: their holders aren't turned away because of others at their address. */
const knownKeysMax = 10_000;

interface Asked {
  address: string;
  states: LimitState[];
  principal: Promise<Principal> | null;
}

/** What requests are counted by: `unauthorized` are those of an address that had no valid key. */
export type LimitedBy = "address" | "unauthorized" | "key" | "user";

export class Admission {
  readonly #asked = new WeakMap<Request, Asked>();
  /** Hashes of keys, last used last. */
  readonly #known = new Set<number | bigint>();
  readonly #perMinute: Record<LimitedBy, number>;
  readonly #needsAddress: boolean;

  /**
   * @param limiters one for each kind, so that no crowd of addresses makes what keys have taken be forgotten
   * @param needsKey false as long as everybody is let in: then nobody can fail to be
   */
  constructor(
    readonly limiters: Readonly<Record<LimitedBy, RateLimiter>>,
    readonly limits: Limits,
    readonly needsKey: () => boolean,
  ) {
    this.#perMinute = {
      address: limits.addressRequestsPerMinute,
      unauthorized: limits.unauthorizedRequestsPerMinute,
      key: limits.keyRequestsPerMinute,
      user: limits.userRequestsPerMinute,
    };
    this.#needsAddress =
      this.#perMinute.address + this.#perMinute.unauthorized + limits.addressTurnsRunningMax > 0;
  }

  /** Where a request comes from; null where no limit asks for it. */
  addressOf(request: Request): string | null {
    return this.#asked.get(request)?.address || null;
  }

  /** Counts a request that has just come. @throws rate_limited */
  async enter(request: Request, server: Server<unknown> | null): Promise<void> {
    if (!this.#needsAddress) return;
    const socket = server?.requestIP(request)?.address ?? "unknown";
    const forwardedFor = request.headers.get("x-forwarded-for");
    const address = clientAddress(socket, forwardedFor, this.limits.trustedProxies);
    this.#of(request).address = address;
    await this.#take(request, "address", address);
  }

  /** The same principals, each request counted once for its key and its user. */
  guard(authenticate: Authenticate): Authenticate {
    const { unauthorized, key, user } = this.#perMinute;
    if (unauthorized + key + user === 0) return authenticate;
    return (request) => {
      const asked = this.#of(request);
      asked.principal ??= this.#authenticate(request, authenticate);
      return asked.principal;
    };
  }

  /** Counts a request for a user that it names, unless it is the principal's own. @throws rate_limited */
  async takeForUser(request: Request, { scope }: Principal, user_id: string): Promise<void> {
    if (scope.user_id === null) await this.#take(request, "user", `${scope.workspace_id} ${user_id}`);
  }

  /** Hears of a request that was refused for want of a valid key. */
  async refused(request: Request): Promise<void> {
    const requests = this.#perMinute.unauthorized;
    const address = this.addressOf(request);
    if (requests === 0 || address === null || !this.needsKey()) return;
    this.#known.delete(hashOf(request));
    await this.limiters.unauthorized.take(address, { requests, windowSeconds });
  }

  /** Notes how further limits of a request stand. */
  note(request: Request, states: readonly LimitState[]): void {
    if (states.length > 0) this.#of(request).states.push(...states);
  }

  /** What the response to a request tells of its limits. */
  headersOf(request: Request): Record<string, string> {
    return limitHeaders(this.#asked.get(request)?.states ?? []);
  }

  #of(request: Request): Asked {
    const known = this.#asked.get(request);
    if (known !== undefined) return known;
    const asked: Asked = { address: "", states: [], principal: null };
    this.#asked.set(request, asked);
    return asked;
  }

  async #authenticate(request: Request, authenticate: Authenticate): Promise<Principal> {
    await this.#turnAwayStrangers(request);
    const principal = await authenticate(request);
    this.#remember(hashOf(request));
    await this.#take(request, "key", principal.id);
    const { workspace_id, user_id } = principal.scope;
    if (user_id !== null) await this.#take(request, "user", `${workspace_id} ${user_id}`);
    return principal;
  }

  async #turnAwayStrangers(request: Request): Promise<void> {
    const requests = this.#perMinute.unauthorized;
    const address = this.addressOf(request);
    if (requests === 0 || address === null || !this.needsKey() || this.#known.has(hashOf(request))) return;
    const looked = await this.limiters.unauthorized.look(address, { requests, windowSeconds });
    if (!looked.allowed) throw this.#tooMany(request, "unauthorized", requests, looked);
  }

  #remember(hash: number | bigint): void {
    if (this.#perMinute.unauthorized === 0) return;
    this.#known.delete(hash);
    this.#known.add(hash);
    if (this.#known.size > knownKeysMax)
      for (const oldest of this.#known) return void this.#known.delete(oldest);
  }

  async #take(request: Request, who: LimitedBy, whose: string): Promise<void> {
    const requests = this.#perMinute[who];
    if (requests === 0) return;
    const taken = await this.limiters[who].take(whose, { requests, windowSeconds });
    if (!taken.allowed) throw this.#tooMany(request, who, requests, taken);
    this.note(request, [stateOf(who, requests, taken)]);
  }

  #tooMany(request: Request, who: LimitedBy, requests: number, taken: Taken): AppError {
    this.note(request, [stateOf(who, requests, taken)]);
    const whose = who === "unauthorized" ? "address, without a valid key" : who;
    return new AppError("rate_limited", {
      detail: `More than ${requests} requests a minute came from this ${whose}.`,
      headers: { "retry-after": String(Math.max(1, Math.ceil(taken.retryAfterSeconds))) },
    });
  }
}

/** No secret: it lets a holder of a valid key past those who have none, and nobody past authentication. */
const hashOf = (request: Request): number | bigint => Bun.hash(request.headers.get("authorization") ?? "");

const stateOf = (name: string, quota: number, { remaining, resetSeconds }: Taken): LimitState => ({
  name,
  quota,
  remaining,
  windowSeconds,
  resetSeconds,
  unit: "requests",
});
