/** A full disk, a broken one, a slow one: refused clearly, nothing is lost, and it ends by itself. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { ChatResponse, Message } from "../../src/chat/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import {
  runParley,
  type Service,
  serviceEnv,
  startService,
  temporaryDirectory,
  until,
} from "../support/service.ts";
import { type SmallDisk, skipsSmallDisk, smallDisk } from "../support/small-disk.ts";
import { readTranscript, sseEvents } from "../support/sse.ts";
import { skipsStrace, traced, withFault } from "../support/strace.ts";
import { conversationOf, holdTurn, resume, turnOf, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(60_000);

const chat = { user_id: "ada", message: "Hello" };
const unavailable = { status: 503, code: "storage_unavailable" };

interface Ready {
  status: string;
  checks: { serving: { status: string }; storage: { status: string } };
}

const untilReady = (service: Service, status: number): Promise<void> =>
  until(`/ready says ${status}`, async () => (await service.get("/ready")).status === status);

function expectSound(service: Service): void {
  using db = new Database(join(service.dataDir, "parley.db"), { readonly: true });
  expect(db.query("pragma integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
}

/** All that writes, by what it is asked with. */
async function writesOf(
  service: Service,
): Promise<[method: string, path: string, body: object | undefined][]> {
  const { body } = await service.post<{ id: string }>("/v1/conversations", { user_id: "ada" });
  return [
    ["POST", "/v1/chat", chat],
    ["POST", "/v1/chat/stream", chat],
    ["POST", "/v1/turns", chat],
    ["GET", `/v1/chat/stream?${new URLSearchParams(chat)}`, undefined],
    ["POST", "/v1/conversations", { user_id: "ada" }],
    ["PATCH", `/v1/conversations/${body.id}`, { title: "Another" }],
    ["DELETE", `/v1/conversations/${body.id}`, undefined],
  ];
}

async function expectRefused(service: Service, writes: Awaited<ReturnType<typeof writesOf>>): Promise<void> {
  for (const [method, path, body] of writes) {
    const answer = await service.send<Problem>(method, path, body);
    expect([method, path, answer.status, answer.body]).toEqual([
      method,
      path,
      503,
      expect.objectContaining(unavailable),
    ]);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
  }
}

let model: ModelServer;
beforeAll(() => {
  model = startModelServer();
});
afterAll(() => model.close());

/** A service on a disk of its own, which has 8 MiB. */
async function onSmallDisk(): Promise<
  { disk: SmallDisk; service: Service; model: ModelServer } & AsyncDisposable
> {
  const disk = smallDisk(8);
  const own = startModelServer();
  const service = await startService({ model: own, dataDir: disk.path });
  return {
    disk,
    service,
    model: own,
    async [Symbol.asyncDispose]() {
      await service[Symbol.asyncDispose]();
      await own.close();
      disk[Symbol.dispose]();
    },
  };
}

describe.skipIf(skipsSmallDisk())("a full disk", () => {
  test("refuses what writes, answers what reads, says so in /ready, and recovers by itself", async () => {
    await using on = await onSmallDisk();
    const { disk, service } = on;
    const { conversation_id } = await wholeTurn(service, on.model, ["whole"]);
    const writes = await writesOf(service);
    disk.fill();
    await expectRefused(service, writes);
    expect(on.model.requests).toHaveLength(1);
    const { body } = await service.get<{ messages: Message[] }>(`/v1/conversations/${conversation_id}`);
    expect(body.messages.map(({ content }) => content)).toEqual(["Hello", "whole"]);
    await untilReady(service, 503);
    const ready = await service.get<Ready>("/ready");
    expect(ready.body).toMatchObject({ status: "not_ready", checks: { storage: { status: "failed" } } });
    expect((await service.get("/health")).status).toBe(200);
    disk.free();
    await untilReady(service, 200);
    const list = await service.get<{ conversations: unknown[] }>("/v1/conversations");
    expect(list.body.conversations).toHaveLength(2);
    await wholeTurn(service, on.model, ["again"], { conversation_id });
    expectSound(service);
  });

  test("leaves the Idempotency-Key of what it refused unused", async () => {
    await using on = await onSmallDisk();
    const key = { "idempotency-key": "refused-once" };
    on.disk.fill();
    expect((await on.service.post("/v1/chat", chat, key)).status).toBe(503);
    on.disk.free();
    on.model.reply(["now"]);
    const first = await on.service.post<ChatResponse>("/v1/chat", chat, key);
    const second = await on.service.post<ChatResponse>("/v1/chat", chat, key);
    expect([first.status, first.body.response]).toEqual([200, "now"]);
    expect(second.body).toEqual(first.body);
    expect(on.model.requests).toHaveLength(1);
  });

  test("lets running turns go on, and their end waits for room", async () => {
    await using on = await onSmallDisk();
    const { turn, held } = await holdTurn(on.service, on.model, "before ");
    const events = sseEvents(await resume(on.service, turn.id, 0));
    const next = async () => (await events.next()).value;
    await next();
    expect((await next())?.data).toBe('{"token":"before "}');
    on.disk.fill();
    expect((await on.service.post("/v1/chat", chat)).status).toBe(503);
    held.send("while ");
    expect((await next())?.data).toBe('{"token":"while "}');
    held.send("full");
    expect((await next())?.data).toBe('{"token":"full"}');
    held.finish();
    await until("the end is tried", () =>
      on.service.logs.some((line) => line.includes("turn end not stored")),
    );
    expect((await turnOf(on.service, turn.id)).status).toBe("running");
    on.disk.free();
    expect(JSON.parse((await next())!.data)).toMatchObject({ done: true, status: "completed", length: 17 });
    expect(await turnOf(on.service, turn.id)).toMatchObject({
      status: "completed",
      response: "before while full",
    });
    await on.service.kill();
    await on.service.restart();
    expect(await turnOf(on.service, turn.id)).toMatchObject({
      status: "completed",
      response: "before while full",
    });
  });

  test("that lasts tells the watchers, and what they were told is what gets stored", async () => {
    await using on = await onSmallDisk();
    const waiting = on.service.post<Problem>("/v1/chat", { ...chat, user_id: "bob" });
    const forBob = on.model.hold();
    forBob.send("for Bob");
    await forBob.request;
    const { turn, held } = await holdTurn(on.service, on.model, "for Ada");
    const watching = resume(on.service, turn.id, 0).then(readTranscript);
    on.disk.fill();
    held.finish();
    forBob.finish();
    const { text, done } = await watching;
    expect(text).toBe("for Ada");
    expect(done).toMatchObject({ status: "interrupted", length: 7, error: { code: "storage_unavailable" } });
    const { body } = await waiting;
    expect([body.status, body.code, body.response]).toEqual([503, "storage_unavailable", "for Bob"]);
    on.disk.free();
    const stored = (): unknown[] => {
      using db = new Database(join(on.disk.path, "parley.db"), { readonly: true });
      return db
        .query("select t.status, error_code, content from turns t join messages m on m.n = t.n order by t.n")
        .all();
    };
    const told = { status: "interrupted", error_code: "storage_unavailable" };
    await until("the end is stored", () => JSON.stringify(stored()).split("interrupted").length === 3);
    expect(stored()).toEqual([
      { ...told, content: "for Bob" },
      { ...told, content: "for Ada" },
    ]);
    await until(
      "the conversation is free",
      async () => (await conversationOf(on.service, turn.conversation_id)).active_turn_id === null,
    );
    const { conversation_id } = turn;
    expect((await wholeTurn(on.service, on.model, ["on"], { conversation_id })).response).toBe("on");
  });

  test("costs no text: checkpoints that failed are made up for, also where no more comes", async () => {
    await using on = await onSmallDisk();
    const { turn, held } = await holdTurn(on.service, on.model, "before ");
    on.disk.fill();
    held.send("while it was full");
    await until("a checkpoint fails", () =>
      on.service.logs.some((line) => line.includes("checkpoints not stored")),
    );
    on.disk.free();
    await until("it is made up for", () => {
      using db = new Database(join(on.disk.path, "parley.db"), { readonly: true });
      const row = db
        .query("select content from messages where turn_id = ? and role = 'assistant'")
        .get(turn.id);
      return (row as { content: string }).content === "before while it was full";
    });
    await on.service.kill();
    await on.service.restart();
    expect(await turnOf(on.service, turn.id)).toMatchObject({
      status: "interrupted",
      response: "before while it was full",
    });
  });

  test("at the start is said in a line, and an existing database is left as it was", async () => {
    using disk = smallDisk(8);
    {
      await using service = await startService({ model, dataDir: disk.path });
      await wholeTurn(service, model, ["kept"]);
      await service.stop();
    }
    const path = join(disk.path, "parley.db");
    const before = await Bun.file(path).bytes();
    disk.fill();
    const { exitCode, stderr, stdout } = await runParley(["serve"], serviceEnv(disk.path, {}));
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^parley: the database in .* can't be opened: .*\n$/);
    disk.free();
    expect(await Bun.file(path).bytes()).toEqual(before);
  });

  test("under the log, or a log that nobody reads any more, stops no service", async () => {
    using disk = smallDisk(1);
    const fine = startModelServer();
    for (const log of [`exec "$0" "$@" > ${disk.path}/log`, 'exec "$0" "$@" > >(head -c 1 > /dev/null)']) {
      const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
      const { port } = taken;
      taken.stop(true);
      const dataDir = temporaryDirectory();
      const service = Bun.spawn(["bash", "-c", log, process.execPath, "src/main.ts", "serve"], {
        env: { ...serviceEnv(dataDir, { model: fine }), PORT: String(port) },
        stdout: "ignore",
        stderr: "ignore",
      });
      const ask = (path: string, body?: object) =>
        fetch(
          `http://127.0.0.1:${port}${path}`,
          body && {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify(body),
          },
        );
      await until("it listens", () =>
        ask("/health").then(
          ({ ok }) => ok,
          () => false,
        ),
      );
      disk.fill();
      fine.default((script) => script.reply(["fine"]));
      for (let round = 0; round < 15; round++) {
        const answers = await Promise.all(Array.from({ length: 20 }, () => ask("/v1/chat", chat)));
        expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
      }
      // Log lines are gathered for 100 ms.
      await Bun.sleep(300);
      expect((await ask("/ready")).status).toBe(200);
      disk.free();
      service.kill("SIGTERM");
      expect(await service.exited).toBe(0);
      rmSync(dataDir, { recursive: true, force: true });
    }
    await fine.close();
  });
});

test.skipIf(skipsSmallDisk())(
  "a process that logs much to a full disk still ends, and tells what was lost",
  async () => {
    using disk = smallDisk(1);
    const script = `import { createLog } from "./src/log.ts";
    const log = createLog();
    for (let round = 0; round < 20; round++) {
      for (let line = 0; line < 1000; line++) log.info({ text: "x".repeat(200) }, "line");
      await Bun.sleep(10);
    }
    console.error("full");
    for await (const _ of console) break;
    log.info("room again");`;
    const logging = Bun.spawn(
      ["bash", "-c", `exec "$0" "$@" > ${disk.path}/log`, process.execPath, "-e", script],
      {
        stdin: "pipe",
        stderr: "pipe",
        timeout: 20_000,
        killSignal: "SIGKILL",
      },
    );
    disk.fill(100_000);
    expect(new TextDecoder().decode((await logging.stderr.getReader().read()).value)).toContain("full");
    disk.free();
    logging.stdin.write("\n");
    logging.stdin.end();
    expect(await logging.exited).toBe(0);
    const lines = (await Bun.file(join(disk.path, "log")).text()).trim().split("\n");
    expect(lines.at(-1)).toContain("room again");
    expect(lines.filter((line) => line.includes("log_lines_lost")).length).toBeGreaterThan(0);
  },
);

describe.skipIf(skipsStrace())("an I/O error", () => {
  for (const fault of ["fsync,fdatasync:error=EIO", "pwrite64:error=EIO", "pwrite64:error=ENOSPC"]) {
    test(`${fault} refuses what writes, loses nothing that was acknowledged, and recovers`, async () => {
      const own = startModelServer();
      await using service = await startService({ model: own });
      const { turn_id, conversation_id } = await wholeTurn(service, own, ["whole"]);
      const writes = await writesOf(service);
      await withFault(service.pid, fault, async () => {
        await expectRefused(service, writes);
        await untilReady(service, 503);
      });
      expect(own.requests).toHaveLength(1);
      await untilReady(service, 200);
      const after = await wholeTurn(service, own, ["after"], { conversation_id });
      await service.kill();
      await service.restart();
      expect((await turnOf(service, turn_id)).response).toBe("whole");
      expect((await turnOf(service, after.turn_id)).response).toBe("after");
      expect((await conversationOf(service, conversation_id)).message_count).toBe(4);
      expectSound(service);
      await own.close();
    });
  }

  test("of a read is a 503 of that request alone", async () => {
    await using service = await startService({ model });
    const { turn_id } = await wholeTurn(service, model, ["whole"]);
    // Nothing is in SQLite's own cache then.
    await service.stop();
    await service.restart();
    await withFault(service.pid, "pread64:error=EIO", async () => {
      const answer = await service.get<Problem>(`/v1/turns/${turn_id}`);
      expect(answer.body).toMatchObject(unavailable);
      expect((await service.get("/health")).status).toBe(200);
    });
    expect((await turnOf(service, turn_id)).response).toBe("whole");
  });
});

describe.skipIf(skipsStrace())("a slow disk", () => {
  test("holds up no running stream: its tokens come while a commit still waits for the disk", async () => {
    const own = startModelServer();
    await using service = await startService({ model: own });
    const { turn, held } = await holdTurn(service, own, "go ");
    const events = sseEvents(await resume(service, turn.id, 3));
    await events.next();
    await withFault(service.pid, "fsync,fdatasync:delay_enter=4000000", async () => {
      let answered = false;
      const waiting = service.post("/v1/turns", chat).then(() => {
        answered = true;
      });
      for (let token = 0; token < 30; token++) {
        held.send(`${token} `);
        expect(JSON.parse((await events.next()).value!.data).token).toBe(`${token} `);
      }
      expect(answered).toBe(false);
      await waiting;
    });
    held.finish();
    expect(JSON.parse((await events.next()).value!.data)).toMatchObject({ done: true, status: "completed" });
    await own.close();
  });

  test("of 20 ms a sync leaves 50 streams their pace, while others start and end turns", async () => {
    const serve = [process.execPath, "src/main.ts", "serve"];
    const paced = startModelServer();
    paced.default((script) => script.reply(Array<string>(30).fill("token "), { delayMs: 25 }));
    const onDisk = (fault: string | null): Promise<Service> =>
      startService({ model: paced, command: traced("fsync,fdatasync", fault, serve) });
    /** The middle one of the times that the streams took from their first to their last token. */
    const paceOf = async (service: Service): Promise<number> => {
      const spans = Array.from({ length: 50 }, async (_, index) => {
        const query = new URLSearchParams({ user_id: `user-${index}`, message: "Hello" });
        const times: number[] = [];
        for await (const { event, data } of sseEvents(await service.fetch(`/v1/chat/stream?${query}`))) {
          if (event === undefined && data.startsWith('{"token"')) times.push(performance.now());
        }
        return times.at(-1)! - times[0]!;
      });
      const others = Array.from({ length: 20 }, () => service.post("/v1/turns", chat));
      await Promise.all(others);
      return (await Promise.all(spans)).toSorted((a, b) => a - b)[25]!;
    };
    await using fast = await onDisk(null);
    await using slow = await onDisk("delay_enter=20000");
    await Promise.all([fast, slow].map((service) => service.post("/v1/chat", chat)));
    // Side by side, so that whatever else the machine does slows both.
    const [fastMs, slowMs] = await Promise.all([paceOf(fast), paceOf(slow)]);
    console.log(
      `30 tokens took ${Math.round(slowMs)} ms on the slow disk, ${Math.round(fastMs)} ms on the other`,
    );
    expect(slowMs / fastMs).toBeLessThan(1.5);
    await paced.close();
  });
});
