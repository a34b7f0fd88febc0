/** Rate limits over HTTP: by key, user and address, and how many turns may run at once. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { connect } from "../support/raw-client.ts";
import { type Answer, type Service, startService, testMsMax, until } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import type { StartedTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
beforeAll(() => {
  model = startModelServer();
  model.default((all) => all.reply(["Hello"]));
});
afterAll(() => model.close());

const keys = { first: "first-secret-of-16", second: "second-secret-of-16", third: "third-secret-of-16" };
const as = (key: keyof typeof keys, from?: string): Record<string, string> => ({
  authorization: `Bearer ${keys[key]}`,
  ...(from !== undefined && { "x-forwarded-for": from }),
});
const stranger = (from?: string): Record<string, string> => ({
  authorization: "Bearer somebody-elses-secret",
  ...(from !== undefined && { "x-forwarded-for": from }),
});

/** So few that none comes back while a test goes on. */
const twoAMinute = "2";

const start = (env: Record<string, string>): Promise<Service> =>
  startService({ model, env: { PARLEY_API_KEYS: Object.values(keys).join(","), ...env } });

const limitsOf = ({ headers }: Answer<unknown>) => ({
  policy: headers.get("ratelimit-policy"),
  left: headers.get("ratelimit")?.replace(/;t=\d+/g, ""),
});

function expectLimited(answer: Answer<unknown>, name: string): void {
  const { status, headers, body } = answer as Answer<Problem>;
  expect([status, body.code]).toEqual([429, "rate_limited"]);
  const retryAfter = Number(headers.get("retry-after"));
  expect(retryAfter).toBeGreaterThan(0);
  expect(retryAfter).toBeLessThanOrEqual(60);
  expect(headers.get("ratelimit")).toContain(`"${name}";r=0`);
  expect(headers.get("content-type")).toBe("application/problem+json");
}

describe("requests", () => {
  test("of a key are limited, and each answer tells what is left, also in OpenAI's words", async () => {
    await using service = await start({ PARLEY_KEY_REQUESTS_PER_MINUTE: twoAMinute });
    const first = await service.get("/v1/conversations", as("first"));
    expect([first.status, limitsOf(first)]).toEqual([200, { policy: '"key";q=2;w=60', left: '"key";r=1' }]);
    expect(first.headers.get("ratelimit")).toMatch(/^"key";r=1;t=30$/);
    expect(first.headers.get("x-ratelimit-limit-requests")).toBe("2");
    expect(first.headers.get("x-ratelimit-remaining-requests")).toBe("1");
    expect(first.headers.get("x-ratelimit-reset-requests")).toMatch(/^(30|29\.\d+)s$/);
    const missing = await service.get("/v1/turns/nothing", as("first"));
    expect([missing.status, limitsOf(missing).left]).toEqual([404, '"key";r=0']);
    const third = await service.get("/v1/conversations", as("first"));
    expectLimited(third, "key");
    expect(third.headers.get("x-ratelimit-remaining-requests")).toBe("0");
    expect(third.headers.get("x-ratelimit-reset-requests")).toMatch(/^(1m0|[1-5]?\d(\.\d+)?)s$/);
    expect((await service.get("/v1/conversations", as("second"))).status).toBe(200);
  });

  test("for a user are limited, whoever asks for them and however", async () => {
    await using service = await start({ PARLEY_USER_REQUESTS_PER_MINUTE: twoAMinute });
    const chat = (user_id: string, key: keyof typeof keys) =>
      service.post("/v1/chat", { user_id, message: "Hi" }, as(key));
    expect(limitsOf(await chat("ada", "first"))).toEqual({ policy: '"user";q=2;w=60', left: '"user";r=1' });
    const streamed = await service.fetch("/v1/chat/stream?user_id=ada&message=Hi", { headers: as("second") });
    expect(streamed.headers.get("ratelimit")).toStartWith('"user";r=0');
    await readTranscript(streamed);
    const asked = model.requests.length;
    expectLimited(await chat("ada", "third"), "user");
    expect(model.requests.length).toBe(asked);
    expect((await chat("ben", "first")).status).toBe(200);
  });

  test("from an address are limited before anything else; a header alone makes no other address", async () => {
    await using service = await start({ PARLEY_ADDRESS_REQUESTS_PER_MINUTE: twoAMinute });
    expect((await service.get("/v1/conversations", as("first"))).status).toBe(200);
    expect((await service.get("/v1/conversations")).status).toBe(401);
    for (const from of ["198.51.100.1", "198.51.100.2, 198.51.100.3"]) {
      expectLimited(await service.get("/v1/conversations", as("first", from)), "address");
    }
    expectLimited(await service.get("/openapi.json"), "address");
  });

  test("from behind trusted proxies are told apart by what the proxies say", async () => {
    const env = { PARLEY_ADDRESS_REQUESTS_PER_MINUTE: twoAMinute, PARLEY_TRUSTED_PROXIES: "1" };
    await using service = await start(env);
    const ask = (from: string) => service.get("/v1/conversations", as("first", from));
    // What stands before the proxy's own entry is the client's claim.
    for (const claim of ["1.1.1.1, ", "2.2.2.2, "])
      expect((await ask(`${claim}198.51.100.1`)).status).toBe(200);
    expectLimited(await ask("3.3.3.3, 198.51.100.1"), "address");
    expect((await ask("198.51.100.2")).status).toBe(200);
  });

  test("of probes are answered under any limit", async () => {
    await using service = await start({ PARLEY_ADDRESS_REQUESTS_PER_MINUTE: "1" });
    for (let count = 0; count < 5; count++) {
      for (const path of ["/health", "/ready"]) expect((await service.get(path)).status).toBe(200);
    }
  });

  test("are not limited, and told nothing about, where nothing is configured", async () => {
    await using service = await startService({ model });
    for (let count = 0; count < 50; count++) {
      const { status, headers } = await service.get("/v1/conversations");
      expect([status, headers.get("ratelimit"), headers.get("ratelimit-policy")]).toEqual([200, null, null]);
    }
  });
});

describe("requests without a valid key", () => {
  const env = { PARLEY_UNAUTHORIZED_REQUESTS_PER_MINUTE: twoAMinute, PARLEY_TRUSTED_PROXIES: "1" };

  test("are turned away by address once there were too many, before their body is read", async () => {
    await using service = await start(env);
    const from = "198.51.100.1";
    for (const headers of [stranger(from), { "x-forwarded-for": from }]) {
      expect((await service.get("/v1/conversations", headers)).status).toBe(401);
    }
    expectLimited(await service.get("/v1/conversations", stranger(from)), "unauthorized");
    expectLimited(await service.get("/v1/conversations", { "x-forwarded-for": from }), "unauthorized");
    const connection = await connect(service.port);
    connection.write(
      `POST /v1/chat HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: ${from}\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n{`,
    );
    await until("it is answered", () => connection.received.includes("\r\n\r\n"));
    expect(connection.received.toString()).toStartWith("HTTP/1.1 429");
    connection.close();
    expect((await service.get("/v1/conversations", stranger("198.51.100.2"))).status).toBe(401);
  });

  test("lock out nobody whose key is known already, and whoever comes from elsewhere", async () => {
    await using service = await start(env);
    const from = "198.51.100.1";
    expect((await service.get("/v1/conversations", as("first", from))).status).toBe(200);
    for (let count = 0; count < 2; count++) await service.get("/v1/conversations", stranger(from));
    expectLimited(await service.get("/v1/conversations", stranger(from)), "unauthorized");
    expect((await service.get("/v1/conversations", as("first", from))).status).toBe(200);
    // A key that nobody has seen is as good as none, as long as it isn't looked up.
    expectLimited(await service.get("/v1/conversations", as("second", from)), "unauthorized");
    expect((await service.get("/v1/conversations", as("second", "198.51.100.2"))).status).toBe(200);
    expect((await service.get("/v1/conversations", as("second", from))).status).toBe(200);
  });

  test("with the ticket of another turn count too", async () => {
    await using service = await start(env);
    const { body } = await service.post<StartedTurn>(
      "/v1/turns",
      { user_id: "ada", message: "Hi" },
      as("first"),
    );
    const path = `/v1/turns/${body.id}/stream?ticket=forged`;
    for (let count = 0; count < 2; count++) expect((await service.get(path)).status).toBe(401);
    expectLimited(await service.get("/v1/conversations", stranger()), "unauthorized");
  });

  test("don't exist where no key is configured", async () => {
    await using service = await startService({
      model,
      env: { PARLEY_UNAUTHORIZED_REQUESTS_PER_MINUTE: "1" },
    });
    for (let count = 0; count < 5; count++) {
      expect((await service.get("/v1/conversations", stranger())).status).toBe(200);
    }
  });
});

describe("turns at once", () => {
  const turn = (service: Service, user_id: string, key: keyof typeof keys, headers = {}) =>
    service.post<StartedTurn>("/v1/turns", { user_id, message: "Hi" }, { ...as(key), ...headers });

  type Asking = [user_id: string, key: keyof typeof keys];
  const cases: [who: string, variable: string, same: Asking, other: Asking][] = [
    ["user", "PARLEY_USER_TURNS_RUNNING_MAX", ["ada", "second"], ["ben", "first"]],
    ["key", "PARLEY_KEY_TURNS_RUNNING_MAX", ["ben", "first"], ["ada", "second"]],
  ];

  test.each(cases)(
    "of a %s are limited, and go on when one has ended",
    async (who, variable, same, other) => {
      await using service = await start({ [variable]: "2" });
      const held = [model.hold(), model.hold()];
      const first = await turn(service, "ada", "first");
      expect(limitsOf(first)).toEqual({
        policy: `"${who}-turns";q=2;qu="concurrent-requests"`,
        left: `"${who}-turns";r=1`,
      });
      await held[0]!.request;
      const second = await turn(service, "ada", "first");
      expect([second.status, limitsOf(second).left]).toEqual([202, `"${who}-turns";r=0`]);
      const refused = await turn(service, ...same);
      expect([refused.status, (refused.body as unknown as Problem).code]).toEqual([429, "rate_limited"]);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
      expect((await turn(service, ...other)).status).toBe(202);
      await Promise.all(held.map(({ request }) => request));
      held[0]!.finish();
      await untilOver(service, first.body.id);
      expect((await turn(service, ...same)).status).toBe(202);
      held[1]!.finish();
    },
  );

  /** With a key. */
  const untilOver = (service: Service, id: string): Promise<void> =>
    until("the turn has ended", async () => {
      const { body } = await service.get<StartedTurn>(`/v1/turns/${id}`, as("first"));
      return body.status !== "running";
    });

  test("of an address are limited", async () => {
    await using service = await start({ PARLEY_ADDRESS_TURNS_RUNNING_MAX: "1", PARLEY_TRUSTED_PROXIES: "1" });
    const from = (address: string) => ({ "x-forwarded-for": address });
    const held = model.hold();
    expect((await turn(service, "ada", "first", from("198.51.100.1"))).status).toBe(202);
    await held.request;
    expect((await turn(service, "ben", "second", from("198.51.100.1"))).status).toBe(429);
    expect((await turn(service, "ben", "second", from("198.51.100.2"))).status).toBe(202);
    held.finish();
  });

  test("find their retries, and lose no place to what is refused for another reason", async () => {
    await using service = await start({
      PARLEY_USER_TURNS_RUNNING_MAX: "2",
      PARLEY_BUDGETS: "key 0 tokens/day",
    });
    for (let count = 0; count < 5; count++) {
      const refused = await turn(service, "ada", "first");
      expect((refused.body as unknown as Problem).code).toBe("budget_exhausted");
    }
    await service.stop();
    await service.restart({ PARLEY_BUDGETS: "" });
    const held = [model.hold(), model.hold()];
    const key = { "idempotency-key": "again" };
    const first = await turn(service, "ada", "first", key);
    await held[0]!.request;
    const second = await turn(service, "ada", "first");
    expect([first.status, second.status]).toEqual([202, 202]);
    const again = await turn(service, "ada", "first", key);
    expect([again.status, again.body.id]).toEqual([202, first.body.id]);
    await held[1]!.request;
    for (const turn of held) turn.finish();
  });
});
