/** The algorithm that counts requests, with a clock of its own. */
import { describe, expect, test } from "bun:test";
import { Gcra } from "../../src/limits/gcra.ts";

const quota = { requests: 4, windowSeconds: 60 };

function limiterAt(start = 1_000, namesMax?: number) {
  const clock = { ms: start };
  return { clock, limiter: new Gcra(namesMax, () => clock.ms) };
}

describe("a quota", () => {
  test("lets as many in at once as it has, and tells when the next one may come", async () => {
    const { limiter } = limiterAt();
    const taken = [];
    for (let count = 0; count < 5; count++) taken.push(await limiter.take("a", quota));
    expect(taken).toEqual([
      { allowed: true, remaining: 3, resetSeconds: 15, retryAfterSeconds: 0 },
      { allowed: true, remaining: 2, resetSeconds: 30, retryAfterSeconds: 0 },
      { allowed: true, remaining: 1, resetSeconds: 45, retryAfterSeconds: 0 },
      { allowed: true, remaining: 0, resetSeconds: 60, retryAfterSeconds: 0 },
      { allowed: false, remaining: 0, resetSeconds: 60, retryAfterSeconds: 15 },
    ]);
  });

  test("comes back evenly: no window has an edge to crowd at", async () => {
    const { clock, limiter } = limiterAt();
    while ((await limiter.take("a", quota)).allowed);
    for (const [afterMs, allowed] of [
      [14_999, false],
      [1, true],
      [0, false],
      [15_000, true],
      [0, false],
      [30_000, true],
      [0, true],
      [0, false],
    ] as const) {
      clock.ms += afterMs;
      expect((await limiter.take("a", quota)).allowed).toBe(allowed);
    }
  });

  test("never lets through more than a burst and the rate, however it is asked", async () => {
    const { clock, limiter } = limiterAt();
    const odd = { requests: 7, windowSeconds: 60 };
    let allowed = 0;
    for (let step = 0; step < 6_000; step++) {
      clock.ms += 10 + (step % 7) * 20;
      if ((await limiter.take("a", odd)).allowed) allowed++;
    }
    const most = odd.requests + ((clock.ms - 1_000) / 60_000) * odd.requests;
    expect(allowed).toBeLessThanOrEqual(most);
    expect(allowed).toBeGreaterThan(most - 2);
  });

  test("is not used up by a refusal or by looking", async () => {
    const { clock, limiter } = limiterAt();
    expect(await limiter.look("a", quota)).toMatchObject({ allowed: true, remaining: 3 });
    expect(await limiter.look("a", quota)).toMatchObject({ allowed: true, remaining: 3 });
    while ((await limiter.take("a", quota)).allowed);
    for (let count = 0; count < 100; count++) await limiter.take("a", quota);
    expect((await limiter.look("a", quota)).allowed).toBe(false);
    clock.ms += 15_000;
    expect((await limiter.look("a", quota)).allowed).toBe(true);
  });

  test("is each name's own", async () => {
    const { limiter } = limiterAt();
    while ((await limiter.take("a", quota)).allowed);
    expect((await limiter.take("b", quota)).remaining).toBe(3);
  });
});

describe("memory", () => {
  test("is bounded, whoever comes: what wasn't used for longest is forgotten", async () => {
    const { limiter } = limiterAt(0, 1_000);
    for (let name = 0; name < 1_000_000; name++) await limiter.take(`2001:db8:${name}::/64`, quota);
    expect(limiter.size).toBe(1_000);
    expect((await limiter.look("2001:db8:999999::/64", quota)).remaining).toBe(2);
  });

  test("holds no quota for long that is whole again", async () => {
    const { clock, limiter } = limiterAt();
    for (let name = 0; name < 1_000; name++) await limiter.take(`${name}`, quota);
    clock.ms += 60_000;
    for (let count = 0; count < 1_000; count++) await limiter.take("busy", { ...quota, requests: 1e6 });
    expect(limiter.size).toBe(1);
  });
});
