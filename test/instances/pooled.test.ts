/** Instances whose way to PostgreSQL leads through PgBouncer, which pools by session. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { startInstances } from "../support/instances.ts";
import { startModelServer } from "../support/model-server.ts";
import { skipsPgBouncer, startPgBouncer } from "../support/pgbouncer.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";
import { readTranscript } from "../support/sse.ts";

setDefaultTimeout(testMsMax);

const newDatabase = databasesOfFile();

describe.skipIf(skipsPgBouncer())("through PgBouncer by session", () => {
  test("a turn is watched from another instance while it runs, and stays within its connections", async () => {
    const database = await newDatabase();
    await using bouncer = await startPgBouncer(
      database,
      "pool_mode = session",
      "default_pool_size = 100",
      "ignore_startup_parameters = statement_timeout,idle_in_transaction_session_timeout",
    );
    const model = startModelServer();
    const env = { PARLEY_USER_REQUESTS_PER_MINUTE: "100000", PARLEY_KEY_REQUESTS_PER_MINUTE: "100000" };
    await using instances = await startInstances(2, bouncer.url, { model, env });
    const [owner, other] = instances.all;
    const held = model.hold();
    const { body: turn } = await owner!.post<{ id: string }>("/v1/turns", {
      user_id: "ada",
      message: "Hello",
    });
    const watched = await other!.fetch(`/v1/turns/${turn.id}/stream`);
    held.send("Said ");
    held.send("elsewhere.");
    held.finish();
    const { text, done } = await readTranscript(watched);
    expect({ text, status: done.status }).toEqual({ text: "Said elsewhere.", status: "completed" });

    model.default((scripted) => scripted.reply(["Yes."]));
    const started = await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        instances.all[n % 2]!.post("/v1/chat", { user_id: `user-${n}`, message: "Hello" }),
      ),
    );
    expect(new Set(started.map(({ status }) => status))).toEqual(new Set([200]));
    await using sql = new Bun.SQL(database, { max: 1 });
    const [taken] = await sql<{ most: number }[]>`
      select count(*)::int4 as most from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`;
    // What the README tells of an instance.
    expect(taken!.most).toBeLessThanOrEqual(2 * 15);
    expect(taken!.most).toBeGreaterThan(2);
    await model.close();
  });
});
