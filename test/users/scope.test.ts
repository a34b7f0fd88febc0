/** A principal that acts for one user alone: for them every route answers. What it gets of others is in test/security. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Memory } from "../../src/users/schema.ts";
import { adminKey, bearer, guardedEnv, makeKey, makeToken } from "../support/keys.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";
import type { UsageAnswer } from "../support/usage.ts";

setDefaultTimeout(testMsMax);

let service: Service;
beforeAll(async () => {
  service = await startService({ env: guardedEnv });
});
afterAll(() => service[Symbol.asyncDispose]());

describe.each(["a key", "a token"])("%s of one user", (kind) => {
  const user = kind === "a key" ? "ada" : "ida";

  test("does all that a user does", async () => {
    const key =
      kind === "a key"
        ? (await makeKey(service, { role: "user", user_id: user })).key
        : await makeToken(service, adminKey, user);
    const ask = async <Body>(method: string, path: string, status: number, body?: unknown): Promise<Body> => {
      const answer = await service.send<Body>(method, `/v1${path}`, body, bearer(key));
      expect([method, path, answer.status, answer.body]).toEqual([method, path, status, answer.body]);
      return answer.body;
    };
    const { turn_id, conversation_id } = await ask<{ turn_id: string; conversation_id: string }>(
      "POST",
      "/chat",
      200,
      { user_id: user, message: "Hello" },
    );
    await ask("POST", "/turns", 202, { user_id: user, message: "Hello again" });
    await service.send("POST", "/v1/chat", { user_id: "eve", message: "Hello" }, bearer(adminKey));
    const { usage } = await ask<UsageAnswer>("GET", "/usage?group_by=user", 200);
    expect(usage.map(({ group, turns }) => [group, turns])).toEqual([[user, 2]]);
    await ask("GET", "/usage?user_id=eve", 404);
    await ask("GET", `/turns/${turn_id}`, 200);
    await ask("GET", `/turns/${turn_id}/receipt`, 200);
    await ask("POST", `/turns/${turn_id}/stop`, 200);
    await ask("POST", "/conversations", 201, { user_id: user });
    await ask("GET", `/conversations?user_id=${user}`, 200);
    await ask("GET", `/conversations/${conversation_id}/messages`, 200);
    await ask("PATCH", `/conversations/${conversation_id}`, 200, { title: "Mine" });
    await ask("DELETE", `/conversations/${conversation_id}`, 200);
    const document = await ask<{ id: string; user_id: string }>("POST", "/documents", 201, {
      name: "diary.md",
      text: "Of mine.",
      user_id: user,
    });
    expect(document.user_id).toBe(user);
    await ask("GET", `/documents?user_id=${user}`, 200);
    await ask("POST", "/documents/search", 200, { query: "mine", user_id: user });
    await ask("DELETE", `/documents/${document.id}`, 200);
    await ask("PATCH", `/users/${user}/profile`, 200, { display_name: "Me" });
    await ask("GET", `/users/${user}/profile`, 200);
    const memory = await ask<Memory>("POST", `/users/${user}/memories`, 201, { text: "Likes tea." });
    await ask("GET", `/users/${user}/memories`, 200);
    await ask("GET", `/users/${user}/memories/${memory.id}`, 200);
    await ask("PATCH", `/users/${user}/memories/${memory.id}`, 200, { text: "Likes coffee." });
    await ask("DELETE", `/users/${user}/memories/${memory.id}`, 200);
    await ask("GET", `/users/${user}/export`, 200);
    await ask("DELETE", `/users/${user}`, 200);
  });
});
