/** However the database fails: its password, its URL, SQL and what users said reach no log line, answer or metric. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { startInstances } from "../support/instances.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { PostgresServer } from "../support/postgres.ts";
import { runParley, serviceEnv, testMsMax, until } from "../support/service.ts";

setDefaultTimeout(3 * testMsMax);

const password = "geheim-4711-Losung";
const said = "Wombat-Kaffeekasse";
/** Where PostgreSQL quotes a query, or a row that it refuses. */
const sql = /\b(select|insert into|update \w+ set|delete from|failing row|values \()/i;

let server: PostgresServer;
let model: ModelServer;
beforeAll(async () => {
  server = await PostgresServer.start();
  model = startModelServer();
  model.default((all) => all.reply([`${said}, said the model`]));
});
afterAll(async () => {
  await model.close();
  await server[Symbol.asyncDispose]();
});

/** A new database, and its URL with a user and password of its own. */
async function secretDatabase(): Promise<{ url: string; admin: string }> {
  const admin = await server.database();
  await using database = new Bun.SQL(admin, { max: 1 });
  const name = new URL(admin).pathname.slice(1);
  await database.unsafe(`create role owner_of_${name} login superuser password '${password}'`);
  const url = new URL(admin);
  url.username = `owner_of_${name}`;
  url.password = password;
  return { url: url.href, admin };
}

test("a service whose queries fail in every way tells of it without them", async () => {
  const { url, admin } = await secretDatabase();
  const env = { PARLEY_DATABASE_SECONDS_MAX: "1", PARLEY_DATABASE_CONNECTIONS_MAX: "2" };
  await using instances = await startInstances(1, url, { model, env });
  const service = instances.all[0]!;
  const told: string[] = [];
  const ask = async (): Promise<number> => {
    const response = await service.fetch("/v1/chat", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user_id: said, message: `${said}?` }),
    });
    told.push(await response.clone().text());
    // What was said is told to whoever may know it, and to nobody in a problem.
    if (response.status === 200) told.pop();
    told.push(await (await service.fetch("/metrics")).text());
    return response.status;
  };
  expect(await ask()).toBe(200);

  await using database = new Bun.SQL(admin, { max: 1 });
  // A row that is refused is quoted in the error's detail, the query around it in its context.
  await database.unsafe(
    `alter table messages add constraint silence check (content not like '%${said}%') not valid`,
  );
  expect(await ask()).toBe(500);
  await database.unsafe("alter table messages drop constraint silence");
  // A query that doesn't fit the tables any more.
  await database.unsafe("alter table turns rename column use_memory to no_memory");
  expect(await ask()).toBe(500);
  await database.unsafe("alter table turns rename column no_memory to use_memory");
  // One that is cancelled, and values that are refused.
  const locker = await database.reserve();
  await locker`begin`;
  await locker`lock table messages in access exclusive mode`;
  expect(await ask()).toBe(503);
  await locker`rollback`;
  locker.release();
  for (const [condition, telling] of [
    ["unique_violation", "detail"],
    // A value that doesn't fit is quoted in the message itself.
    ["invalid_text_representation", "message"],
  ]) {
    await database.unsafe(
      `create or replace function clash() returns trigger language plpgsql as $$
       begin raise ${condition} using ${telling} = 'what stands in (' || new.content || ')'; end $$;
       create or replace trigger clash before insert on messages for each row execute function clash();`,
    );
    expect(await ask()).toBe(500);
  }
  await database.unsafe("drop trigger clash on messages");
  expect(await ask()).toBe(200);
  await server.stop();
  expect(await ask()).toBe(503);
  await until("the outage is logged", () => service.logs.some((line) => line.includes("not looked for")));
  await server.startAgain();
  await until("it is ready", async () => (await service.fetch("/ready")).status === 200);
  expect(await ask()).toBe(200);

  const lines = service.logs;
  expect(lines.filter((line) => /"level":"(warn|error)"/.test(line)).length).toBeGreaterThan(4);
  for (const text of [...lines, ...told]) {
    expect(text).not.toContain(password);
    expect(text).not.toContain("postgres://");
    expect(text).not.toMatch(sql);
  }
  // A user's id is told with whose turn it was; what they said isn't.
  for (const text of [...lines, ...told]) {
    expect(text).not.toContain(`${said}?`);
    expect(text).not.toContain(`${said},`);
  }
});

test("a service that can't start says why without its URL and password", async () => {
  const { url } = await secretDatabase();
  const { pathname } = new URL(url);
  for (const broken of [
    url.replace(pathname, "/absent"),
    url.replace(password, `${password}-wrong`),
    url.replace(/:\d+\//, ":1/"),
    url.replace("127.0.0.1", "no-such-host.invalid"),
  ]) {
    const env = { ...serviceEnv("/nonexistent", {}), DATABASE_URL: broken };
    const { exitCode, stdout, stderr } = await runParley(["serve"], env);
    expect(exitCode).toBe(1);
    expect(stdout + stderr).toContain("DATABASE_URL");
    expect(stdout + stderr).not.toContain(password);
    expect(stdout + stderr).not.toContain("postgres://");
  }
});
