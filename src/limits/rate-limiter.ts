/**
 * The port to what counts requests.
 *
 * One quota is kept for each name. In memory an instance counts for itself; where several are to count together, an
 * adapter keeps the same numbers in their database. What can't be counted is allowed: no method rejects.
 */
export interface Quota {
  /** How many may come at once, after a pause. */
  requests: number;
  /** In which as many come back, evenly. */
  windowSeconds: number;
}

export interface Taken {
  allowed: boolean;
  /** How many more may come now. */
  remaining: number;
  /** Until the quota is whole again. */
  resetSeconds: number;
  /** Until the next one is allowed; 0 where it is now. */
  retryAfterSeconds: number;
}

export interface RateLimiter {
  /** Takes one request, if it is allowed. */
  take(name: string, quota: Quota): Promise<Taken>;
  /** What `take` would say, without taking anything. */
  look(name: string, quota: Quota): Promise<Taken>;
}
