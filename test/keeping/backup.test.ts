/** Backups, taken from the real service while it works, by the command and over HTTP. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Problem } from "../../src/http/problem.ts";
import { lockBackups } from "../../src/storage/sqlite/lock.ts";
import { ask, fatten, integrityOf, keep, Load, leftIn } from "../support/keeping.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { childrenOf, skipsWithoutProc } from "../support/processes.ts";
import { type Service, serviceEnv, startService, temporaryDirectory, until } from "../support/service.ts";
import { skipsSmallDisk, smallDisk } from "../support/small-disk.ts";
import { sseEvents } from "../support/sse.ts";
import { skipsStrace, traced } from "../support/strace.ts";
import { holdTurn, resume, seededRandom, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(60_000);

const backupsUnderLoad = Number(process.env.PARLEY_TEST_BACKUPS ?? 4);
const kills = Number(process.env.PARLEY_TEST_BACKUP_KILLS ?? 4);

const directory = temporaryDirectory();
let files = 0;
const backups = join(directory, "backups");
mkdirSync(backups);
const newFile = (): string => join(backups, `backup-${files++}.db`);

let model: ModelServer;
/** With some MiB and a turn, for all that changes nothing. */
let service: Service;
const dataDir = join(directory, "data");
/** A data directory like its, that nobody serves. */
const atRest = join(directory, "copy");

beforeAll(async () => {
  model = startModelServer();
  model.default((script) => script.reply(["Some ", "reply."]));
  service = await startService({ model, dataDir });
  await wholeTurn(service, model, ["A first ", "reply."]);
  await service.stop();
  fatten(dataDir, 16);
  mkdirSync(atRest);
  copyFileSync(join(dataDir, "parley.db"), join(atRest, "parley.db"));
  await service.restart();
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
  rmSync(directory, { recursive: true, force: true });
});

async function download(service: Service, headers: Record<string, string> = {}): Promise<string> {
  const response = await service.fetch("/v1/admin/backup", { method: "POST", headers });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("application/vnd.sqlite3");
  expect(response.headers.get("content-disposition")).toMatch(
    /^attachment; filename="parley-\d{8}T\d{6}Z\.db"$/,
  );
  const file = newFile();
  await Bun.write(file, response);
  return file;
}

const endedTurnsIn = (file: string): string[] =>
  ask<{ id: string }>(file, "select id from turns where status <> 'running'").map(({ id }) => id);

const unlikeTheirTurns = `select c.id from conversations c
  where message_count <> (select count(*) from messages where conversation_n = c.n)
    or tokens_used <> (select coalesce(sum(total_tokens), 0)
      from turns t join messages m on m.n = t.n where m.conversation_n = c.n)
    or (active_turn_id is not null) <> exists (select 1
      from turns t join messages m on m.n = t.n where m.conversation_n = c.n and t.status = 'running')`;

describe("a backup under load", () => {
  test("opens, is whole, and holds every turn that was acknowledged before it began", async () => {
    await using service = await startService({ model });
    await using load = new Load(service, 24);
    for (let round = 0; round < backupsUnderLoad; round++) {
      const enough = load.acknowledged.length + 50;
      await until("turns were acknowledged", () => load.acknowledged.length >= enough);
      const before = [...load.acknowledged];
      let file = newFile();
      if (round % 2 === 0) file = await download(service);
      else
        expect(await keep(service.dataDir, ["backup", file])).toEqual({
          exitCode: 0,
          stdout: "",
          stderr: "",
        });
      expect(integrityOf(file)).toBe("ok");
      const kept = new Set(endedTurnsIn(file));
      expect(before.filter((id) => !kept.has(id))).toEqual([]);
      // Nor is there half of anything: each conversation is as its turns say.
      expect(ask(file, unlikeTheirTurns)).toEqual([]);
    }
    await load.stop();
    console.log(`${load.acknowledged.length} turns were acknowledged meanwhile`);
    expect(leftIn(service.dataDir)).toEqual([]);
  });
});

describe("parley backup", () => {
  test("writes a file that its owner alone may read, and takes no other's place unless told to", async () => {
    const file = newFile();
    writeFileSync(file, "mine");
    const refused = await keep(service.dataDir, ["backup", file]);
    expect(refused).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: `parley: ${file} is there already: --force puts the backup in its place\n`,
    });
    expect(await Bun.file(file).text()).toBe("mine");
    chmodSync(file, 0o644);
    expect((await keep(service.dataDir, ["backup", file, "--force"])).exitCode).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(endedTurnsIn(file)).toHaveLength(1);
    expect(leftIn(backups)).toEqual([]);
  });

  test("works without a service too, also after one that was killed", async () => {
    await using killed = await startService({ model });
    await wholeTurn(killed, model, ["reply"]);
    await killed.kill();
    const file = newFile();
    expect((await keep(killed.dataDir, ["backup", file])).exitCode).toBe(0);
    expect(endedTurnsIn(file)).toHaveLength(1);
  });

  test("writes to stdout, and stops where nobody reads", async () => {
    const run = (command: string) =>
      Bun.spawnSync(["bash", "-c", command, process.execPath, "src/main.ts"], {
        env: serviceEnv(dataDir, {}),
      });
    const file = newFile();
    const written = run(`"$0" "$1" backup - > ${file}`);
    expect([written.exitCode, written.stderr.toString()]).toEqual([0, ""]);
    expect(integrityOf(file)).toBe("ok");
    expect(run(`"$0" "$1" backup - | head -c 5`).stdout.toString()).toBe("SQLit");
    expect(leftIn(dataDir)).toEqual([]);
  });

  test("of a database of an earlier version leaves it of that version", async () => {
    const dataDir = join(directory, "earlier");
    mkdirSync(dataDir);
    const old = new URL("../fixtures/databases/v1.db", import.meta.url).pathname;
    copyFileSync(old, join(dataDir, "parley.db"));
    const file = newFile();
    expect((await keep(dataDir, ["backup", file])).exitCode).toBe(0);
    for (const path of [file, join(dataDir, "parley.db")]) {
      expect(ask<{ user_version: number }>(path, "pragma user_version")).toEqual([{ user_version: 1 }]);
    }
    expect(readdirSync(dataDir).filter((file) => file.includes("snapshot"))).toEqual([]);
  });

  test("refuses what is no database of its own, a newer one, a damaged one, and to overwrite the database", async () => {
    const dataDir = join(directory, "strange");
    mkdirSync(dataDir);
    const path = join(dataDir, "parley.db");
    const file = newFile();
    const refusal = async (target = file): Promise<string> => {
      const { exitCode, stdout, stderr } = await keep(dataDir, ["backup", target, "--force"]);
      expect({ exitCode, stdout, exists: existsSync(file) }).toEqual({
        exitCode: 1,
        stdout: "",
        exists: false,
      });
      return stderr;
    };
    expect(await refusal()).toBe(`parley: there is no database in ${dataDir}\n`);
    writeFileSync(path, "no database at all, but long enough to be one".repeat(100));
    expect(await refusal()).toMatch(/^parley: the database is damaged: file is not a database\n$/);
    copyFileSync(new URL("../fixtures/databases/v1.db", import.meta.url).pathname, path);
    expect(await refusal(path)).toBe(`parley: ${path} is the database itself\n`);
    {
      using db = new Database(path);
      db.run("pragma user_version = 999");
    }
    expect(await refusal()).toMatch(/ is of version 999, this Parley knows \d+: use a newer one\n$/);
    {
      using db = new Database(path);
      db.run("pragma user_version = 1");
    }
    const [{ rootpage }] = ask<{ rootpage: number }>(
      path,
      "select rootpage from sqlite_schema where name = 'messages'",
    ) as [{ rootpage: number }];
    const bytes = await Bun.file(path).bytes();
    bytes.fill(0xff, (rootpage - 1) * 4096 + 8, rootpage * 4096);
    writeFileSync(path, bytes);
    expect(await refusal()).toMatch(/^parley: the database is damaged: [^\n]+\n$/);
    expect(leftIn(backups)).toEqual([]);
  });

  test("one at a time: a second one is told so, with a status of its own", async () => {
    const unlock = lockBackups(service.dataDir);
    try {
      const { exitCode, stderr } = await keep(service.dataDir, ["backup", newFile()]);
      expect([exitCode, stderr]).toEqual([
        3,
        `parley: another backup of ${service.dataDir} is being taken\n`,
      ]);
      const answer = await service.post<Problem>("/v1/admin/backup", undefined);
      expect([answer.status, answer.body.code]).toEqual([409, "backup_in_progress"]);
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
    } finally {
      unlock();
    }
    expect(integrityOf(await download(service))).toBe("ok");
  });

  test.skipIf(skipsStrace())(
    "that is killed before all of it is on the disk leaves no file of its name",
    async () => {
      const file = newFile();
      // Its disk takes longer than it lives.
      const command = ["-P", `${file}.part`, process.execPath, "src/main.ts", "backup", file];
      const slow = Bun.spawn(traced("fsync,fdatasync", "delay_enter=60000000", command), {
        env: serviceEnv(atRest, {}),
      });
      await until("it is being written", () => existsSync(`${file}.part`));
      slow.kill("SIGKILL");
      await slow.exited;
      expect(existsSync(file)).toBe(false);
      expect((await keep(atRest, ["backup", file])).exitCode).toBe(0);
      expect([integrityOf(file), leftIn(backups)]).toEqual(["ok", []]);
    },
  );

  test("that is killed or interrupted at any moment leaves a whole file or none", async () => {
    const random = seededRandom();
    const file = newFile();
    for (let run = 0; run < kills; run++) {
      const signal = run % 2 === 0 ? "SIGKILL" : "SIGINT";
      const child = Bun.spawn([process.execPath, "src/main.ts", "backup", file], {
        env: serviceEnv(atRest, {}),
      });
      await until("it is being written", () => existsSync(`${file}.part`) || existsSync(file));
      await Bun.sleep(random() * 150);
      child.kill(signal);
      const status = await child.exited;
      if (existsSync(file)) expect(integrityOf(file)).toBe("ok");
      if (signal === "SIGINT") {
        expect(leftIn(backups)).toEqual([]);
        if (!existsSync(file)) expect(status).toBe(130);
      }
      for (const left of [file, `${file}.part`]) rmSync(left, { force: true });
    }
    expect((await keep(atRest, ["backup", file])).exitCode).toBe(0);
    expect([integrityOf(file), leftIn(backups)]).toEqual(["ok", []]);
  });

  test.skipIf(skipsSmallDisk())("that finds no room says so and leaves nothing", async () => {
    using disk = smallDisk(4);
    disk.fill(100_000);
    const before = await readdir(disk.path);
    const { exitCode, stdout, stderr } = await keep(service.dataDir, [
      "backup",
      join(disk.path, "backup.db"),
    ]);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^parley: no backup could be written to [^\n]+: ENOSPC[^\n]*\n$/);
    expect(await readdir(disk.path)).toEqual(before);
  });
});

describe("POST /v1/admin/backup", () => {
  test("takes an admin key, and with keys configured no other", async () => {
    const [admin, other] = ["an-admin-key-for-tests", "a-service-key-for-tests"];
    await using service = await startService({ env: { PARLEY_API_KEYS: `admin:${admin},${other}` } });
    const asked = async (key: string): Promise<[number, string | undefined]> => {
      const response = await service.fetch("/v1/admin/backup", {
        method: "POST",
        headers: { authorization: `Bearer ${key}` },
      });
      const { code } = (await response.json()) as Problem;
      return [response.status, code];
    };
    expect(await asked(other)).toEqual([403, "forbidden"]);
    expect(await asked("no-key-of-anybody")).toEqual([401, "unauthorized"]);
    expect(integrityOf(await download(service, { authorization: `Bearer ${admin}` }))).toBe("ok");
  });

  test("is out of reach of web pages where it needs no key", async () => {
    const headers = { origin: "https://example.com" };
    expect((await service.post("/v1/admin/backup", undefined, headers)).status).toBe(403);
  });

  test("leaves running streams alone: their tokens come while it is read slowly", async () => {
    const { turn, held } = await holdTurn(service, model, "go ");
    const events = sseEvents(await resume(service, turn.id, 3));
    await events.next();
    const reader = (await service.fetch("/v1/admin/backup", { method: "POST" })).body!.getReader();
    let bytes = 0;
    for (let token = 0; token < 20; token++) {
      bytes += (await reader.read()).value?.length ?? 0;
      held.send(`${token} `);
      expect(JSON.parse((await events.next()).value!.data).token).toBe(`${token} `);
    }
    // Until it is sent there is no other one.
    expect((await service.post<Problem>("/v1/admin/backup", undefined)).status).toBe(409);
    held.finish();
    expect(JSON.parse((await events.next()).value!.data)).toMatchObject({ done: true });
    for (let next = await reader.read(); !next.done; next = await reader.read()) bytes += next.value.length;
    expect(bytes).toBeGreaterThan(16 * 2 ** 20);
  });

  /** Also of another process that comes to its end. */
  async function expectNothingLeft(): Promise<void> {
    await until("its process is gone", () => childrenOf(service.pid).length === 0);
    expect(leftIn(service.dataDir)).toEqual([]);
    const file = newFile();
    await until("another one may be taken", async () => {
      const response = await service.fetch("/v1/admin/backup", { method: "POST" });
      await Bun.write(file, response);
      return response.status === 200;
    });
    expect(integrityOf(file)).toBe("ok");
    await until("its process is gone", () => childrenOf(service.pid).length === 0);
  }

  test.skipIf(skipsWithoutProc())("whose client goes away leaves no process and no file", async () => {
    const leaving = new AbortController();
    const response = await service.fetch("/v1/admin/backup", { method: "POST", signal: leaving.signal });
    const reader = response.body!.getReader();
    await reader.read();
    expect(childrenOf(service.pid)).toHaveLength(1);
    leaving.abort();
    await expectNothingLeft();
  });

  test.skipIf(skipsWithoutProc())(
    "whose client goes before anything came leaves nothing either",
    async () => {
      const leaving = new AbortController();
      const answered = service
        .fetch("/v1/admin/backup", { method: "POST", signal: leaving.signal })
        .catch(() => null);
      await until("its process runs", () => childrenOf(service.pid).length === 1);
      leaving.abort();
      await answered;
      await expectNothingLeft();
    },
  );

  test.skipIf(skipsSmallDisk())(
    "on a full disk is refused, leaves nothing, and the service goes on",
    async () => {
      using disk = smallDisk(8);
      await using service = await startService({ model, dataDir: disk.path });
      await wholeTurn(service, model, ["kept"]);
      await service.stop();
      fatten(disk.path, 1);
      await service.restart();
      disk.fill(700_000);
      const answer = await service.post<Problem>("/v1/admin/backup", undefined);
      expect([answer.status, answer.body.code]).toEqual([503, "storage_unavailable"]);
      expect(JSON.stringify(answer.body)).not.toContain(disk.path);
      expect(leftIn(disk.path)).toEqual([]);
      disk.free();
      await wholeTurn(service, model, ["on"]);
      expect(endedTurnsIn(await download(service))).toHaveLength(2);
    },
  );

  test("what a backup or a restore that was killed left in the data directory is gone after the next start", async () => {
    for (const left of ["backup.db.part", "parley.db.part"]) writeFileSync(join(atRest, left), "half of it");
    await using service = await startService({ model, dataDir: atRest });
    expect(leftIn(service.dataDir)).toEqual([]);
  });
});
