/** What clients see of a database that restarts, is away, is slow or refuses: typed answers, and nothing is lost. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { cutConnections } from "../support/appends/nemesis.ts";
import { startDatabaseProxy } from "../support/database-proxy.ts";
import { startInstances } from "../support/instances.ts";
import { followUntil } from "../support/live-views.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { PostgresServer } from "../support/postgres.ts";
import { type Answer, type Service, until } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";
import { holdTurn, resume, turnOf, untilEnded, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(90_000);

let server: PostgresServer;
let model: ModelServer;
beforeAll(async () => {
  server = await PostgresServer.start();
  model = startModelServer();
});
afterAll(async () => {
  await model.close();
  await server[Symbol.asyncDispose]();
});

/** No request may hang: an answer comes within this, or the test fails. */
const answerMsMax = 30_000;

interface Fleet extends AsyncDisposable {
  url: string;
  all: readonly Service[];
  one: Service;
  two: Service;
}

async function openFleet(env: Record<string, string> = {}, count = 2): Promise<Fleet> {
  const url = await server.database();
  const instances = await startInstances(count, url, { model, env });
  const [one, two] = instances.all;
  return {
    url,
    all: instances.all,
    one: one!,
    two: two ?? one!,
    [Symbol.asyncDispose]: () => instances[Symbol.asyncDispose](),
  };
}

/** Starts a turn; gives whatever is answered. */
async function ask(
  service: Service,
  message: string,
  more: Record<string, unknown> = {},
): Promise<Answer<ChatResponse & Problem>> {
  const response = await service.fetch("/v1/chat", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user_id: "ada", message, ...more }),
    signal: AbortSignal.timeout(answerMsMax),
  });
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as ChatResponse & Problem,
  };
}

const readiness = async (service: Service): Promise<string> =>
  (await service.get<{ status: string }>("/ready")).body.status;

const untilReady = (service: Service): Promise<void> =>
  until("the instance is ready", async () => (await readiness(service)) === "ready");

/** All that a refusal for want of storage has to say. */
function expectUnavailable({ status, headers, body }: Answer<Problem>, ...codes: string[]): void {
  expect(status).toBe(503);
  expect(codes.length === 0 ? ["storage_unavailable"] : codes).toContain(body.code);
  expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
}

describe("a database that restarts", () => {
  test("in the middle of streams: they go on meanwhile, and are saved when it is back", async () => {
    await using fleet = await openFleet();
    const { one, two } = fleet;
    const { turn, held } = await holdTurn(one, model, "before, ");
    const { turn: ending, held: heldEnding } = await holdTurn(one, model, "before, ", { user_id: "bob" });
    const here = await followUntil(one, turn.id, "before, ");
    const there = await followUntil(two, turn.id, "before, ");
    const ended = await followUntil(one, ending.id, "before, ");
    await server.stop();
    held.send("meanwhile, ");
    heldEnding.finish();
    await until("the stream goes on", () => here.text === "before, meanwhile, ");
    await server.startAgain();
    await ended.whole;
    expect([ended.text, ended.done?.status]).toEqual(["before, ", "completed"]);
    held.send("after");
    held.finish();
    await Promise.all([here.whole, there.whole]);
    for (const view of [here, there]) {
      expect([view.text, view.done?.status]).toEqual(["before, meanwhile, after", "completed"]);
    }
    for (const service of fleet.all) {
      expect(await turnOf(service, turn.id)).toMatchObject({
        status: "completed",
        response: "before, meanwhile, after",
      });
      expect((await turnOf(service, ending.id)).status).toBe("completed");
    }
  });

  test("by kill -9: what was told is there", async () => {
    await using fleet = await openFleet();
    const { one, two } = fleet;
    const told = await wholeTurn(one, model, ["told"]);
    await server.kill();
    await server.startAgain();
    await untilReady(two);
    expect(await turnOf(two, told.turn_id)).toMatchObject({ status: "completed", response: "told" });
    const { conversation_id } = told;
    expect((await wholeTurn(two, model, ["and on"], { conversation_id })).response).toBe("and on");
  });
});

describe("a database that is away for longer than a lease", () => {
  test("refuses what is new, tells streams their end, and what it told is what it stores", async () => {
    await using fleet = await openFleet();
    const { one, two } = fleet;
    const { turn, held } = await holdTurn(one, model, "all there is");
    const view = await followUntil(one, turn.id, "all there is");
    const elsewhere = await followUntil(two, turn.id, "all there is");
    await server.stop();
    held.finish();
    for (const service of fleet.all) {
      expectUnavailable(await ask(service, "Is anybody there?"));
      expectUnavailable(await service.get<Problem>(`/v1/turns/turn_${Bun.randomUUIDv7()}`));
      expectUnavailable(await service.get<Problem>("/v1/conversations?user_id=ada"));
      await until("it isn't ready", async () => (await readiness(service)) === "not_ready");
      expect((await service.get("/ready")).status).toBe(503);
      expect((await service.get("/health")).status).toBe(200);
    }
    await view.whole;
    const end = { status: "interrupted", error: { code: "storage_unavailable" }, length: 12 };
    expect(view.done).toMatchObject(end);
    // Whoever asks the instance that ran it is told the same.
    const again = await readTranscript(await resume(one, turn.id, 4));
    expect([again.text, again.done.status]).toEqual(["there is", "interrupted"]);

    await server.startAgain();
    await elsewhere.whole;
    expect(elsewhere.done).toMatchObject(end);
    for (const service of fleet.all) {
      await untilReady(service);
      expect(await turnOf(service, turn.id)).toMatchObject({ ...end, response: "all there is" });
      expect((await wholeTurn(service, model, ["back"])).response).toBe("back");
    }
  });

  test("costs no living instance its turns: others end them only when their leases could be renewed", async () => {
    await using fleet = await openFleet({}, 3);
    const held = await Promise.all(fleet.all.map((service) => startHeld(service)));
    await server.stop();
    // By then all leases have run out.
    await Bun.sleep(12_000);
    // It is slower than the others to notice that the database is back.
    fleet.one.signal("SIGSTOP");
    await server.startAgain();
    for (const service of fleet.all.slice(1)) await untilReady(service);
    // A look or two of the others.
    await Bun.sleep(2_000);
    fleet.one.signal("SIGCONT");
    await untilReady(fleet.one);
    for (const { held: each } of held) {
      each.send(" and after");
      each.finish();
    }
    for (const { turn } of held) {
      await untilEnded(fleet.one, turn.id);
      expect(await turnOf(fleet.two, turn.id)).toMatchObject({
        status: "completed",
        response: "before and after",
      });
    }
  });
});

const startHeld = (service: Service) =>
  holdTurn(service, model, "before", { user_id: `user-${service.port}` });

test("connections that are cut, as by a failover, cost no request and no stream", async () => {
  await using fleet = await openFleet();
  const { one, two, url } = fleet;
  const { turn, held } = await holdTurn(one, model, "0");
  const views = await Promise.all(fleet.all.map((service) => followUntil(service, turn.id, "0")));
  let text = "0";
  for (let cut = 1; cut <= 5; cut++) {
    await cutConnections(url);
    held.send(String(cut));
    text += cut;
    const answers = await Promise.all([one, two].map((service) => service.get(`/v1/turns/${turn.id}`)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect((await wholeTurn(two, model, ["whole"], { user_id: `user-${cut}` })).status).toBe("completed");
  }
  held.finish();
  for (const view of views) {
    await view.whole;
    expect([view.text, view.done?.status]).toEqual([text, "completed"]);
  }
});

test("a pool whose connections are all held refuses what is new in bounded time, and serves again when they are free", async () => {
  await using fleet = await openFleet(
    { PARLEY_DATABASE_CONNECTIONS_MAX: "2", PARLEY_DATABASE_SECONDS_MAX: "3" },
    1,
  );
  const { one, url } = fleet;
  const { turn, held } = await holdTurn(one, model, "before, ");
  const view = await followUntil(one, turn.id, "before, ");
  await using sql = new Bun.SQL(url, { max: 1 });
  const locker = await sql.reserve();
  await locker`begin`;
  await locker`lock table conversations, messages, turns in access exclusive mode`;
  const refused = await Promise.all(Array.from({ length: 12 }, (_, index) => ask(one, `Question ${index}`)));
  for (const answer of refused) expectUnavailable(answer, "storage_unavailable", "overloaded");
  expect((await one.get("/health")).status).toBe(200);
  held.send("meanwhile, ");
  await until("the stream goes on", () => view.text === "before, meanwhile, ");
  await locker`rollback`;
  locker.release();
  held.send("after");
  held.finish();
  await view.whole;
  expect([view.text, view.done?.status]).toEqual(["before, meanwhile, after", "completed"]);
  expect((await wholeTurn(one, model, ["back"])).response).toBe("back");
  // Nothing of what was refused is left.
  await until("nothing runs", async () => {
    const [{ running }] = await sql`select count(*)::int4 as running from turns where status = 'running'`;
    return running === 0;
  });
});

describe("a transaction that loses against others", () => {
  for (const [what, state] of [
    ["a serialization failure", "40001"],
    ["a deadlock", "40P01"],
  ]) {
    test(`${what} at a turn's start and at its end is tried again: the turn is there once`, async () => {
      await using fleet = await openFleet({}, 1);
      const { one, url } = fleet;
      await using sql = new Bun.SQL(url, { max: 1 });
      await sql.unsafe(`
        create sequence losses;
        create function lose() returns trigger language plpgsql as $$
        begin
          if nextval('losses') % 3 <> 0 then raise exception 'lost' using errcode = '${state}'; end if;
          return new;
        end $$;
        create trigger lose_starts before insert on turns for each row execute function lose();
        create trigger lose_ends before update of status on turns for each row execute function lose();`);
      const { turn_id, response } = await wholeTurn(one, model, ["whole"]);
      expect(response).toBe("whole");
      const rows = await sql`select id, status from turns`;
      expect([...rows]).toMatchObject([{ id: turn_id, status: "completed" }]);
      const [{ losses }] = await sql`select last_value::int4 as losses from losses`;
      expect(losses).toBe(6);
    });
  }
});

test("a turn that was refused, because the database went away after it was stored, is ended; its conversation goes on", async () => {
  const url = await server.database();
  await using proxy = Object.assign(await startDatabaseProxy(url), {
    async [Symbol.asyncDispose]() {
      proxy.close();
    },
  });
  const env = { PARLEY_BUDGETS: "user 1000000 tokens/day" };
  await using instances = await startInstances(1, proxy.url, { model, env });
  const one = instances.all[0]!;
  const { conversation_id } = await wholeTurn(one, model, ["before"]);
  const lost = proxy.loseAnswerTo("Are you there?");
  const asking = ask(one, "Are you there?", { conversation_id });
  await lost;
  expectUnavailable(await asking);
  await using sql = new Bun.SQL(url, { max: 1 });
  const [stored] = await sql`select t.id, t.status from turns t join messages m on m.n = t.user_message_n
    where m.content = 'Are you there?'`;
  // It was committed: that is what this test is about.
  expect(stored).toMatchObject({ status: "running" });
  proxy.heal();
  await until("it has ended", async () => (await turnOf(one, stored.id)).status !== "running");
  expect(await turnOf(one, stored.id)).toMatchObject({
    status: "interrupted",
    error: { code: "storage_unavailable" },
    response: "",
  });
  expect((await wholeTurn(one, model, ["after"], { conversation_id })).response).toBe("after");
  const [{ reserved }] = await sql`select sum(reserved_tokens)::int4 as reserved from budget_counters`;
  expect(reserved).toBe(0);
});
