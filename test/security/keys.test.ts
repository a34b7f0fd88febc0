/** Attacks on keys and tickets: near misses, wider ones, and headers that claim to be what they aren't. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Problem } from "../../src/http/problem.ts";
import { adminKey, bearer, guardedEnv, makeKey, makeToken, plain, signedToken } from "../support/keys.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";
import type { StartedTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

const list = "/v1/conversations";
/** Two keys of the environment that differ in their last character alone. */
const twins = [
  "a-long-prefix-that-is-shared-0123456789a",
  "a-long-prefix-that-is-shared-0123456789b",
] as const;

let model: ModelServer;
let service: Service;
beforeAll(async () => {
  model = startModelServer();
  model.default((script) => script.reply(["Hi."]));
  const env = { ...guardedEnv, PARLEY_API_KEYS: `${guardedEnv.PARLEY_API_KEYS},${twins.join(",")}` };
  service = await startService({ model, env });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const startTurn = async (key: string, user_id = "ada"): Promise<StartedTurn> =>
  (await service.post<StartedTurn>("/v1/turns", { user_id, message: "Hello" }, bearer(key))).body;

describe("keys that share a long prefix", () => {
  test("are two, and whatever lies between them is none", async () => {
    const headers = (key: string) => ({ ...bearer(key), "idempotency-key": "the-same" });
    const turns = new Set<string>();
    for (const key of twins) {
      const body = { user_id: "ada", message: "Hello" };
      turns.add((await service.post<{ turn_id: string }>("/v1/chat", body, headers(key))).body.turn_id);
    }
    // Each principal has idempotency keys of its own.
    expect(turns.size).toBe(2);
    const [one] = twins;
    for (const near of [one.slice(0, -1), `${one.slice(0, -1)}c`, `${one}a`, one.slice(0, 16)]) {
      expect((await service.get(list, bearer(near))).status).toBe(401);
    }
  });

  test("of the database: nothing but all of a key opens anything", async () => {
    const { id, key } = await makeKey(service, {});
    const [start, shown, secret] = key.split("_") as [string, string, string];
    const other = (await makeKey(service, {})).key.split("_");
    for (const near of [
      key.slice(0, -1),
      `${key}0`,
      `${key.slice(0, -1)}${key.endsWith("0") ? "1" : "0"}`,
      key.toUpperCase(),
      id,
      secret,
      `${start}_${shown}_`,
      `${start}_${shown}_${"0".repeat(64)}`,
      // The secret of one with the id of another.
      `${start}_${other[1]}_${secret}`,
      `${start}_${shown}_${other[2]}`,
      `${key} ${key}`,
      new Bun.CryptoHasher("sha256").update(key).digest("hex"),
      "parley_%_%",
      "' or 1=1 --",
    ]) {
      expect([near, (await service.get(list, bearer(near))).status]).toEqual([near, 401]);
    }
    expect((await service.get(list, bearer(key))).status).toBe(200);
  });
});

describe("minting wider keys", () => {
  const inHours = (hours: number): number => Math.floor(Date.now() / 1000) + hours * 3600;

  const expectForbidden = async (by: string, request: Record<string, unknown>): Promise<void> => {
    const body = { name: "wider", role: "service", ...request };
    const answer = await service.post<Problem>("/v1/keys", body, bearer(by));
    expect([request, answer.status, answer.body.code]).toEqual([request, 403, "forbidden"]);
  };

  test("for another workspace, which doesn't even come into being", async () => {
    const admin = await makeKey(service, { role: "admin", workspace: "narrow" });
    for (const workspace of ["default", "wide", "narrow-not"]) {
      for (const role of ["admin", "service"]) await expectForbidden(admin.key, { role, workspace });
      await expectForbidden(admin.key, { role: "user", user_id: "ada", workspace });
    }
    const own = await makeKey(service, { role: "admin", workspace: "narrow" }, admin.key);
    await expectForbidden(own.key, { workspace: "default" });
    for (const [workspace, status] of [
      ["narrow", 200],
      ["wide", 401],
      ["narrow-not", 401],
    ] as const) {
      expect((await service.get(list, bearer(await signedToken({ workspace })))).status).toBe(status);
    }
  });

  test("that work longer than the one that makes them", async () => {
    const expires_at = inHours(1);
    const admin = await makeKey(service, { role: "admin", expires_at });
    await expectForbidden(admin.key, { expires_at: expires_at + 1 });
    await expectForbidden(admin.key, { expires_at: 99_999_999_999 });
    expect((await makeKey(service, {}, admin.key)).expires_at).toBe(expires_at);
    expect((await makeKey(service, { expires_at: null }, admin.key)).expires_at).toBe(expires_at);
    expect((await makeKey(service, { expires_at: expires_at - 60 }, admin.key)).expires_at).toBe(
      expires_at - 60,
    );
  });

  test("by keys and tokens that are no admin's", async () => {
    const bound = await makeKey(service, { role: "user", user_id: "ada" });
    const serviceKey = await makeKey(service, {});
    for (const by of [bound.key, serviceKey.key, await makeToken(service, serviceKey.key, "ada"), twins[0]]) {
      for (const role of ["admin", "service"]) await expectForbidden(by, { role });
      await expectForbidden(by, { role: "user", user_id: "ada" });
    }
  });

  test("or tokens: for another workspace, or with claims of the sender's own", async () => {
    const { key } = await makeKey(service, { workspace: "tokens" });
    for (const wider of [{ workspace: "default" }, { role: "admin" }, { sub: "eve" }, { expires_at: 9e9 }]) {
      const answer = await service.post<Problem>("/v1/users/ada/tokens", wider, bearer(key));
      expect([wider, answer.status, answer.body.code]).toEqual([wider, 400, "invalid_request"]);
    }
  });
});

describe("tickets", () => {
  test("for another turn, of another workspace, or with a workspace changed, open nothing", async () => {
    const elsewhere = await makeKey(service, { workspace: "tickets" });
    const [one, two, far] = [
      await startTurn(twins[0]),
      await startTurn(twins[0]),
      await startTurn(elsewhere.key),
    ];
    const ticketOf = ({ stream_url }: StartedTurn): string => stream_url.split("ticket=")[1]!;
    const open = (id: string, ticket: string) =>
      service.fetch(`/v1/turns/${id}/stream?ticket=${encodeURIComponent(ticket)}`);
    for (const turn of [one, two, far]) expect((await open(turn.id, ticketOf(turn))).status).toBe(200);
    expect(ticketOf(far)).toStartWith("tickets.");
    const [, mac] = ticketOf(one).split(".");
    for (const [turn, ticket] of [
      [two, ticketOf(one)],
      [far, ticketOf(one)],
      [one, ticketOf(far)],
      [far, `default.${ticketOf(far).split(".")[1]}`],
      [one, `tickets.${mac}`],
      [one, `.${mac}`],
      [one, `${mac}`],
      [one, `default.${mac}x`],
      [one, `default.${mac?.slice(0, -1)}`],
      [one, `default.default.${mac}`],
      [one, "default."],
      [one, "."],
    ] as const) {
      const response = await open(turn.id, ticket);
      expect([ticket, response.status]).toEqual([ticket, 401]);
    }
    // A ticket that is no good isn't made up for by a key, nor is it one.
    const both = await service.fetch(`/v1/turns/${two.id}/stream?ticket=${ticketOf(one)}`, {
      headers: bearer(twins[0]),
    });
    expect(both.status).toBe(401);
    expect((await service.get(list, bearer(ticketOf(one)))).status).toBe(401);
    for (const path of ["", "/receipt", "/stop"]) {
      const method = path === "/stop" ? "POST" : "GET";
      const response = await service.fetch(`/v1/turns/${one.id}${path}?ticket=${ticketOf(one)}`, { method });
      expect(response.status).toBe(401);
    }
  });
});

describe("headers that claim to be what they aren't", () => {
  /** A request with exactly these header lines. */
  const ask = (to: Service, ...lines: string[]) =>
    rawRequest(
      to.port,
      `GET ${list} HTTP/1.1\r\n${lines.map((line) => `${line}\r\n`).join("")}connection: close\r\n\r\n`,
    );
  const host = "host: 127.0.0.1";

  test("several Authorization headers, or several keys in one: none of them counts", async () => {
    const good = `authorization: Bearer ${twins[0]}`;
    const bad = "authorization: Bearer wrong-key-0123456789";
    for (const lines of [
      [good, bad],
      [bad, good],
      [good, good],
      ["authorization: Basic YTpi", good],
      [`authorization: Bearer ${twins[0]}, Bearer ${twins[1]}`],
      [`authorization: Bearer ${twins[0]},${twins[1]}`],
    ]) {
      expect([lines, (await ask(service, host, ...lines)).status]).toEqual([lines, 401]);
    }
    expect((await ask(service, host, good)).status).toBe(200);
  });

  test("other schemes with a good key, and other headers; the scheme's case doesn't matter (RFC 9110)", async () => {
    const [key] = twins;
    for (const line of [
      `authorization: Basic ${btoa(`:${key}`)}`,
      `authorization: Basic ${btoa(`${key}:`)}`,
      `authorization: Digest ${key}`,
      `authorization: ${key}`,
      `authorization: Bearer:${key}`,
      `authorization: BearerX ${key}`,
      `authorization: Bearer\u00a0${key}`,
      `proxy-authorization: Bearer ${key}`,
      `x-api-key: ${key}`,
      `api-key: ${key}`,
      `cookie: authorization=Bearer%20${key}`,
      `x-forwarded-authorization: Bearer ${key}`,
      `x-original-authorization: Bearer ${key}`,
    ]) {
      expect([line, (await ask(service, host, line)).status]).toEqual([line, 401]);
    }
    for (const scheme of ["Bearer", "bearer", "BEARER", "bEaReR"]) {
      expect((await ask(service, host, `authorization: ${scheme} ${key}`)).status).toBe(200);
    }
  });

  const forwarded = [
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-host: localhost",
    "x-real-ip: 127.0.0.1",
    "forwarded: for=127.0.0.1;host=localhost",
    "x-forwarded-user: admin",
    "x-user-id: ada",
    "x-workspace: default",
    "x-http-method-override: GET",
    "x-original-url: /health",
    "x-rewrite-url: /health",
  ];

  test("what a proxy would say of who is asking opens nothing", async () => {
    for (const line of forwarded) {
      expect([line, (await ask(service, host, line)).status]).toEqual([line, 401]);
    }
    expect((await ask(service, host, ...forwarded)).status).toBe(401);
  });

  test("nor makes a foreign name this machine's own, where there is no key", async () => {
    await using open = await startService();
    expect((await ask(open, host)).status).toBe(200);
    for (const line of forwarded) {
      expect([line, (await ask(open, "host: evil.example", line)).status]).toEqual([line, 403]);
      const foreign = await ask(open, host, "origin: https://evil.example", line);
      expect([line, foreign.status]).toEqual([line, 403]);
    }
  });

  test("nor widens what a key may do", async () => {
    const { key } = await makeKey(service, { role: "user", user_id: "eve" });
    const claims = Object.fromEntries(forwarded.map((line) => line.split(": ") as [string, string]));
    const headers = { ...claims, ...bearer(key) };
    expect((await service.get("/v1/users/ada/profile", headers)).status).toBe(404);
    expect((await service.get("/v1/keys", headers)).status).toBe(403);
  });
});

test("every wrong key gets one and the same answer", async () => {
  const answers = await Promise.all(
    [
      "wrong",
      "parley_000000000000_",
      `parley_000000000000_${"0".repeat(64)}`,
      "eyJ.eyJ.x",
      adminKey.slice(1),
    ].map((key) => service.get<Problem>(list, bearer(key))),
  );
  for (const answer of answers) {
    expect([answer.status, plain(answer)]).toEqual([401, plain(answers[0]!)]);
    expect(answer.headers.get("www-authenticate")).toBe('Bearer realm="parley"');
  }
});
