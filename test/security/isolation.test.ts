/**
 * Foreign ids everywhere: every route of the API, with every id that it takes, is asked by principals of another user
 * and of another workspace. Nothing is found, nothing is sent to the model, nothing changes. A route or an id that is
 * missing here fails the test.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { createBudgetReads } from "../../src/storage/sqlite/budget-reads.ts";
import { bearer, guardedEnv, makeKey, makeToken } from "../support/keys.ts";
import { type Held, type ModelServer, startModelServer } from "../support/model-server.ts";
import { apiDocument, type Operation, type Schema, type Spec } from "../support/openapi.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";
import type { StartedTurn } from "../support/turns.ts";
import { type Attempt, type Foreigner, matrix, type Victim } from "./isolation-matrix.ts";

setDefaultTimeout(testMsMax);

let model: ModelServer;
let service: Service;
let victim: Victim;
let held: Held;
let foreigners: Foreigner[];
let owner: Foreigner;
let table: Record<string, Attempt[]>;
let spec: Spec;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model, env: guardedEnv });
  spec = (await service.get<Spec>("/openapi.json")).body;

  const { key } = await makeKey(service, { workspace: "acme" });
  owner = { name: "the owner", key, user: "ada", isBound: false, role: "service" };
  victim = await fill(key);
  const bound = { isBound: true, role: "user" } as const;
  const eve = await makeKey(service, { workspace: "acme", role: "user", user_id: "eve" });
  const namesake = await makeKey(service, { workspace: "other", role: "user", user_id: "ada" });
  const elsewhere = await makeKey(service, { workspace: "other" });
  const admin = await makeKey(service, { workspace: "other", role: "admin" });
  foreigners = [
    { name: "another user's key", key: eve.key, user: "eve", ...bound },
    { name: "another user's token", key: await makeToken(service, key, "eve"), user: "eve", ...bound },
    { name: "a namesake of another workspace", key: namesake.key, user: "ada", ...bound },
    {
      name: "a service of another workspace",
      key: elsewhere.key,
      user: "ada",
      isBound: false,
      role: "service",
    },
    { name: "an admin of another workspace", key: admin.key, user: "ada", isBound: false, role: "admin" },
  ];
  // Each has a turn of their own, to point from it to the victim's.
  for (const foreigner of foreigners) {
    model.reply(["Hi."]);
    const body = { user_id: foreigner.user, message: "Hello" };
    const answer = await service.post<{ turn_id: string }>("/v1/chat", body, bearer(foreigner.key));
    foreigner.turn = answer.body.turn_id;
  }
  owner.turn = victim.turn;
  await until("nothing changes by itself any more", async () => {
    using db = new Database(join(service.dataDir, "parley.db"), { readonly: true });
    const count = (sql: string) =>
      db.query<{ count: number }, []>(`select count(*) as count from ${sql}`).get()!.count;
    return (
      count("messages where content = 'So far zebraic'") === 1 && count("turns where to_remember = 1") === 0
    );
  });
  table = matrix(victim);
});
afterAll(async () => {
  held.finish();
  await service[Symbol.asyncDispose]();
  await model.close();
});

/** What ada of acme has, with words that nobody else knows. */
async function fill(key: string): Promise<Victim> {
  const post = async <Body>(path: string, body: unknown, headers = {}): Promise<Body> => {
    const answer = await service.post<Body>(path, body, { ...bearer(key), ...headers });
    if (answer.status >= 300) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  model.reply(["Privately zebraic."]);
  const said = { user_id: "ada", message: "Something zebraic" };
  const chat = { ...said, idempotency: "of-ada" };
  const { conversation_id, turn_id } = await post<{ conversation_id: string; turn_id: string }>(
    "/v1/chat",
    said,
    { "idempotency-key": chat.idempotency },
  );
  held = model.hold();
  held.send("So far zebraic");
  const running = await post<StartedTurn>("/v1/turns", said);
  await held.request;
  const titled = { user_id: "ada", title: "Striped" };
  const idle = await post<{ id: string }>("/v1/conversations", titled, {
    "idempotency-key": chat.idempotency,
  });
  await service.send("PATCH", "/v1/users/ada/profile", { display_name: "Zebraic Ada" }, bearer(key));
  const memory = await post<{ id: string }>("/v1/users/ada/memories", { text: "Is zebraic." });
  const own = await post<{ id: string }>("/v1/documents", {
    name: "zebraic.md",
    text: "Everything zebraic of Ada.",
    user_id: "ada",
  });
  const shared = await post<{ id: string }>("/v1/documents", {
    name: "quaggaic.md",
    text: "Everything quaggaic of Acme.",
  });
  const spare = await makeKey(service, { name: "zebraic key", workspace: "acme" });
  const cursorOf = async (path: string): Promise<string> =>
    (await service.get<{ next_after: string }>(path, bearer(key))).body.next_after;
  const messages = await service.get<{ next_before: string }>(
    `/v1/conversations/${conversation_id}/messages?limit=1`,
    bearer(key),
  );
  await post("/v1/users/ada/memories", { text: "Is still zebraic." });
  return {
    conversation: conversation_id,
    idle: idle.id,
    busy: running.conversation_id,
    turn: turn_id,
    running: running.id,
    ticket: running.stream_url.split("ticket=")[1]!,
    memory: memory.id,
    document: own.id,
    shared: shared.id,
    key: spare.id,
    idempotencyKey: chat.idempotency,
    said,
    cursors: {
      conversations: await cursorOf("/v1/conversations?limit=1"),
      documents: await cursorOf("/v1/documents?limit=1"),
      memories: await cursorOf("/v1/users/ada/memories?limit=1"),
      messages: messages.body.next_before,
      keys: Buffer.from(JSON.stringify([spare.id])).toString("base64url"),
      usage: await cursorOf("/v1/usage?group_by=conversation&limit=1"),
      budgets: Buffer.from(JSON.stringify(["user", "ada"])).toString("base64url"),
    },
  };
}

/** What nobody else may read of the victim's: words and ids. What acme shares its own users may see. */
function secretsFor({ user }: Foreigner): string[] {
  const { conversation, idle, busy, turn, running, ticket, memory, document, shared, key } = victim;
  const own = ["zebraic", "Zebraic", conversation, idle, busy, turn, running, ticket, memory, document, key];
  return user === "eve" ? own : [...own, "quaggaic", shared];
}

/** Every row of the victim's workspace, but for what time alone changes. */
function dump(): string {
  using db = new Database(join(service.dataDir, "parley.db"), { readonly: true });
  const rows = (sql: string): unknown[] => db.query(sql).all();
  const conversations = "select n from conversations where workspace_id = 'acme'";
  const messages = `select n from messages where conversation_n in (${conversations})`;
  const users = "select n from users where workspace_id = 'acme'";
  const documents = "select n from documents where workspace_id = 'acme'";
  const revisions = `select n from document_revisions where document_n in (${documents})`;
  const passages = `select n from passages where revision_n in (${revisions})`;
  const { counterScope } = createBudgetReads(db);
  const counters = (["workspace", "user"] as const).map((scope) =>
    counterScope({ workspace_id: "acme", scope, subject: scope === "user" ? "ada" : "acme" }),
  );
  const parts: Record<string, string> = {
    conversations: `n in (${conversations})`,
    messages: `n in (${messages})`,
    turns: `n in (${messages})`,
    users: "workspace_id = 'acme'",
    memories: `user_n in (${users})`,
    document_scopes: "workspace_id = 'acme'",
    documents: `n in (${documents})`,
    document_revisions: `n in (${revisions})`,
    document_parts: `revision_n in (${revisions})`,
    passages: `n in (${passages})`,
    message_index: `rowid in (${messages})`,
    title_words: `rowid in (${conversations})`,
    passage_index: `rowid in (${passages})`,
    message_vectors: `n in (${messages})`,
    memory_vectors: `n in (select n from memories where user_n in (${users}))`,
    passage_vectors: `n in (${passages})`,
    idempotency_keys: `resource_id in (select id from turns where n in (${messages})
      union select id from conversations where workspace_id = 'acme')`,
    keys: "workspace_id = 'acme'",
    usage: "workspace_id = 'acme'",
    budgets: "workspace_id = 'acme'",
    budget_counters: `scope in ('${counters.join("', '")}')`,
  };
  const ofNobody = ["workspaces", "settings", "vector_spaces"];
  const tables = db
    .query<{ name: string }, []>(
      "select name from sqlite_schema where type = 'table' and name not like 'sqlite%'",
    )
    .all()
    .map(({ name }) => name)
    .filter((name) => !/_(data|idx|content|docsize|config)$/.test(name) && !ofNobody.includes(name));
  expect(tables.toSorted()).toEqual(Object.keys(parts).toSorted());
  const changing = new Set(["lease_until", "last_used_at"]);
  return JSON.stringify(
    Object.entries(parts).map(([name, where]) => [name, rows(`select * from ${name} where ${where}`)]),
    (column, value) => (changing.has(column) ? undefined : value),
  );
}

function send(foreigner: Foreigner, prefix: string, route: string, attempt: Attempt): Promise<Response> {
  const [method] = route.split(" ");
  const { path, query, body, headers, form } = attempt.request(foreigner);
  const search = query === undefined ? "" : `?${new URLSearchParams(query)}`;
  const json = body !== undefined && { "content-type": "application/json" };
  const init: RequestInit = {
    method: method!,
    headers: { ...bearer(foreigner.key), ...json, ...headers },
  };
  if (body !== undefined) init.body = JSON.stringify(body);
  if (form !== undefined) {
    const data = new FormData();
    data.set("file", new Blob(["Something else."]), "zebraic.md");
    for (const [name, value] of Object.entries(form)) data.set(name, value);
    init.body = data;
  }
  return service.fetch(prefix + path.replace(/^\/v1/, "") + search, init);
}

const routesOf = (): [route: string, operation: Operation][] =>
  apiDocument(spec)
    .routes.filter(({ operation }) => operation.security?.length !== 0)
    .map(({ method, path, operation }) => [`${method.toUpperCase()} ${path}`, operation]);

/** Every id that a route takes: `path.id`, `query.after`, `body.user_id`, `headers.Last-Event-ID`. */
function idsOf({ parameters = [], requestBody, security = [] }: Operation): string[] {
  const isId = (name: string): boolean =>
    /(^|_)id$|^(after|before|key|ticket|workspace|idempotency_key|Last-Event-ID|Idempotency-Key)$/.test(name);
  const resolve = (schema: Schema): Schema =>
    schema.$ref === undefined ? schema : spec.components.schemas[schema.$ref.split("/").at(-1)!]!;
  const places: Record<string, string> = { path: "path", query: "query", header: "headers" };
  const inBody = Object.entries(requestBody?.content ?? {}).flatMap(([type, { schema }]) =>
    Object.keys((resolve(schema ?? {}).properties ?? {}) as object).map(
      (name) => [type === "multipart/form-data" ? "form" : "body", name] as const,
    ),
  );
  return [
    ...parameters.map(({ name, in: place }) => [places[place]!, name] as const),
    ...(security.some((scheme) => "ticket" in scheme) ? [["query", "ticket"] as const] : []),
    ...inBody,
  ]
    .filter(([, name]) => isId(name))
    .map(([place, name]) => `${place}.${name}`);
}

describe("the matrix", () => {
  test("has every route, and no other", () => {
    expect(Object.keys(table).toSorted()).toEqual(
      routesOf()
        .map(([route]) => route)
        .toSorted(),
    );
  });

  test("has every id that each route takes", () => {
    for (const [route, operation] of routesOf()) {
      const tried = table[route]!.flatMap(({ ids }) => ids);
      expect([route, [...new Set(tried)].toSorted()]).toEqual([route, idsOf(operation).toSorted()]);
    }
  });
});

test("foreign ids find nothing, ask no model and change nothing", async () => {
  const before = dump();
  const asked = model.requests.length;
  let tried = 0;
  for (const [route, attempts] of Object.entries(table)) {
    for (const attempt of attempts) {
      for (const foreigner of foreigners) {
        const expected = attempt.expects(foreigner);
        if (expected === null) continue;
        for (const prefix of ["/v1", ""]) {
          const response = await send(foreigner, prefix, route, attempt);
          const text = await response.text();
          const what = `${prefix} ${route} with ${attempt.ids}, ${attempt.what ?? ""} by ${foreigner.name}`;
          const isNothing = expected === "nothing" && response.status < 300;
          expect([what, isNothing ? expected : response.status, text]).toEqual([what, expected, text]);
          expect([what, secretsFor(foreigner).filter((secret) => text.includes(secret))]).toEqual([what, []]);
          tried++;
        }
      }
    }
  }
  expect(tried).toBeGreaterThan(300);
  expect(model.requests.length).toBe(asked);
  expect(dump()).toBe(before);
});

test("the owner is answered to all of it: none of the requests is nothing to anybody", async () => {
  model.default((script) => script.reply(["Hi."]));
  // What deletes or stops something comes last.
  const isLast = (route: string): number =>
    route === "DELETE /v1/users/{user_id}" ? 2 : /^DELETE|stop$/.test(route) ? 1 : 0;
  const routes = Object.entries(table).toSorted(([a], [b]) => isLast(a) - isLast(b));
  for (const [route, attempts] of routes) {
    for (const attempt of attempts) {
      const { ofOwner = "ok" } = attempt;
      const response = await send(owner, "/v1", route, attempt);
      const isOfRunning = attempt.request(owner).path.includes(victim.running);
      // A turn that was started has ended when the next attempt comes; the stream of the running one doesn't end.
      const isEndless = isOfRunning && response.headers.get("content-type")?.startsWith("text/event-stream");
      const text = isEndless ? "" : await response.text();
      if (isEndless) await response.body?.cancel();
      const status = response.status < 300 ? "ok" : response.status;
      const what = `${route} with ${attempt.ids}, ${attempt.what ?? ""}`;
      expect([what, status, status === ofOwner ? "" : text]).toEqual([what, ofOwner, ""]);
    }
  }
});
