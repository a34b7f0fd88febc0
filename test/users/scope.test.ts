/** A principal that acts for one user alone: everybody else is unknown to it. No key gives one yet, so the app is asked. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { createApp } from "../../src/app.ts";
import type { NewTurn } from "../../src/chat/running-turns.ts";
import { loadConfig } from "../../src/config.ts";
import { createServices, type Services } from "../../src/services.ts";
import type { Memory } from "../../src/users/schema.ts";
import { temporaryDirectory, testMsMax } from "../support/service.ts";
import type { UsageAnswer } from "../support/usage.ts";

setDefaultTimeout(testMsMax);

const dataDir = temporaryDirectory();
let services: Services;
let memoryPath: string;

const newTurn: NewTurn = {
  message: "Hello",
  user_id: "ada",
  conversation_id: null,
  metadata: null,
  model: null,
  temperature: null,
  max_tokens: null,
  use_memory: false,
  collections: [],
  idempotency: null,
  key_id: "test",
  address: null,
};

/** Asks as somebody who acts for a user, or, with null, for the whole workspace. */
async function ask<Body>(user_id: string | null, method: string, path: string, body?: unknown) {
  const scope = { workspace_id: "default", user_id };
  const authenticate = async () => ({ id: "test", role: "service" as const, scope });
  const request = new Request(`http://localhost/v1/${path.startsWith("usage") ? "" : "users/"}${path}`, {
    method,
    ...(body !== undefined && {
      body: JSON.stringify(body),
      headers: { "content-type": "application/json" },
    }),
  });
  const response = await createApp({ ...services, authenticate }).handle(request);
  return { status: response.status, body: (await response.json()) as Body };
}

beforeAll(async () => {
  const config = loadConfig({ PARLEY_DATA_DIR: dataDir, PARLEY_SHUTDOWN_SECONDS: "0" });
  services = await createServices(config, { info() {}, warn() {}, error() {} });
  const made = await ask<Memory>(null, "POST", "ada/memories", { text: "Likes tea." });
  memoryPath = `ada/memories/${made.body.id}`;
});
afterAll(async () => {
  await services.stop();
  await services.close();
  rmSync(dataDir, { recursive: true });
});

const routes = (): [method: string, path: string, body?: unknown][] => [
  ["GET", "ada/profile"],
  ["PATCH", "ada/profile", { display_name: "Ada" }],
  ["GET", "ada/memories"],
  ["POST", "ada/memories", { text: "Likes cake." }],
  ["GET", memoryPath],
  ["PATCH", memoryPath, { text: "Likes coffee." }],
  ["GET", "ada/export"],
  ["DELETE", memoryPath],
  ["DELETE", "ada"],
];

test("of another user every route is 404, and changes nothing", async () => {
  for (const [method, path, body] of routes()) {
    const { status } = await ask("eve", method, path, body);
    expect([method, path, status]).toEqual([method, path, 404]);
  }
  expect((await ask<Memory>(null, "GET", memoryPath)).body.text).toBe("Likes tea.");
  expect((await ask<{ display_name: null }>(null, "GET", "ada/profile")).body.display_name).toBeNull();
});

test("of its own user every route answers", async () => {
  for (const [method, path, body] of routes()) {
    const { status } = await ask("ada", method, path, body);
    expect([method, path, status]).toEqual([method, path, method === "POST" ? 201 : 200]);
  }
});

test("it sees its own usage alone", async () => {
  const turnsSeenBy = async (user_id: string | null, query = "") => {
    const { status, body } = await ask<UsageAnswer>(user_id, "GET", `usage${query}`);
    return status === 200 ? body.usage.map(({ group, turns }) => [group, turns]) : status;
  };
  for (const user_id of ["ada", "eve"]) {
    const started = await services.turns.start("default", { ...newTurn, user_id });
    await started.reply.whenEnded();
  }
  expect(await turnsSeenBy(null, "?group_by=user")).toEqual([
    ["ada", 1],
    ["eve", 1],
  ]);
  expect(await turnsSeenBy("eve", "?group_by=user")).toEqual([["eve", 1]]);
  expect(await turnsSeenBy("eve")).toEqual([[null, 1]]);
  expect(await turnsSeenBy("nobody")).toEqual([[null, 0]]);
  expect(await turnsSeenBy("eve", "?user_id=ada")).toBe(404);
});
