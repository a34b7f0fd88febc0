/** The document is checked against the rules of its format, against the routes, and against what they really answer. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { InternalRoute } from "elysia";
import { createApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config.ts";
import { createServices } from "../../src/services.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type ApiDocument, apiDocument, type Media, type Spec } from "../support/openapi.ts";
import { type Service, startService } from "../support/service.ts";

// Other tests run beside this on the same cores.
setDefaultTimeout(60_000);

let model: ModelServer;
let service: Service;
let routes: readonly InternalRoute[];
let document: ApiDocument;
let spec: Spec;
let text: string;

beforeAll(async () => {
  model = startModelServer();
  model.default((script) =>
    script.reply(["Mount ", "Everest."], { usage: { prompt_tokens: 9, completion_tokens: 4 } }),
  );
  service = await startService({ model });
  routes = await routesOfApp();
  text = await (await fetch(`${service.url}/openapi.json`)).text();
  document = apiDocument(JSON.parse(text) as Spec);
  spec = document.spec;
});

afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

/** The routes of an app that never listens. */
async function routesOfApp(): Promise<readonly InternalRoute[]> {
  const dataDir = await mkdtemp(join(tmpdir(), "parley-routes-"));
  const log = { info() {}, warn() {}, error() {} };
  const services = await createServices(
    loadConfig({ PARLEY_DATA_DIR: dataDir, PARLEY_SHUTDOWN_SECONDS: "0" }),
    log,
  );
  const { routes } = createApp(services);
  await services.stop();
  await services.close();
  await rm(dataDir, { recursive: true });
  return routes;
}

const examplesOf = ({ example, examples }: Media): unknown[] => [
  ...(example === undefined ? [] : [example]),
  ...Object.values(examples ?? {}).map(({ $ref, value }) =>
    $ref === undefined ? value : spec.components.examples[$ref.split("/").at(-1)!]?.value,
  ),
];

describe("the document", () => {
  test("passes redocly lint's recommended rules without a warning", async () => {
    const folder = await mkdtemp(join(tmpdir(), "parley-spec-"));
    await Bun.write(join(folder, "openapi.json"), text);
    const redocly = Bun.resolveSync("@redocly/cli/bin/cli.js", import.meta.dir);
    const lint = Bun.spawn([process.execPath, redocly, "lint", "--format=json", "openapi.json"], {
      cwd: folder,
      env: { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" },
      stdout: "pipe",
      stderr: "ignore",
    });
    const { totals, problems } = JSON.parse(await lint.stdout.text()) as {
      totals: unknown;
      problems: unknown;
    };
    await rm(folder, { recursive: true });
    expect(problems).toEqual([]);
    expect(totals).toEqual({ errors: 0, warnings: 0, ignored: 0 });
    expect(await lint.exited).toBe(0);
  });

  test("shows every route under /v1 and of operations, and no bare path, HEAD or asset", () => {
    const shown = document.routes.map(({ method, path }) => `${method.toUpperCase()} ${path}`);
    const served = routes.map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, "{$1}")}`);
    const bare = (route: string) => served.includes(route.replace(" ", " /v1"));
    const own = served.filter((route) => !bare(route));
    const hidden = own.filter((route) => route.startsWith("HEAD ") || route.includes(" /docs/"));
    expect(shown.toSorted()).toEqual(own.filter((route) => !hidden.includes(route)).toSorted());
    expect(shown).toContain("GET /health");
    expect(shown).toContain("POST /v1/chat");
    expect(shown).not.toContain("POST /chat");
    expect(spec.openapi).toBe("3.1.0");
  });

  test("says of every operation what it is, what it takes and what it answers", () => {
    const ids = document.routes.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { operation } of document.routes) {
      const { operationId, summary, description, requestBody, responses, parameters = [] } = operation;
      const at = `of ${operationId}`;
      expect(operationId, at).toMatch(/^[a-z][A-Za-z]+$/);
      expect(summary, at).toBeTruthy();
      expect(description, at).toBeTruthy();
      for (const { name, description } of parameters) expect(description, `${name} ${at}`).toBeTruthy();
      const isUpload = operationId === "addDocument";
      const types = ["application/json", ...(isUpload ? ["multipart/form-data"] : [])];
      if (requestBody) expect(Object.keys(requestBody.content), at).toEqual(types);
      for (const [status, answer] of Object.entries(responses)) {
        expect(answer.description, `${status} ${at}`).toBeTruthy();
        expect(Object.keys(answer.headers), `${status} ${at}`).toContain("X-Request-Id");
        for (const media of Object.values(answer.content ?? {}))
          expect(examplesOf(media).length, at).toBeGreaterThan(0);
        const isProblem = Number(status) >= 400 && !(operationId === "ready" && status === "503");
        if (isProblem) expect(Object.keys(answer.content ?? {}), at).toEqual(["application/problem+json"]);
        if (status === "401") expect(answer.headers).toHaveProperty("WWW-Authenticate");
      }
    }
  });

  test("names keys on every operation but those of operations", () => {
    const open = document.routes.filter(({ operation }) => operation.security?.length === 0);
    expect(open.map(({ path }) => path).sort()).toEqual(["/docs", "/health", "/openapi.json", "/ready"]);
    expect(spec.paths["/v1/turns/{id}/stream"]?.get?.security).toEqual([{ bearer: [] }, { ticket: [] }]);
  });

  test("has examples that match their schemas", () => {
    let checked = 0;
    for (const { operation } of document.routes) {
      const contents = [
        operation.requestBody?.content,
        ...Object.values(operation.responses).map((r) => r.content),
      ];
      for (const [type, media] of contents.flatMap((content) => Object.entries(content ?? {}))) {
        for (const example of examplesOf(media)) {
          checked++;
          if (media.schema)
            expect(document.faultsOf(media.schema, example), operation.operationId).toEqual([]);
          if (type === "text/event-stream") expect(document.streamFaults(String(example))).toEqual([]);
        }
      }
    }
    expect(checked).toBeGreaterThan(150);
  });

  test("shows every parameter that the routes check, whole numbers as such, and the headers", () => {
    for (const { path, method, hooks } of routes) {
      const shown = spec.paths[path.replace(/:(\w+)/g, "{$1}")]?.[method.toLowerCase()];
      if (shown === undefined) continue;
      for (const [place, schema] of [
        ["query", hooks.query],
        ["path", hooks.params],
      ] as const) {
        const names = (shown.parameters ?? []).filter((p) => p.in === place).map((p) => p.name);
        const schemes = (shown.security ?? []).flatMap((scheme) => Object.keys(scheme));
        const wanted = Object.keys(schema?.properties ?? {}).filter((name) => !schemes.includes(name));
        expect(names, `${method} ${path}`).toEqual(wanted);
      }
    }
    const limit = spec.paths["/v1/conversations"]?.get?.parameters?.find(({ name }) => name === "limit");
    expect(limit?.schema).toEqual({ type: "integer", minimum: 1, maximum: 100, default: 20 });
    const headers = (path: string, method: string) =>
      (spec.paths[path]?.[method]?.parameters ?? []).filter((p) => p.in === "header").map((p) => p.name);
    expect(headers("/v1/chat", "post")).toEqual(["Idempotency-Key"]);
    expect(headers("/v1/chat/stream", "get")).toEqual(["Idempotency-Key", "Last-Event-ID"]);
    expect(headers("/v1/turns/{id}/stream", "get")).toEqual(["Last-Event-ID"]);
    expect(headers("/v1/conversations/{id}", "patch")).toEqual([]);
  });

  test("repeats no schema and holds nothing of Elysia's own", () => {
    const names = Object.keys(spec.components.schemas);
    expect(names).toContain("ChatRequest");
    for (const name of names) expect(text.split(`"title":"${name}"`).length, name).toBe(2);
    for (const name of ["x-www-form-urlencoded", '"documented"', '"format":"text"', "integer-from"]) {
      expect(text).not.toContain(name);
    }
  });

  test("documents a header without checking it a second time", async () => {
    const response = await post("/v1/chat", { message: "Hi", user_id: "ada" }, { "Idempotency-Key": "ä" });
    const { errors } = (await response.json()) as { errors: unknown[] };
    expect(response.status).toBe(400);
    expect(errors).toEqual([
      { path: "headers.idempotency-key", message: "must be 1 to 255 visible ASCII characters" },
    ]);
  });

  test("still refuses numbers in other forms than digits", async () => {
    for (const limit of ["0x10", "1e1", "%201", "", "101", "0"]) {
      expect((await fetch(`${service.url}/v1/conversations?limit=${limit}`)).status).toBe(400);
    }
    expect((await fetch(`${service.url}/v1/conversations?limit=100`)).status).toBe(200);
  });
});

const post = (path: string, body: unknown, headers: Record<string, string> = {}, method = "POST") =>
  fetch(service.url + path, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

const get = (path: string, headers: Record<string, string> = {}) => fetch(service.url + path, { headers });

describe("what is documented is what is answered", () => {
  /** Checks a response against what the document says of its operation. */
  async function expectDocumented(operationId: string, response: Response): Promise<string> {
    const { operation } = document.routes.find((entry) => entry.operation.operationId === operationId)!;
    const body = await response.text();
    expect(document.answerFaults(operation, response, body), `${operationId} ${response.status}`).toEqual([]);
    return body;
  }

  const ask = { message: "Which one?", user_id: "ada" };

  test("by every operation, with every status of success", async () => {
    const seen = new Map<string, Set<string>>();
    const check = async (operationId: string, response: Response) => {
      const statuses = seen.get(operationId) ?? new Set();
      seen.set(operationId, statuses.add(String(response.status)));
      return await expectDocumented(operationId, response);
    };
    const query = new URLSearchParams(ask);
    const { conversation_id, turn_id } = JSON.parse(await check("chat", await post("/v1/chat", ask))) as {
      conversation_id: string;
      turn_id: string;
    };
    const end = { "Last-Event-ID": `${turn_id}:end` };
    await check("chatStream", await post("/v1/chat/stream", ask));
    await check("chatStream", await post("/v1/chat/stream", ask, end));
    await check("chatEventSource", await get(`/v1/chat/stream?${query}`));
    await check("chatEventSource", await get(`/v1/chat/stream?${query}`, end));
    const started = JSON.parse(await check("startTurn", await post("/v1/turns", ask))) as {
      stream_url: string;
    };
    await check("streamTurn", await get(started.stream_url));
    await check("streamTurn", await get(`/v1/turns/${turn_id}/stream`, end));
    await check("getTurn", await get(`/v1/turns/${turn_id}`));
    await check("getReceipt", await get(`/v1/turns/${turn_id}/receipt`));
    await check("stopTurn", await fetch(`${service.url}/v1/turns/${turn_id}/stop`, { method: "POST" }));
    const created = { user_id: "ada", title: "Mountains", metadata: { channel: "web" } };
    await check("createConversation", await post("/v1/conversations", created));
    await check("listConversations", await get("/v1/conversations?limit=2"));
    await check("getConversation", await get(`/v1/conversations/${conversation_id}`));
    await check("listMessages", await get(`/v1/conversations/${conversation_id}/messages?limit=1`));
    const patch = { title: "Peaks" };
    await check("updateConversation", await post(`/v1/conversations/${conversation_id}`, patch, {}, "PATCH"));
    const file = `/v1/conversations/${conversation_id}/export`;
    await check("exportConversation", await get(file));
    expect(await check("exportConversation", await get(`${file}?format=markdown`))).toStartWith("# Peaks");
    await check("usage", await get("/v1/usage?group_by=user&limit=1"));
    await check("usage", await get("/v1/usage?format=csv"));
    const budget = "/v1/budgets/users/ben";
    await check("setBudget", await post(budget, { tokens_day: 9, usd_month: "2.50" }, {}, "PUT"));
    await check("getBudget", await get(budget));
    await check("listBudgets", await get("/v1/budgets?limit=1"));
    await check("deleteBudget", await fetch(service.url + budget, { method: "DELETE" }));
    const gone = await fetch(`${service.url}/v1/conversations/${conversation_id}`, { method: "DELETE" });
    await check("deleteConversation", gone);
    const ada = "/v1/users/ada";
    await check("updateProfile", await post(`${ada}/profile`, { language: "en-gb" }, {}, "PATCH"));
    await check("getProfile", await get(`${ada}/profile`));
    const memory = JSON.parse(
      await check("createMemory", await post(`${ada}/memories`, { text: "Plays chess.", slot: "game" })),
    ) as { id: string };
    await check("listMemories", await get(`${ada}/memories?limit=1`));
    await check("getMemory", await get(`${ada}/memories/${memory.id}`));
    await check(
      "updateMemory",
      await post(`${ada}/memories/${memory.id}`, { kind: "preference" }, {}, "PATCH"),
    );
    await check("exportUser", await get(`${ada}/export`));
    await check(
      "deleteMemory",
      await fetch(`${service.url}${ada}/memories/${memory.id}`, { method: "DELETE" }),
    );
    await check("deleteUser", await fetch(service.url + ada, { method: "DELETE" }));
    for (const [id, path] of Object.entries({
      health: "/health",
      ready: "/ready",
      metrics: "/metrics",
      docs: "/docs",
      openapi: "/openapi.json",
    }))
      await check(id, await get(path));

    const about = { name: "atlas.md", text: "Mount Everest, at 8,849 m." };
    const added = JSON.parse(await check("addDocument", await post("/v1/documents", about))) as {
      id: string;
    };
    await check("addDocument", await post("/v1/documents", about));
    await check("listDocuments", await get("/v1/documents?limit=1"));
    await check("searchDocuments", await post("/v1/documents/search", { query: "Everest" }));
    await check("getDocument", await get(`/v1/documents/${added.id}`));
    await check("getDocumentText", await get(`/v1/documents/${added.id}/text`));
    await check(
      "deleteDocument",
      await fetch(`${service.url}/v1/documents/${added.id}`, { method: "DELETE" }),
    );
    await check("backup", await fetch(`${service.url}/v1/admin/backup`, { method: "POST" }));
    await using unwaiting = await startService({ env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
    const form = new FormData();
    form.set("file", new Blob([about.text]), about.name);
    await check("addDocument", await unwaiting.fetch("/v1/documents", { method: "POST", body: form }));

    const secret = "admin-key-of-the-document";
    await using keyed = await startService({
      env: { PARLEY_API_KEYS: `admin:${secret}`, PARLEY_JWT_SECRET: secret.repeat(2) },
    });
    const asAdmin = (method: string, path: string, body?: unknown) =>
      keyed.fetch(path, {
        method,
        headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
    const key = JSON.parse(
      await check("createKey", await asAdmin("POST", "/v1/keys", { name: "web", role: "service" })),
    ) as { id: string };
    await check("listKeys", await asAdmin("GET", "/v1/keys?limit=1"));
    await check("revokeKey", await asAdmin("DELETE", `/v1/keys/${key.id}`));
    await check("createUserToken", await asAdmin("POST", `${ada}/tokens`, {}));

    for (const { operation } of document.routes) {
      const documented = Object.keys(operation.responses).filter((status) => status < "300");
      const observed = [...(seen.get(operation.operationId) ?? [])];
      expect(observed.sort(), operation.operationId).toEqual(documented);
    }
  });

  test("by errors of every kind", async () => {
    const raw = (body: string | Uint8Array<ArrayBuffer>, type: string) =>
      fetch(`${service.url}/v1/chat`, { method: "POST", headers: { "content-type": type }, body });
    const unknown = "conv_01980000-0000-7000-8000-00000000c0de";
    const key = { "Idempotency-Key": crypto.randomUUID() };
    await (await post("/v1/chat", ask, key)).text();
    const held = model.hold();
    const running = (await (await post("/v1/turns", ask)).json()) as { id: string; conversation_id: string };
    const problems: [string, number, Promise<Response>][] = [
      ["chat", 400, post("/v1/chat", {})],
      ["chat", 400, raw("{", "application/json")],
      ["chat", 403, post("/v1/chat", ask, { Origin: "https://example.com" })],
      ["chat", 404, post("/v1/chat", { ...ask, conversation_id: unknown })],
      ["chat", 409, post("/v1/chat", { ...ask, conversation_id: running.conversation_id })],
      ["chat", 413, raw(new Uint8Array(1024 * 1024 + 1), "application/json")],
      ["chat", 415, raw("a=b", "application/x-www-form-urlencoded")],
      ["chat", 422, post("/v1/chat", { ...ask, message: "Another" }, key)],
      ["health", 403, get("/health", { "Sec-Fetch-Site": "cross-site" })],
      ["getTurn", 404, get("/v1/turns/nonsense")],
      ["streamTurn", 401, get(`/v1/turns/${running.id}/stream?ticket=forged`)],
      ["listConversations", 400, get("/v1/conversations?after=%00")],
      ["exportConversation", 400, get(`/v1/conversations/${unknown}/export?format=pdf`)],
    ];
    for (const [operationId, status, response] of problems) {
      expect((await response).status, operationId).toBe(status);
      await expectDocumented(operationId, await response);
    }
    held.finish();
    model.status(400, { body: { error: { message: "no", code: "no" } } });
    const failed = await post("/v1/chat", ask);
    expect(failed.status).toBe(502);
    await expectDocumented("chat", failed);
  });

  test("nowhere by the plugin's own routes", async () => {
    const paths = ["/spec", "/swagger", "/swagger/json", "/docs/json", "/openapi", "/openapi.json/json"];
    for (const path of paths.flatMap((path) => [path, `/v1${path}`])) {
      for (const method of ["GET", "HEAD", "POST"]) {
        const response = await fetch(service.url + path, { method });
        expect(response.status, `${method} ${path}`).toBe(404);
      }
    }
  });
});
