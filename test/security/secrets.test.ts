/** No secret stands in anything that a run writes or answers, whatever goes wrong in it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { bearer, makeKey, makeToken } from "../support/keys.ts";
import { startModelServer } from "../support/model-server.ts";
import { runParley, serviceEnv, startService } from "../support/service.ts";
import type { StartedTurn } from "../support/turns.ts";

// Many processes and requests, some of which wait for a server that isn't there.
setDefaultTimeout(120_000);

const secret = (name: string): string => `qz-${name}-0123456789abcdef0123456789abcdef`;

test("a whole run with known secrets tells none: logs, answers, errors, configuration, commands", async () => {
  const model = startModelServer();
  const secrets = {
    admin: secret("admin"),
    service: secret("service"),
    jwt: secret("jwt"),
    model: secret("model"),
    address: secret("address"),
    fallback: secret("fallback"),
    embedding: secret("embedding"),
  };
  const env = {
    PARLEY_API_KEYS: `admin:${secrets.admin},${secrets.service}`,
    PARLEY_JWT_SECRET: secrets.jwt,
    OPENAI_API_KEY: secrets.model,
    PARLEY_FALLBACK_MODELS: `other@http://x:${secrets.address}@127.0.0.1:1/v1?key=${secrets.address}`,
    PARLEY_FALLBACK_API_KEYS: secrets.fallback,
    PARLEY_EMBEDDING_MODEL: `small@http://x:${secrets.address}@127.0.0.1:1/v1`,
    PARLEY_EMBEDDING_API_KEY: secrets.embedding,
  };
  // As OpenAI itself does.
  model.default((script) =>
    script.status(401, {
      body: { error: { message: `Incorrect API key provided: ${secrets.model}.`, code: "invalid_api_key" } },
    }),
  );
  await using service = await startService({ model, env });
  const written: string[] = [];
  const note = async (response: Response): Promise<void> => {
    written.push(JSON.stringify([...response.headers]), await response.text());
  };

  const made = await makeKey(service, { role: "user", user_id: "ada" }, secrets.admin);
  const token = await makeToken(service, secrets.service, "ada");
  const started = await service.post<StartedTurn>(
    "/v1/turns",
    { user_id: "ada", message: "Hello" },
    bearer(made.key),
  );
  const ticket = started.body.stream_url.split("ticket=")[1]!;
  const known = [
    ...Object.values(secrets),
    made.key.split("_")[2]!,
    token.split(".")[2]!,
    ticket.split(".")[1]!,
  ];

  for (const key of [secrets.admin, secrets.service, made.key, token]) {
    const json = { ...bearer(key), "content-type": "application/json" };
    for (const path of [
      ...["/health", "/ready", "/openapi.json", "/metrics", "/v1/keys", "/v1/nothing"],
      ...["/v1/conversations?q=x", `/v1/conversations?limit=${key}&after=${key}`, `/v1/turns/${key}`],
      ...["/v1/users/ada/export", `/v1/users/ada/profile?key=${key}`],
    ]) {
      await note(await service.fetch(path, { headers: json }));
    }
    for (const body of [`{"message":"${key}","user_id":1}`, `"${key}`, `["${key}"]`]) {
      for (const path of [
        "/v1/chat",
        "/v1/chat/stream",
        "/v1/keys",
        "/v1/documents",
        "/v1/users/ada/tokens",
      ]) {
        const response = await service.fetch(path, { method: "POST", headers: json, body });
        if (response.status !== 201) await note(response);
      }
    }
    await note(await service.fetch("/v1/conversations", { headers: bearer(`${key}x`) }));
    await note(await service.fetch("/v1/conversations", { headers: { authorization: `Basic ${key}` } }));
    await note(
      await service.fetch("/v1/chat", {
        method: "POST",
        headers: { ...json, "idempotency-key": `${key} ü` },
      }),
    );
  }
  await note(
    await service.fetch("/v1/chat/stream", {
      method: "POST",
      headers: { ...bearer(made.key), "content-type": "application/json" },
      body: JSON.stringify({ user_id: "ada", message: "Hello" }),
    }),
  );
  await note(await service.fetch(`/v1/turns/${started.body.id}/stream?ticket=${ticket}x`));
  await note(await service.fetch(`/v1/turns/${started.body.id}/stream?ticket=${ticket}`));

  const parleyEnv = serviceEnv(service.dataDir, { model, env });
  for (const args of [
    ["config"],
    ["keys", "list"],
    ["keys", "revoke", made.id],
    ["keys", "create", "x", "--role", secrets.admin],
    ["chat", "--url", service.url, "Hello"],
    ["serve"],
  ]) {
    const { stdout, stderr } = await runParley(args, parleyEnv, "");
    written.push(stdout, stderr);
  }
  const faulty = Object.entries(env).map(([name, value]) => [name, `short,${value},\u0007`]);
  const wrong = { ...parleyEnv, ...Object.fromEntries(faulty), PORT: "x", PARLEY_JWT_SECRET: "short-qz" };
  const { stdout, stderr, exitCode } = await runParley(["config"], wrong);
  expect([exitCode, stderr.split("\n").length > 3]).toEqual([1, true]);
  written.push(stdout, stderr);
  await service.stop();
  written.push(...service.logs);

  const all = written.join("\n");
  expect(all.length).toBeGreaterThan(50_000);
  expect(service.logs.length).toBeGreaterThan(5);
  expect(known.filter((each) => all.includes(each))).toEqual([]);
  expect(all).not.toContain("short-qz");
  await model.close();
});
