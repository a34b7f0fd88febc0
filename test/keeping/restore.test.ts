/** Restoring backups: what comes back, what is refused, and what is left of what was there. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DocumentView } from "../../src/documents/schema.ts";
import { newId } from "../../src/ids.ts";
import { endlessDocument } from "../support/documents.ts";
import { ask, integrityOf, keep, leftIn } from "../support/keeping.ts";
import { search, settled, upload } from "../support/library.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, temporaryDirectory, until } from "../support/service.ts";
import { skipsSmallDisk, smallDisk } from "../support/small-disk.ts";
import { conversationOf, holdTurn, turnOf, wholeTurn } from "../support/turns.ts";

setDefaultTimeout(60_000);

const fixture = new URL("../fixtures/databases/v1.db", import.meta.url).pathname;
const directory = temporaryDirectory();
const newDirectory = (): string => mkdtempSync(join(directory, "data-"));

let model: ModelServer;
/** Of a service with a whole turn, one that ran, and an upload that waited. */
const backup = join(directory, "backup.db");
let whole: { turn_id: string; conversation_id: string };
let cut: { id: string; conversation_id: string };
let waiting: DocumentView;

beforeAll(async () => {
  model = startModelServer();
  await using service = await startService({ model, env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
  whole = await wholeTurn(service, model, ["A whole ", "reply. 😀"]);
  cut = (await holdTurn(service, model, "half of ", { message: "Cut me" })).turn;
  await until("what it said is checkpointed", () => {
    const sql = "select content from messages where turn_id = ? and role = 'assistant'";
    return (
      ask<{ content: string }>(join(service.dataDir, "parley.db"), sql, cut.id)[0]?.content === "half of "
    );
  });
  // Two are read at once: while these are, all others wait.
  const endless = Buffer.from(endlessDocument().bytes);
  const others = await Promise.all(["one.html", "two.html"].map((name) => upload(service, name, endless)));
  waiting = (await upload(service, "waiting.md", "# Warranty\n\nThe Falcon drone has three years.")).body;
  // They are still being read, but are in no database any more.
  for (const { body } of others) {
    expect((await service.send("DELETE", `/v1/documents/${body.id}`)).status).toBe(200);
  }
  expect((await service.get<DocumentView>(`/v1/documents/${waiting.id}`)).body.status).toBe("processing");
  expect((await keep(service.dataDir, ["backup", backup])).exitCode).toBe(0);
});
afterAll(async () => {
  await model.close();
  rmSync(directory, { recursive: true, force: true });
});

const restore = (dataDir: string, file: string, ...more: string[]) =>
  keep(dataDir, ["restore", file, ...more]);

async function expectRefused(dataDir: string, file: string, why: string | RegExp): Promise<void> {
  const before = readdirSync(dataDir).filter((name) => !name.startsWith("lock.db"));
  const { exitCode, stdout, stderr } = await restore(dataDir, file);
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
  expect(stderr).toMatch(/^parley: [^\n]+\n$/);
  if (typeof why === "string") expect(stderr).toBe(`parley: ${why}\n`);
  else expect(stderr).toMatch(why);
  expect(readdirSync(dataDir).filter((name) => !name.startsWith("lock.db"))).toEqual(before);
}

/** What is in a service that was restored from the backup. */
async function expectRestored(service: Service): Promise<void> {
  expect(await turnOf(service, whole.turn_id)).toMatchObject({
    status: "completed",
    response: "A whole reply. 😀",
  });
  expect(await turnOf(service, cut.id)).toMatchObject({ status: "interrupted", response: "half of " });
  expect((await conversationOf(service, cut.conversation_id)).active_turn_id).toBeNull();
}

describe("a backup that is restored", () => {
  test("has all that it had, ends what ran, and goes on with uploads that waited", async () => {
    const dataDir = join(directory, "new", "data");
    expect(await restore(dataDir, backup)).toEqual({
      exitCode: 0,
      stdout: `restored to ${dataDir}\n`,
      stderr: "",
    });
    expect(leftIn(dataDir)).toEqual([]);
    expect(
      ask(join(dataDir, "parley.db"), "select name from sqlite_schema where name like 'backup%'"),
    ).toEqual([]);
    await using service = await startService({ model, dataDir });
    await expectRestored(service);
    expect(await settled(service, waiting)).toMatchObject({ status: "ready", name: "waiting.md" });
    expect((await search(service, "Falcon warranty"))[0]).toMatchObject({ name: "waiting.md" });
    const { conversation_id } = whole;
    expect((await wholeTurn(service, model, ["on"], { conversation_id })).response).toBe("on");
  });

  test("of an earlier version is upgraded when it is served", async () => {
    const dataDir = newDirectory();
    expect((await restore(dataDir, fixture)).exitCode).toBe(0);
    await using service = await startService({ model, dataDir });
    const { body } = await service.get<{ conversations: unknown[] }>("/v1/conversations");
    expect(body.conversations.length).toBeGreaterThan(2);
  });

  test("takes the place of a database only by force, and that is kept as a backup itself", async () => {
    await using service = await startService({ model });
    const later = await wholeTurn(service, model, ["later"]);
    const { dataDir } = service;
    await expectRefused(
      dataDir,
      backup,
      `${dataDir} is in use, by a parley serve, restore or import: stop it first`,
    );
    expect((await restore(dataDir, backup, "--force")).stderr).toContain("is in use, by a parley serve");
    await service.kill();
    await expectRefused(
      dataDir,
      backup,
      `there is a database in ${dataDir} already: --force keeps it beside, and puts the backup in its place`,
    );
    const { exitCode, stdout } = await restore(dataDir, backup, "--force");
    expect(exitCode).toBe(0);
    const replaced = /; what was there is in (\S+)\n$/.exec(stdout)![1]!;
    await service.restart();
    await expectRestored(service);
    expect((await service.get(`/v1/turns/${later.turn_id}`)).status).toBe(404);
    await service.stop();
    expect((await restore(dataDir, replaced, "--force")).exitCode).toBe(0);
    await service.restart();
    expect(await turnOf(service, later.turn_id)).toMatchObject({ status: "completed", response: "later" });
    expect((await service.get(`/v1/turns/${whole.turn_id}`)).status).toBe(404);
    // Who is erased is erased from what is kept beside too.
    expect(readdirSync(dataDir).filter((name) => name.includes("replaced"))).toHaveLength(2);
    expect((await service.send("DELETE", "/v1/users/ada")).status).toBe(200);
    expect(readdirSync(dataDir).filter((name) => name.includes("replaced"))).toEqual([]);
  });

  test("takes the place of a database that is damaged, which is kept as it was", async () => {
    const dataDir = newDirectory();
    const damaged = "no database, but somebody may still mend it".repeat(100);
    writeFileSync(join(dataDir, "parley.db"), damaged);
    const { exitCode, stdout } = await restore(dataDir, backup, "--force");
    expect(exitCode).toBe(0);
    const replaced = /; what was there is in (\S+)\n$/.exec(stdout)![1]!;
    expect(await Bun.file(replaced).text()).toBe(damaged);
    expect(integrityOf(join(dataDir, "parley.db"))).toBe("ok");
  });
});

describe("refused, and nothing is changed", () => {
  test("what isn't there, is no database, or another program's", async () => {
    const dataDir = newDirectory();
    const missing = join(directory, "missing.db");
    await expectRefused(dataDir, missing, `there is no ${missing}`);
    const text = join(directory, "text.db");
    writeFileSync(text, "no database at all, but long enough to be one".repeat(100));
    await expectRefused(dataDir, text, `${text} is no Parley database`);
    const empty = join(directory, "empty.db");
    writeFileSync(empty, "");
    await expectRefused(dataDir, empty, `${empty} is no Parley database`);
    const other = join(directory, "other.db");
    {
      using db = new Database(other);
      db.run("create table recipes (name text)");
      db.run("pragma user_version = 1");
    }
    await expectRefused(dataDir, other, `${other} is no Parley database`);
    await expectRefused(dataDir, directory, /can't be restored/);
  });

  test("a newer one", async () => {
    const newer = join(directory, "newer.db");
    copyFileSync(backup, newer);
    {
      using db = new Database(newer);
      db.run("pragma user_version = 999");
    }
    await expectRefused(
      newDirectory(),
      newer,
      /newer.db is of version 999, this Parley knows \d+: use a newer one\n$/,
    );
  });

  test("one that is cut off, or damaged anywhere", async () => {
    const damaged = join(directory, "damaged.db");
    const bytes = await Bun.file(backup).bytes();
    await Bun.write(damaged, bytes.slice(0, bytes.length / 2));
    await expectRefused(newDirectory(), damaged, /damaged.db is damaged/);
    const rows = ask<{ rootpage: number }>(backup, "select rootpage from sqlite_schema where name = 'turns'");
    bytes.fill(0xff, (rows[0]!.rootpage - 1) * 4096 + 8, rows[0]!.rootpage * 4096);
    await Bun.write(damaged, bytes);
    await expectRefused(newDirectory(), damaged, /damaged.db is damaged/);
    copyFileSync(backup, damaged);
    {
      using db = new Database(damaged);
      db.run("pragma foreign_keys = off");
      db.run("delete from conversations");
    }
    await expectRefused(newDirectory(), damaged, `${damaged} is damaged: rows point to nothing`);
  });

  test("the file of a database that is in use, because half of it is in its log", async () => {
    await using service = await startService({ model });
    await wholeTurn(service, model, ["in the log"]);
    const path = join(service.dataDir, "parley.db");
    await expectRefused(newDirectory(), path, /parley.db is in use, or its program was killed/);
  });

  test.skipIf(skipsSmallDisk())("for want of room, which is said", async () => {
    using disk = smallDisk(2);
    disk.fill(100_000);
    await expectRefused(disk.path, backup, /backup.db can't be restored to [^\n]+: ENOSPC/);
  });
});

test("uploads in a backup of somebody else's making get out of no directory", async () => {
  const hostile = join(directory, "hostile.db");
  copyFileSync(backup, hostile);
  const good = newId("revision");
  {
    using db = new Database(hostile);
    for (const id of ["../../escaped", join(directory, "escaped"), "..", good]) {
      db.query("insert into backup_uploads values (?, 0, x'00')").run(id);
    }
  }
  const dataDir = newDirectory();
  expect((await restore(dataDir, hostile)).exitCode).toBe(0);
  expect(existsSync(join(dataDir, "uploads", good))).toBe(true);
  expect(readdirSync(join(dataDir, "uploads")).every((name) => /^rev_[0-9a-f-]{36}$/.test(name))).toBe(true);
  for (const at of [directory, dataDir]) expect(readdirSync(at)).not.toContain("escaped");
});
