/** The image: the Dockerfile's own steps, in a bare Debian, and what they make, run as `deploy/` says. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { type Container, makeDebian, run, skipsDebian, startContainer } from "../support/debian.ts";
import { readKubernetes } from "../support/deployments.ts";
import { buildImage, type Image } from "../support/dockerfile.ts";
import { programPath } from "../support/needs.ts";
import { PostgresServer } from "../support/postgres.ts";
import { shellBlocks } from "../support/readme.ts";
import { temporaryDirectory, until } from "../support/service.ts";

setDefaultTimeout(180_000);

const context = new URL("../..", import.meta.url).pathname;
const skipped = skipsDebian();

let directory: string;
let image: Image;

/** What the image of Node has beside Debian: node and npm, here this machine's. */
async function addNode(root: string): Promise<void> {
  const npm = dirname(dirname(await run(["realpath", programPath("npm")!]))).trim();
  const bin = join(root, "usr/local/bin");
  mkdirSync(bin, { recursive: true });
  cpSync(await run(["realpath", programPath("node")!]).then((path) => path.trim()), join(bin, "node"));
  cpSync(npm, join(root, "usr/local/lib/node_modules/npm"), { recursive: true });
  symlinkSync("../lib/node_modules/npm/bin/npm-cli.js", join(bin, "npm"));
}

beforeAll(async () => {
  if (skipped) return;
  directory = temporaryDirectory();
  const debian = join(directory, "debian");
  await makeDebian(debian, ["libstdc++6"]);
  const copy = (root: string): Promise<string> => run(["cp", "-a", "--reflink=auto", debian, root]);
  image = await buildImage(context, directory, {
    "node:22-bookworm-slim": async (root) => {
      await copy(root);
      await addNode(root);
    },
    "debian:bookworm-slim": async (root) => void (await copy(root)),
  });
});
afterAll(() => {
  if (!skipped) rmSync(directory, { recursive: true, force: true });
});

/** Whose the volume is, as Docker and as Kubernetes (`fsGroup`) hand it over. */
const volumes = {
  Docker: { owner: 10_001, mode: 0o700 },
  Kubernetes: { owner: 0, mode: 0o2770 },
};

/** A PostgreSQL that is reached from within a container, at 127.0.0.1:5432 there. */
async function databaseWithin() {
  const sockets = temporaryDirectory();
  // It runs as a user of its own.
  chmodSync(sockets, 0o777);
  const server = await PostgresServer.start("-c", `unix_socket_directories=${sockets}`);
  const socket = join(sockets, `.s.PGSQL.${server.port}`);
  const pipe = `
    const { connect, createServer } = require("node:net");
    createServer((client) => {
      const database = connect(${JSON.stringify(socket)});
      for (const [one, other] of [[client, database], [database, client]]) {
        one.pipe(other);
        one.on("error", () => other.destroy());
      }
    }).listen(5432, "127.0.0.1");`;
  return {
    /** What it is for those within. */
    url: Object.assign(new URL(await server.database()), { port: "5432" }).href,
    /** Waits until it is reached. */
    waits: "until ss --listening --numeric --tcp | grep -q 127.0.0.1:5432; do sleep 0.1; done",
    /** Its way into the container's network, which has nothing but loopback. */
    reach: ({ pid }: Container) =>
      Bun.spawn(["nsenter", `--target=${pid}`, "--net", "--", process.execPath, "-e", pipe], {
        stdout: "ignore",
        stderr: "inherit",
      }),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      rmSync(sockets, { recursive: true, force: true });
    },
  };
}

/** Runs the image as compose.yaml and kubernetes.yaml say: read-only but for its volume and /tmp, unprivileged. */
function startImage(env: string[], platform: keyof typeof volumes = "Docker"): Promise<Container> {
  const { owner, mode } = volumes[platform];
  const volume = join(directory, `volume-${platform}`);
  mkdirSync(volume, { recursive: true });
  chownSync(volume, owner, 10_001);
  chmodSync(volume, mode);
  return startIn(`mount --bind "${volume}" "$1${image.volumes[0]}"`, env);
}

/** @param setUp such as a mount of what may be written, beside /tmp */
function startIn(setUp: string, env: string[]): Promise<Container> {
  const all = [...Object.entries(image.env).map((pair) => pair.join("=")), ...env].map((pair) => `'${pair}'`);
  return startContainer({
    root: image.root,
    setUp: `
      ${setUp}
      mount -o remount,bind,ro "$1"
      mount -t tmpfs tmpfs "$1/tmp"`,
    command: `setpriv --no-new-privs chroot --userspec=${image.user} "$1" \
      /usr/bin/env -i --chdir=${image.workdir} ${all.join(" ")} ${[...image.entrypoint, ...image.cmd].join(" ")}`,
  });
}

const listening = (container: Container): Promise<void> =>
  until("the service listens", () => container.output.includes('"event":"listening"'));

async function chat(container: Container, env: string[], body: object): Promise<ChatResponse> {
  const { stdout, stderr } = await container.fromOutside([
    ...["curl", "-sS", "http://127.0.0.1:8000/v1/chat"],
    ...["-H", `Authorization: Bearer ${env[0]!.split("=")[1]}`],
    ...["-H", "content-type: application/json", "-d", JSON.stringify(body)],
  ]);
  expect(stderr).toBe("");
  return JSON.parse(stdout) as ChatResponse;
}

/** What the README does before and after the container is started, in a directory like the repository. */
async function readmeCommands() {
  const [, block] = await shellBlocks("Deploying");
  const [makeKey, up, curl, ...others] = block!.trim().split("\n");
  expect(up).toStartWith("docker compose -f deploy/compose.yaml up");
  expect(others).toEqual([]);
  const repository = join(directory, "repository");
  mkdirSync(join(repository, "deploy"), { recursive: true });
  return {
    inRepository: (command: string) => ["sh", "-euc", `cd ${repository} && ${command}`],
    makeKey: makeKey!,
    curl: curl!,
    keyFile: join(repository, "deploy/.env"),
  };
}

describe.skipIf(skipped)("the image", () => {
  test("holds one file more than Debian, and a directory that is its user's alone", async () => {
    expect(readdirSync(join(image.root, "usr/local/bin"))).toEqual(["parley"]);
    expect(readdirSync(image.root)).not.toContain("parley");
    const { uid, gid, mode } = statSync(join(image.root, "data"));
    expect([`${uid}:${gid}`, mode & 0o777]).toEqual([image.user, 0o700]);
    expect(image.volumes).toEqual(["/data"]);
    expect(image.user).toMatch(/^[1-9]\d*:[1-9]\d*$/);
  });

  test("starts for nobody without a key: it would listen to others", async () => {
    await using container = await startImage([]);
    const ended = await Promise.race([container.exited, listening(container).then(() => "it listens")]);
    expect(ended).toBe(1);
    expect(container.output).toContain("there is no key");
  });

  test("serves as an unprivileged user, is healthy, ends with 0 on its signal and keeps what was said", async () => {
    const { inRepository, makeKey, curl, keyFile } = await readmeCommands();
    await run(inRepository(makeKey));
    const env = readFileSync(keyFile, "utf8").trim().split("\n");
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    let conversation_id: string;
    {
      await using container = await startImage(env);
      await listening(container);
      const status = readFileSync(`/proc/${container.pid}/status`, "utf8");
      const [uid, gid] = image.user.split(":");
      expect(status).toContain(`Uid:\t${[uid, uid, uid, uid].join("\t")}\n`);
      expect(status).toContain(`Gid:\t${[gid, gid, gid, gid].join("\t")}\n`);
      expect(status).toMatch(/^CapEff:\t0+$/m);
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);

      const health = await container.exec(["env", "PATH=/usr/local/bin", ...image.healthcheck]);
      expect(health.stdout).toContain('"status":"healthy"');
      expect(health.exitCode).toBe(0);
      const refused = await container.fromOutside(["curl", "-sS", "http://127.0.0.1:8000/v1/conversations"]);
      expect(JSON.parse(refused.stdout)).toMatchObject({ status: 401 });
      const listed = await container.fromOutside(inRepository(curl));
      expect(JSON.parse(listed.stdout)).toMatchObject({ conversations: [] });

      const answer = await chat(container, env, { user_id: "ada", message: "My dog is called Bello." });
      expect(answer).toMatchObject({ status: "completed", model: "embedded" });
      ({ conversation_id } = answer);
      container.signal(image.stopSignal as NodeJS.Signals);
      expect(await container.exited).toBe(0);
      expect(container.output).toContain('"event":"stopped"');
      expect(container.output).not.toContain('"level":"error"');
    }
    await using again = await startImage(env);
    await listening(again);
    const request = { user_id: "ada", message: "What is my dog called?", conversation_id };
    expect((await chat(again, env, request)).response).toContain("Bello");
  });

  test("keeps its data on a volume of Kubernetes', which is root's and its group's, out of others' sight", async () => {
    const env = ["PARLEY_API_KEYS=a-key-of-this-test"];
    await using container = await startImage(env, "Kubernetes");
    await listening(container);
    expect((await chat(container, env, { user_id: "ada", message: "Hello" })).status).toBe("completed");
    const volume = join(directory, "volume-Kubernetes");
    const modes = readdirSync(volume).map((name) => statSync(join(volume, name)).mode & 0o077);
    expect(modes.length).toBeGreaterThan(1);
    expect(modes.every((mode) => mode === 0)).toBe(true);
  });

  test("needs no volume where its data is in PostgreSQL: several run on a root that nobody can write to", async () => {
    await using database = await databaseWithin();
    const env = ["PARLEY_API_KEYS=a-key-of-this-test", `DATABASE_URL=${database.url}`];
    await using container = await startIn(database.waits, env);
    const pipe = database.reach(container);
    await listening(container);
    const answer = await chat(container, env, { user_id: "ada", message: "My dog is called Bello." });
    expect(answer).toMatchObject({ status: "completed", model: "embedded" });
    const written = await container.exec(["sh", "-c", "ls -A /data /tmp; touch /data/probe 2>&1 || true"]);
    expect(written.stdout).toBe(
      "/data:\n\n/tmp:\ntouch: cannot touch '/data/probe': Read-only file system\n",
    );
    container.signal(image.stopSignal as NodeJS.Signals);
    expect(await container.exited).toBe(0);
    pipe.kill();

    await using again = await startIn(database.waits, env);
    const other = database.reach(again);
    await listening(again);
    const { conversation_id } = answer;
    const question = { user_id: "ada", message: "What is my dog called?", conversation_id };
    expect((await chat(again, env, question)).response).toContain("Bello");
    other.kill();
  });

  test("stops as Kubernetes wants it: it has what preStop runs", async () => {
    const { container } = await readKubernetes();
    const [program] = container.lifecycle!.preStop!.exec!.command!;
    await run(["chroot", image.root, program!, "0"]);
  });
});
