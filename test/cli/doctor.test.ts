/** parley doctor: each thing that can be wrong is made wrong, and has to be named with what to do about it. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chownSync, closeSync, existsSync, openSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Finding } from "../../src/cli/doctor/finding.ts";
import { examineFileSystem } from "../../src/cli/doctor/machine.ts";
import { version } from "../../src/version.ts";
import { directoriesOfFile } from "../support/directories.ts";
import { startEmbeddingServer } from "../support/embedding-server.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { programPath, skipsWithout } from "../support/needs.ts";
import { type Nginx, skipsNginx, startNginx } from "../support/nginx.ts";
import { runParley, type Service, startService, testMsMax } from "../support/service.ts";
import { skipsSmallDisk, smallDisk } from "../support/small-disk.ts";

setDefaultTimeout(testMsMax);

const newDirectory = directoriesOfFile();

interface Examination {
  exitCode: number;
  findings: Finding[];
}

async function examine(args: string[] = [], env: Record<string, string> = {}): Promise<Examination> {
  const own = { PATH: process.env.PATH ?? "", PARLEY_DATA_DIR: join(newDirectory(), "data"), ...env };
  const { exitCode, stdout, stderr } = await runParley(["doctor", "--json", ...args], own);
  expect(stderr).toBe("");
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Finding[] };
  expect(ok).toBe(exitCode === 0);
  expect(findings.some(({ status }) => status === "failed")).toBe(exitCode === 1);
  for (const { status, advice } of findings) {
    expect(advice !== undefined).toBe(status === "failed" || status === "warning");
  }
  return { exitCode, findings };
}

const findingOf = ({ findings }: Examination, name: string): Finding => {
  const found = findings.filter((finding) => finding.name === name);
  expect(found.map((finding) => finding.name)).toEqual([name]);
  return found[0]!;
};

describe("of this machine it tells", () => {
  test("that nothing is wrong where nothing is, and changes nothing", async () => {
    const dataDir = join(newDirectory(), "data");
    const { exitCode, stdout } = await runParley(["doctor"], {
      PATH: process.env.PATH ?? "",
      PARLEY_DATA_DIR: dataDir,
    });
    expect(exitCode).toBe(0);
    const named = [...stdout.matchAll(/^(ok|WARNING|FAILED|skipped) +(\S+( \S+)*) {2,}/gm)].map(
      ([, , name]) => name,
    );
    expect(named).toEqual([
      "configuration",
      "data directory",
      "file system",
      "disk space",
      "lock",
      "database",
      "keys",
      "open files",
      "fetch limit",
      "model",
    ]);
    expect(stdout).not.toContain("FAILED");
    expect(existsSync(dataDir)).toBe(false);
  });

  test("every fault of the configuration, and goes on with what doesn't need it", async () => {
    const found = await examine([], { PORT: "eighty", PARLEY_MEMORY: "maybe" });
    expect(findingOf(found, "configuration")).toMatchObject({ status: "failed" });
    expect(findingOf(found, "configuration").detail).toMatch(/PARLEY_MEMORY .*; PORT /);
    expect(findingOf(found, "everything else here").status).toBe("skipped");
  });

  test("that others could reach it without a key, until there is one", async () => {
    const env = { PARLEY_HOST: "0.0.0.0", PARLEY_DATA_DIR: join(newDirectory(), "data") };
    expect(findingOf(await examine([], env), "keys")).toMatchObject({
      status: "failed",
      advice: "make one: parley keys create first --role admin",
    });
    const made = await runParley(["keys", "create", "first", "--role", "admin"], {
      ...env,
      PATH: process.env.PATH ?? "",
    });
    expect(made.exitCode).toBe(0);
    const found = await examine([], env);
    expect([found.exitCode, findingOf(found, "keys").detail]).toEqual([0, "some in the database"]);
  });

  test("a data directory that is none", async () => {
    const file = join(newDirectory(), "file");
    writeFileSync(file, "");
    const found = await examine([], { PARLEY_DATA_DIR: file });
    expect(findingOf(found, "data directory")).toMatchObject({
      status: "failed",
      detail: `${file} is no directory`,
      advice: "set PARLEY_DATA_DIR to a directory",
    });
    expect(findingOf(found, "database").status).toBe("skipped");
  });

  test.skipIf(skipsWithout("root", process.getuid?.() === 0))(
    "a data directory of somebody else",
    async () => {
      const directory = newDirectory();
      chownSync(directory, 12345, 12345);
      const found = await examine([], { PARLEY_DATA_DIR: directory });
      expect(found.exitCode).toBe(0);
      expect(findingOf(found, "data directory")).toMatchObject({
        status: "warning",
        detail: `${directory} belongs to the user 12345, and this is the user 0`,
      });
    },
  );

  test.skipIf(skipsSmallDisk())("a disk without room, and one that is lost with its machine", async () => {
    using disk = smallDisk(32);
    const found = await examine([], { PARLEY_DATA_DIR: disk.path });
    expect(findingOf(found, "disk space").status).toBe("failed");
    expect(findingOf(found, "disk space").detail).toMatch(/^3\d MiB are free for /);
    expect(findingOf(found, "file system")).toMatchObject({
      status: "warning",
      detail: `${disk.path} is on tmpfs, which is memory: it is lost with it`,
    });
  });

  test.each([
    [0x6969, "failed", "/data is on NFS"],
    [0xff534d42, "failed", "/data is on CIFS"],
    [0x65735546, "warning", "/data is on FUSE, which may be a network's"],
    [0xef53, "ok", "/data is on a local file system"],
    [null, "ok", "/data is on a local file system"],
  ] as const)("what the file system %p means for the database", (magic, status, detail) => {
    expect(examineFileSystem("/data", magic)).toMatchObject({ status, detail });
  });

  test("few open files and a low limit of fetch", async () => {
    const env = {
      PATH: process.env.PATH ?? "",
      PARLEY_DATA_DIR: newDirectory(),
      BUN_CONFIG_MAX_HTTP_REQUESTS: "100",
    };
    const poor = Bun.spawn(
      ["sh", "-c", `ulimit -n 512; exec '${process.execPath}' src/main.ts doctor --json`],
      { cwd: new URL("../..", import.meta.url).pathname, env, stdout: "pipe" },
    );
    const { findings } = JSON.parse(await new Response(poor.stdout).text()) as Examination;
    const found = { exitCode: await poor.exited, findings };
    expect(found.exitCode).toBe(0);
    expect(findingOf(found, "open files")).toMatchObject({
      status: "warning",
      detail: "512 open files are allowed: 192 turns at once, though PARLEY_TURNS_RUNNING_MAX is 10000",
    });
    expect(findingOf(found, "fetch limit")).toMatchObject({
      status: "warning",
      advice: "unset BUN_CONFIG_MAX_HTTP_REQUESTS: parley serve raises it by itself",
    });
  });
});

describe("of the database it tells", () => {
  let dataDir: string;
  const env = (): Record<string, string> => ({ PARLEY_DATA_DIR: dataDir });

  beforeAll(async () => {
    dataDir = newDirectory();
    await using service = await startService({ dataDir });
    const message = "word ".repeat(5_000);
    for (let n = 0; n < 5; n++) await service.post("/v1/turns", { user_id: "ada", message });
    const held = await examine([], env());
    expect(findingOf(held, "lock").detail).toBe("a running service holds the data directory");
    expect(findingOf(held, "database").status).toBe("ok");
    expect((await service.get("/ready")).status).toBe(200);
    expect(await service.stop()).toBe(0);
  });

  test("that it is whole, and nobody's", async () => {
    const found = await examine([], env());
    expect(findingOf(found, "lock").detail).toBe("no service holds the data directory");
    expect(findingOf(found, "database").detail).toMatch(/^it is whole \(quick_check\), of version \d+$/);
    // And a service can start right after.
    await using service = await startService({ dataDir });
    expect((await service.get("/ready")).status).toBe(200);
    expect(await service.stop()).toBe(0);
  });

  test("that a newer program wrote it", async () => {
    const path = join(dataDir, "parley.db");
    const db = new Database(path);
    const { user_version } = db.query<{ user_version: number }, []>("pragma user_version").get()!;
    db.run("pragma user_version = 99");
    db.close();
    const found = await examine([], env());
    expect(findingOf(found, "database")).toMatchObject({
      status: "failed",
      detail: `it is of version 99, and this Parley knows ${user_version}`,
    });
    const again = new Database(path);
    again.run(`pragma user_version = ${user_version}`);
    again.close();
  });

  test.each([
    ["in one page of its middle", (size: number) => Math.floor((size * 3) / 4 / 4096) * 4096, 4096],
    ["at its beginning, so that it can't be read at all", () => 0, 100],
  ])("that it is broken %s", async (_, placeIn, length) => {
    const path = join(dataDir, "parley.db");
    const file = openSync(path, "r+");
    writeSync(file, Buffer.alloc(length, 0xa5), 0, length, placeIn(statSync(path).size));
    closeSync(file);
    const found = await examine([], env());
    expect(found.exitCode).toBe(1);
    expect(findingOf(found, "database").status).toBe("failed");
    expect(findingOf(found, "database").detail).toStartWith("it is broken: ");
    expect(findingOf(found, "database").advice).toContain("backup");
  });
});

describe("of models it tells", () => {
  test("which answer, each asked once for a few tokens, and that the clock is right", async () => {
    const first = startModelServer();
    const second = startModelServer();
    const embedding = startEmbeddingServer();
    first.reply(["Yes."]);
    second.status(401);
    const found = await examine([], {
      OPENAI_BASE_URL: first.url,
      OPENAI_API_KEY: "SECRET",
      PARLEY_MODEL: "one",
      PARLEY_FALLBACK_MODELS: `two@${second.url}`,
      PARLEY_FALLBACK_API_KEYS: "SECRET-2",
      PARLEY_EMBEDDING_MODEL: `vectors@${embedding.url}`,
    });
    const models = found.findings.filter(({ name }) => name === "model");
    expect(models).toMatchObject([
      { status: "ok", detail: expect.stringMatching(/^one@http:\S+ answered within \d+ ms$/) },
      {
        status: "failed",
        detail: `two@${second.url} failed: model_rejected (401)`,
        advice: "its key is wrong or may not use this model: see OPENAI_API_KEY and its like",
      },
    ]);
    expect(findingOf(found, "embedding")).toMatchObject({ status: "ok" });
    expect(first.requests.map(({ body }) => [body.max_tokens, body.stream])).toEqual([[16, true]]);
    expect(second.requests.length).toBe(1);
    expect(embedding.requests.length).toBe(1);
    expect(JSON.stringify(found)).not.toContain("SECRET");
    for (const server of [first, second, embedding]) await server.close();
  });

  test("that one can't be reached, another has no such model, and the clock is an hour wrong", async () => {
    const late = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () =>
        Response.json(
          { error: { message: "no such model", code: "model_not_found" } },
          { status: 404, headers: { date: new Date(Date.now() + 3_600_000).toUTCString() } },
        ),
    });
    const nobody = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
    const gone = `http://127.0.0.1:${nobody.port}/v1`;
    await nobody.stop(true);
    const found = await examine([], {
      OPENAI_BASE_URL: `http://127.0.0.1:${late.port}/v1`,
      PARLEY_MODEL: "one",
      PARLEY_FALLBACK_MODELS: `two@${gone}`,
    });
    const [first, second] = found.findings.filter(({ name }) => name === "model");
    expect(first).toMatchObject({
      status: "failed",
      advice: "there is no such model, or the address is not the API's: most end in /v1",
    });
    expect(second).toMatchObject({
      status: "failed",
      detail: `two@${gone} failed: model_unreachable (ECONNREFUSED)`,
    });
    expect(findingOf(found, "clock").status).toBe("failed");
    expect(findingOf(found, "clock").detail).toMatch(/^it is (3[56]\d\d) s behind 127\.0\.0\.1:\d+'s$/);
    await late.stop(true);
  });

  test("that one doesn't answer in time", async () => {
    const model = startModelServer();
    model.silence();
    const found = await examine(["--timeout", "1"], { OPENAI_BASE_URL: model.url, PARLEY_MODEL: "slow" });
    expect(findingOf(found, "model").detail).toBe(`slow@${model.url} hasn't answered within 1 s`);
    await model.close();
  });
});

describe.skipIf(skipsNginx())("of a service behind nginx it tells", () => {
  let model: ModelServer;
  let service: Service;
  let nginx: Nginx<"plain" | "holding" | "zipping" | "renaming" | "dead" | "moved">;

  const site = (what: string) => (listen: string) => `server { listen ${listen}; location / { ${what} } }`;

  beforeAll(async () => {
    model = startModelServer();
    service = await startService({ model });
    const pass = `proxy_pass http://127.0.0.1:${service.port};`;
    nginx = await startNginx({
      plain: site(pass),
      holding: site(`${pass} proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;`),
      zipping: site(`${pass} gzip_types *; gzip_min_length 0;`),
      renaming: site(`${pass} proxy_hide_header Content-Type; add_header Content-Type text/plain;`),
      dead: site("proxy_pass http://127.0.0.1:9;"),
      moved: site("return 301 https://chat.example$request_uri;"),
    });
  });
  afterAll(async () => {
    await nginx[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
    await model.close();
  });

  /** Nothing is left of an examination: no conversation, and no turn that runs. */
  async function expectNothingLeft(): Promise<void> {
    const { body } = await service.get<{ conversations: unknown[] }>("/v1/conversations");
    expect(body.conversations).toEqual([]);
  }

  test("that the stream arrives unbuffered, from one turn, which it stops", async () => {
    model.default((scripted) => scripted.silence());
    const asked = model.requests.length;
    const found = await examine(["--url", nginx.urls.plain]);
    expect(found.exitCode).toBe(0);
    expect(findingOf(found, "service").detail).toMatch(/ is healthy, of version \S+ \(through nginx\/\S+\)$/);
    expect(findingOf(found, "stream")).toEqual({
      name: "stream",
      status: "ok",
      detail: "it arrives unbuffered: its start was here while the reply was still to be written",
    });
    for (const name of ["access", "clock", "readiness", "stream headers", "stream compression"]) {
      expect(findingOf(found, name).status).toBe("ok");
    }
    // Often it is stopped before its model is asked.
    expect(model.requests.length).toBeLessThanOrEqual(asked + 1);
    await expectNothingLeft();
  });

  test("that it is held back until the reply is written", async () => {
    model.default((scripted) => scripted.reply(["All ", "at ", "once."]));
    const found = await examine(["--url", nginx.urls.holding]);
    expect(found.exitCode).toBe(1);
    expect(findingOf(found, "stream")).toMatchObject({
      status: "failed",
      detail: "it is held back on its way: 8 times its start came only together with what follows it",
      advice: expect.stringContaining("proxy_buffering off"),
    });
    await expectNothingLeft();
  });

  test("that it is held back until there is a bufferful, though the turn still runs", async () => {
    const data = JSON.stringify({ choices: [{ index: 0, delta: { content: "word ".repeat(20_000) } }] });
    model.default((scripted) => scripted.raw([`data: ${data}\n\n`], { hang: true }));
    const found = await examine(["--url", nginx.urls.holding]);
    expect(findingOf(found, "stream")).toMatchObject({
      status: "failed",
      detail: "it is held back on its way: 8 times its start came only together with what follows it",
    });
    await expectNothingLeft();
  });

  test("that it is held back for as long as the model is silent, and stops that turn", async () => {
    model.default((scripted) => scripted.silence());
    const found = await examine(["--url", nginx.urls.holding, "--timeout", "2"]);
    expect(findingOf(found, "stream")).toMatchObject({
      status: "failed",
      detail: "it is held back on its way: its turn runs, and nothing has come for 2 s",
    });
    await model.requests.at(-1)!.closed;
    await expectNothingLeft();
  });

  test("that its model fails, where nothing came before", async () => {
    model.default((scripted) => scripted.status(401));
    const found = await examine(["--url", nginx.urls.holding]);
    expect(found.exitCode).toBe(1);
    expect(findingOf(found, "stream")).toMatchObject({
      status: "failed",
      detail: "the model failed before anything could be seen: model_rejected",
    });
    await expectNothingLeft();
  });

  test("that it is compressed, which holds nothing back here", async () => {
    model.default((scripted) => scripted.silence());
    const found = await examine(["--url", nginx.urls.zipping]);
    expect(found.exitCode).toBe(0);
    expect(findingOf(found, "stream").status).toBe("ok");
    expect(findingOf(found, "stream compression")).toMatchObject({
      status: "warning",
      detail: "it comes as gzip",
    });
  });

  test("that it comes under another type", async () => {
    model.default((scripted) => scripted.silence());
    const found = await examine(["--url", nginx.urls.renaming]);
    expect(found.exitCode).toBe(1);
    expect(findingOf(found, "stream headers")).toMatchObject({
      status: "failed",
      detail: "Content-Type is text/plain",
    });
  });

  test("that nothing is behind it, or that it sends everybody elsewhere", async () => {
    const dead = findingOf(await examine(["--url", nginx.urls.dead]), "service");
    expect(dead.status).toBe("failed");
    expect(dead.detail).toMatch(/ answers \/health with 502 \(through nginx\/\S+\)$/);
    expect(dead.advice).toStartWith("the proxy is there, and the service behind it isn't");
    const moved = findingOf(await examine(["--url", nginx.urls.moved]), "service");
    expect(moved.advice).toBe("it sends everybody elsewhere: give --url as https://chat.example");
  });
});

/** A stream, whose beginning up to its first token comes as one. */
function untilToken(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  let gathered: Uint8Array[] | null = [];
  return body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        if (gathered === null) return controller.enqueue(chunk);
        gathered.push(chunk);
        const all = Buffer.concat(gathered);
        if (!all.includes('{"token":')) return;
        gathered = null;
        controller.enqueue(all);
      },
    }),
  );
}

describe("of a service it tells", () => {
  test("that a key is needed, and takes the first of PARLEY_API_KEYS", async () => {
    const key = "a-key-for-the-doctor";
    const model = startModelServer();
    await using service = await startService({ model, env: { PARLEY_API_KEYS: key } });
    const without = await examine(["--url", service.url]);
    expect(findingOf(without, "access")).toMatchObject({
      status: "failed",
      advice: "set PARLEY_API_KEYS to one of its keys where parley doctor runs",
    });
    expect(findingOf(without, "stream").status).toBe("skipped");
    model.default((scripted) => scripted.silence());
    const found = await examine(["--url", service.url], { PARLEY_API_KEYS: key });
    expect(found.exitCode).toBe(0);
    expect(findingOf(found, "access").status).toBe("ok");
    expect(findingOf(found, "stream").status).toBe("ok");
    expect(JSON.stringify(found)).not.toContain(key);
    await model.close();
  });

  test("that what is said one after the other arrives together, though whole", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    const data = JSON.stringify({ choices: [{ index: 0, delta: { content: "word" } }] });
    model.default((scripted) => scripted.raw([`data: ${data}\n\n`], { hang: true }));
    const gathering = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch(request) {
        const { pathname, search } = new URL(request.url);
        const passed = await fetch(service.url + pathname + search, request);
        if (!pathname.endsWith("/chat/stream")) return passed;
        return new Response(untilToken(passed.body!), { headers: passed.headers });
      },
    });
    const found = await examine(["--url", `http://127.0.0.1:${gathering.port}`]);
    expect(findingOf(found, "stream").detail).toBe(
      "it is held back on its way: 8 times its start came only together with what follows it",
    );
    await gathering.stop(true);
    await model.close();
  });

  test("that streams are cut off", async () => {
    const model = startModelServer();
    await using service = await startService({ model });
    model.default((scripted) => scripted.silence());
    const cutting = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch(request) {
        const { pathname, search } = new URL(request.url);
        const passed = await fetch(service.url + pathname + search, request);
        if (!pathname.endsWith("/chat/stream")) return passed;
        const { value } = await passed.body!.getReader().read();
        return new Response(value, { headers: passed.headers });
      },
    });
    const found = await examine(["--url", `http://127.0.0.1:${cutting.port}`]);
    expect(findingOf(found, "stream")).toMatchObject({
      status: "failed",
      detail: expect.stringMatching(/^it was cut off after \d+\.\d s$/),
    });
    await cutting.stop(true);
    await model.close();
  });

  test("that nothing is there, that there is no TLS, or something else", async () => {
    const something = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () => Response.json({ status: "healthy", version: "\u001b[2J\u009b2J\nforged" }),
    });
    const at = `127.0.0.1:${something.port}`;
    const tls = findingOf(await examine(["--url", `https://${at}`]), "service");
    expect(tls.advice).toContain("use http://");
    const other = await runParley(["doctor", "--url", `http://${at}`], {
      PATH: process.env.PATH ?? "",
      PARLEY_DATA_DIR: newDirectory(),
    });
    expect(other.exitCode).toBe(1);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
    expect(other.stdout).not.toMatch(/[\0-\x09\x0b-\x1f\x7f-\x9f]|^forged/m);
    expect(other.stdout).toContain(`this program is of version ${version}`);
    await something.stop(true);
    const gone = findingOf(await examine(["--url", `http://${at}`]), "service");
    expect(gone.advice).toStartWith("nothing listens there");
  });

  test.skipIf(skipsWithout("openssl (apt-get install openssl)", programPath("openssl") !== null))(
    "that its certificate is nobody's",
    async () => {
      const directory = newDirectory();
      const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
      const made = Bun.spawnSync([
        ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
        ...["-keyout", key, "-out", cert, "-days", "1", "-subj", "/CN=localhost"],
      ]);
      expect(made.exitCode).toBe(0);
      const server = Bun.serve({
        port: 0,
        hostname: "127.0.0.1",
        tls: { key: Bun.file(key), cert: Bun.file(cert) },
        fetch: () => Response.json({ status: "healthy", version }),
      });
      const found = await examine(["--url", `https://localhost:${server.port}`]);
      expect(findingOf(found, "service").advice).toStartWith("give it a certificate of this name");
      await server.stop(true);
    },
  );
});

test("it is used wrongly with a status of 2", async () => {
  for (const args of [["--timeout", "0"], ["--timeout", "soon"], ["--url", "file:///etc/passwd"], ["now"]]) {
    const { exitCode, stderr } = await runParley(["doctor", ...args], { PATH: process.env.PATH ?? "" });
    expect({ args, exitCode }).toEqual({ args, exitCode: 2 });
    expect(stderr).toMatch(/^parley: [^\n]+\n$/);
  }
});
