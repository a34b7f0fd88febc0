/** Keys of the database: made at the command line or by an admin, told once, and gone within seconds when revoked. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Key } from "../../src/auth/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { adminKey, bearer, guardedEnv, type MadeKey, makeKey, makeToken, plain } from "../support/keys.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { rawRequest } from "../support/raw-client.ts";
import {
  runParley,
  type Service,
  serviceEnv,
  startService,
  temporaryDirectory,
  testMsMax,
  until,
} from "../support/service.ts";

setDefaultTimeout(testMsMax);

const list = "/v1/conversations";
const asAdmin = bearer(adminKey);

let model: ModelServer;
let service: Service;
beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model, env: guardedEnv });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

const directories: string[] = [];
function newDirectory(): string {
  const directory = temporaryDirectory();
  directories.push(directory);
  return directory;
}

const statusFor = async (to: Service, key: string): Promise<number> =>
  (await to.get(list, bearer(key))).status;

const keysOf = async (by: string, query = ""): Promise<Key[]> =>
  (await service.get<{ keys: Key[] }>(`/v1/keys${query}`, bearer(by))).body.keys;

const keyIn = async (id: string): Promise<Key> =>
  (await keysOf(adminKey, "?limit=100")).find((key) => key.id === id)!;

const revoke = (id: string, by = adminKey) =>
  service.send<Key>("DELETE", `/v1/keys/${id}`, undefined, bearer(by));

/** Runs `parley keys` on a data directory. */
const keys = (dataDir: string, ...args: string[]) => runParley(["keys", ...args], serviceEnv(dataDir, {}));

/** All bytes of a data directory, as text. */
const filesOf = async (directory: string): Promise<string> =>
  (await Promise.all(readdirSync(directory).map((file) => Bun.file(join(directory, file)).bytes())))
    .map((bytes) => Buffer.from(bytes).toString("latin1"))
    .join("\n");

describe("parley keys", () => {
  test("makes the first key while the service runs, which is open to nobody else from then on", async () => {
    await using open = await startService();
    expect((await open.get(list)).status).toBe(200);
    const made = await keys(open.dataDir, "create", "web");
    expect(made).toMatchObject({ exitCode: 0, stderr: "" });
    expect(made.stdout).toMatch(/^parley_[0-9a-f]{12}_[0-9a-f]{64}\n$/);
    const key = made.stdout.trim();
    await until("nobody else is served", async () => (await open.get(list)).status === 401);
    expect(await statusFor(open, key)).toBe(200);
    // Names and origins don't matter any more, the key does.
    const foreign = `GET ${list} HTTP/1.1\r\nhost: chat.example\r\nconnection: close\r\n`;
    await until(
      "foreign names are served",
      async () =>
        (await rawRequest(open.port, `${foreign}authorization: Bearer ${key}\r\n\r\n`)).status === 200,
    );
    expect((await rawRequest(open.port, `${foreign}\r\n`)).status).toBe(401);

    const listed = await keys(open.dataDir, "list");
    const [head, row, ...rest] = listed.stdout.trim().split("\n");
    expect(head).toStartWith("ID");
    expect(row).toContain(`${key.slice(0, 19)}_…`);
    expect(row).toContain("web");
    expect(rest).toEqual([]);
    expect(listed.stdout).not.toContain(key.slice(20));

    const id = row!.split(" ")[0]!;
    const revoked = await keys(open.dataDir, "revoke", id);
    expect(revoked).toMatchObject({ exitCode: 0, stdout: `revoked web (${id})\n` });
    await until("the key is gone", async () => (await statusFor(open, key)) === 401);
    expect((await open.get(list)).status).toBe(401);
    await open.kill();
    await open.restart();
    expect((await open.get(list)).status).toBe(401);
    expect((await keys(open.dataDir, "list")).stdout).toContain("revoked 20");
  });

  test("makes a key that works at once, however new it is", async () => {
    await using open = await startService();
    const { stdout } = await keys(open.dataDir, "create", "boss", "--role", "admin");
    expect((await open.get("/v1/keys", bearer(stdout.trim()))).status).toBe(200);
    expect((await open.get(list)).status).toBe(401);
  });

  test("makes one before the first start, and a wider host is allowed then", async () => {
    const dataDir = newDirectory();
    const refused = await runParley(["serve"], serviceEnv(dataDir, { env: { PARLEY_HOST: "0.0.0.0" } }));
    expect(refused.exitCode).toBe(1);
    const { stdout } = await keys(dataDir, "create", "first", "--role", "admin", "--expires-in", "2h");
    await using wide = await startService({ dataDir, env: { PARLEY_HOST: "0.0.0.0" } });
    const ask = (header: string) =>
      rawRequest(
        wide.port,
        `GET ${list} HTTP/1.1\r\nhost: chat.example\r\nconnection: close\r\n${header}\r\n`,
      );
    expect((await ask("")).status).toBe(401);
    expect((await ask(`authorization: Bearer ${stdout.trim()}\r\n`)).status).toBe(200);
  });

  test("makes several at once where there is nothing yet, and a service finds them", async () => {
    const dataDir = newDirectory();
    const names = ["one", "two", "three", "four"];
    const made = await Promise.all(names.map((name) => keys(dataDir, "create", name)));
    expect(made.map(({ exitCode, stderr }) => [exitCode, stderr])).toEqual(names.map(() => [0, ""]));
    await using started = await startService({ dataDir });
    for (const { stdout } of made) expect(await statusFor(started, stdout.trim())).toBe(200);
    expect((await keys(dataDir, "list")).stdout.trim().split("\n")).toHaveLength(5);
  });

  test("makes keys of every kind, also for a new workspace", async () => {
    const { dataDir } = service;
    const made = await keys(
      dataDir,
      ...["create", "Ada's", "--role", "user", "--user", "ada", "--workspace", "cli", "--expires-in", "90d"],
    );
    const key = made.stdout.trim();
    const [found] = (await keysOf(adminKey, "?limit=1"))!;
    const inDays = (found!.expires_at! - Date.now() / 1000) / 86_400;
    expect(found).toMatchObject({ name: "Ada's", role: "user", user_id: "ada", workspace: "cli" });
    expect([inDays > 89.9, inDays < 90.1]).toEqual([true, true]);
    expect(key).toStartWith(`${found!.prefix}_`);
    model.reply(["Hi."]);
    const asked = await service.post("/v1/chat", { user_id: "ada", message: "Hello" }, bearer(key));
    expect(asked.status).toBe(200);
  });

  test("says in one line what is wrong", async () => {
    const wrong = [
      [],
      ["create"],
      ["create", " "],
      ["create", "a", "b"],
      ["create", "a", "--role", "root"],
      ["create", "a", "--role", "user"],
      ["create", "a", "--user", "ada"],
      ["create", "a", "--workspace", "A b"],
      ["create", "a", "--expires-in", "0d"],
      ["create", "a", "--expires-in", "soon"],
      ["list", "--role", "admin"],
      ["revoke"],
      ["drop", "key_1"],
    ];
    const directory = newDirectory();
    for (const args of wrong) {
      const { exitCode, stdout, stderr } = await keys(directory, ...args);
      expect({ args, exitCode, stdout }).toEqual({ args, exitCode: 2, stdout: "" });
      expect(stderr).toMatch(/^parley: [^\n]+\n$/);
    }
    expect(readdirSync(directory)).toEqual([]);
    expect(await keys(directory, "revoke", "key_1")).toMatchObject({ exitCode: 1, stdout: "" });
    const nowhere = await keys(`${process.execPath}/data`, "list");
    expect(nowhere).toMatchObject({ exitCode: 1, stdout: "" });
    expect(nowhere.stderr).toMatch(/^parley: the data directory [^\n]+ can't be used: [^\n]+\n$/);
  });
});

describe("an admin", () => {
  test("makes a key, which is told this once, and kept as a hash", async () => {
    const answer = await service.post<MadeKey & Key>("/v1/keys", { name: "shop", role: "service" }, asAdmin);
    expect(answer.status).toBe(201);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const { key, ...told } = answer.body;
    expect(key).toMatch(/^parley_[0-9a-f]{12}_[0-9a-f]{64}$/);
    expect(key.split("_")[1]).toBe(told.id.slice(-12));
    expect(told).toEqual({
      id: expect.stringMatching(/^key_/),
      object: "key",
      name: "shop",
      prefix: key.slice(0, 19),
      role: "service",
      workspace: "default",
      user_id: null,
      created_at: expect.any(Number),
      expires_at: null,
      last_used_at: null,
      revoked_at: null,
    });
    expect(await keyIn(told.id)).toEqual(told);
    expect(await statusFor(service, key)).toBe(200);
    const stored = await filesOf(service.dataDir);
    expect(stored).toContain(told.id);
    expect(stored).not.toContain(key.split("_")[2]!);
  });

  test("lists keys newest first, page by page", async () => {
    const { key: lister } = await makeKey(service, { role: "admin", workspace: "paged" });
    const made = [];
    for (let count = 0; count < 4; count++) made.unshift((await makeKey(service, {}, lister)).id);
    const seen: string[] = [];
    for (let after = ""; ; ) {
      const { body } = await service.get<{ keys: Key[]; has_more: boolean; next_after: string | null }>(
        `/v1/keys?limit=2${after}`,
        bearer(lister),
      );
      seen.push(...body.keys.map(({ id }) => id));
      expect(body.has_more).toBe(body.next_after !== null);
      if (body.next_after === null) break;
      after = `&after=${body.next_after}`;
    }
    expect(seen.slice(0, -1)).toEqual(made);
    expect(seen).toHaveLength(5);
  });

  test("of the database sees, makes and revokes keys of its workspace alone; one of the environment all", async () => {
    const { key: admin, id } = await makeKey(service, { role: "admin", workspace: "inner" });
    const outer = await makeKey(service, { workspace: "outer" });
    expect((await keysOf(admin)).map((key) => key.id)).toEqual([id]);
    expect((await keysOf(adminKey, "?limit=100")).map((key) => key.id)).toEqual(
      expect.arrayContaining([id, outer.id]),
    );
    expect((await revoke(outer.id, admin)).status).toBe(404);
    expect((await keyIn(outer.id)).revoked_at).toBeNull();
    const inner = await makeKey(service, { role: "user", user_id: "ada" }, admin);
    expect(await keyIn(inner.id)).toMatchObject({ workspace: "inner" });
    expect((await revoke(inner.id, admin)).body.revoked_at).toBeGreaterThan(0);
  });

  test("is told every fault of a request", async () => {
    const bad = async (body: Record<string, unknown>) => {
      const answer = await service.post<Problem>("/v1/keys", body, asAdmin);
      expect(answer.status).toBe(400);
      return answer.body.errors?.map(({ path }) => path).toSorted();
    };
    expect(await bad({})).toEqual(["body.name", "body.role"]);
    expect(await bad({ name: " ", role: "root", workspace: "A b", key: "x" })).toEqual([
      "body.key",
      "body.name",
      "body.role",
      "body.workspace",
    ]);
    expect(await bad({ name: "a", role: "user", expires_at: 1 })).toEqual([
      "body.expires_at",
      "body.user_id",
    ]);
    expect(await bad({ name: "a", role: "service", user_id: "ada" })).toEqual(["body.user_id"]);
  });

  test("alone manages keys: for all others they are forbidden", async () => {
    const serviceKey = await makeKey(service, {});
    const userKey = await makeKey(service, { role: "user", user_id: "ada" });
    const token = await makeToken(service, serviceKey.key, "ada");
    await using open = await startService();
    for (const ask of [
      (method: string, path: string, body?: unknown) =>
        service.send<Problem>(method, path, body, bearer(serviceKey.key)),
      (method: string, path: string, body?: unknown) =>
        service.send<Problem>(method, path, body, bearer(userKey.key)),
      (method: string, path: string, body?: unknown) =>
        service.send<Problem>(method, path, body, bearer(token)),
      (method: string, path: string, body?: unknown) => open.send<Problem>(method, path, body),
    ]) {
      for (const [method, path, body] of [
        ["GET", "/v1/keys"],
        ["POST", "/v1/keys", { name: "mine", role: "service" }],
        ["DELETE", `/v1/keys/${serviceKey.id}`],
      ] as const) {
        const answer = await ask(method, path, body);
        expect([method, answer.status, answer.body.code]).toEqual([method, 403, "forbidden"]);
      }
    }
    expect(await statusFor(service, serviceKey.key)).toBe(200);
  });
});

test("a key that never was, was revoked, or has expired gets one and the same answer", async () => {
  const hours = Math.floor(Date.now() / 1000) + 7_200;
  const [gone, brief] = [await makeKey(service, {}), await makeKey(service, { expires_at: hours })];
  for (const { key } of [gone, brief]) expect(await statusFor(service, key)).toBe(200);
  expect((await revoke(gone.id)).body.revoked_at).toBeGreaterThan(0);
  // As if the hours had passed.
  {
    using db = new Database(join(service.dataDir, "parley.db"));
    db.query("update keys set expires_at = unixepoch() where id = ?").run(brief.id);
  }
  const ask = (key: string) => service.get<Problem>(list, bearer(key));
  await until("both are gone", async () => {
    const answers = await Promise.all([ask(gone.key), ask(brief.key)]);
    return answers.every(({ status }) => status === 401);
  });
  const never = await ask(gone.key.replace(/.$/, (last) => (last === "0" ? "1" : "0")));
  for (const { key } of [gone, brief]) {
    const answer = await ask(key);
    expect(plain(answer)).toEqual(plain(never));
    expect(answer.headers.get("www-authenticate")).toBe(never.headers.get("www-authenticate"));
  }
  // Revoking again, or what has expired, changes nothing that was told before.
  const { revoked_at } = await keyIn(gone.id);
  expect((await revoke(gone.id)).body.revoked_at).toBe(revoked_at);
});

test("the use of a key is noted, and not again within a minute", async () => {
  const { id, key } = await makeKey(service, {});
  expect(await statusFor(service, key)).toBe(200);
  await until("its use is noted", async () => (await keyIn(id)).last_used_at !== null);
  const { last_used_at } = await keyIn(id);
  expect(Math.abs(last_used_at! - Date.now() / 1000)).toBeLessThan(20);
  await until("it is another second", async () => Date.now() / 1000 > last_used_at! + 2);
  const other = await makeKey(service, {});
  for (const used of [key, other.key]) expect(await statusFor(service, used)).toBe(200);
  await until("a later use of another is noted", async () => (await keyIn(other.id)).last_used_at !== null);
  expect((await keyIn(id)).last_used_at).toBe(last_used_at);
});

test("a DELETE of a user revokes the keys that are bound to them, and forgets whose they were", async () => {
  const { id, key } = await makeKey(service, { name: "Zoe's script", role: "user", user_id: "zoe-erased" });
  expect((await service.send("DELETE", "/v1/users/zoe-erased", undefined, bearer(key))).status).toBe(200);
  await until("the key is gone", async () => (await statusFor(service, key)) === 401);
  expect(await keyIn(id)).toMatchObject({ name: "", user_id: "" });
  expect(await filesOf(service.dataDir)).not.toMatch(/Zoe's script|zoe-erased/);
});
